#!/usr/bin/env bash
# Trains on several GPUs: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment, on each.
# MAX_RESTARTS=N, on one machine: when a rank dies, all start again, up to N times; with --resume, from the last checkpoint.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
if [ "${MAX_RESTARTS:-0}" -gt 0 ] && [ "${NNODES:-1}" -gt 1 ]; then
    echo "error: MAX_RESTARTS is for one machine; on several, start the job again with --resume" >&2
    exit 2
fi
meeting=(--node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
if [ "${MAX_RESTARTS:-0}" -gt 0 ]; then
    # torchrun's ranks meet in a store that outlives a restart, and may find a dead rank's address there: each start its own.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    meeting=(--rdzv_backend=c10d --rdzv_endpoint="127.0.0.1:${PORT:-29500}" --local_addr=127.0.0.1)
fi
exec python -m torch.distributed.run --nnodes="${NNODES:-1}" "${meeting[@]}" --nproc_per_node="$gpus" \
    --max_restarts="${MAX_RESTARTS:-0}" "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
