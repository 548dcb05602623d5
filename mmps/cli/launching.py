"""Starting ranks where MMEngine's launchers do not: under Open MPI, and without an accelerator."""

import os
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.utils import digit_version

from mmps.compat.upstream import MMENGINE


def launch_by_mpi() -> None:
    """mmengine 0.10.7, launcher ``mpi``: it never says which of a machine's devices is a rank's, so all would be the first.

    Open MPI's variables are handed on as those that torch reads; on one machine that machine is the master.

    Raises:
        ValueError: The process was not started by Open MPI's ``mpirun``, or by one on several machines without MASTER_ADDR.
    """
    ranks = {name: os.environ.get(f'OMPI_COMM_WORLD_{name}') for name in ('RANK', 'SIZE', 'LOCAL_RANK', 'LOCAL_SIZE')}
    if None in ranks.values():
        raise ValueError("--launcher mpi: OMPI_COMM_WORLD_RANK and the like are not set: start it with Open MPI's mpirun")
    if ranks['SIZE'] == ranks['LOCAL_SIZE']:
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    elif 'MASTER_ADDR' not in os.environ:
        raise ValueError('--launcher mpi: several machines need MASTER_ADDR, the address of rank 0: mpirun -x MASTER_ADDR=...')
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ.update(RANK=ranks['RANK'], WORLD_SIZE=ranks['SIZE'], LOCAL_RANK=ranks['LOCAL_RANK'])


def launch_on_cpu(cfg: Config) -> None:
    """mmengine 0.10.7, launchers ``pytorch`` and ``mpi``, no accelerator: it asks CUDA for a device whatever the backend is.

    The gloo group is made here, and the model is wrapped without a device. A rank waits for another as long as NCCL does, ten
    minutes, or ``env_cfg.dist_cfg.timeout`` seconds; gloo's own patience is half an hour.
    """
    if digit_version('0.10.7') >= MMENGINE and cfg.get('launcher') in ('pytorch', 'mpi') and get_device() == 'cpu':
        if not torch.distributed.is_initialized():
            patience = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 600)
            torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=patience))
        unused = cfg.get('find_unused_parameters', False)
        wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=unused)
        cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}
