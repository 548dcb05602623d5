"""Checks mmps on the GPUs of this machine, and writes a report to send back (make gpu-check).

    python tools/benchmarks/gpu_check.py [--out gpu-check.md] [--minutes 20]

Detectors' outputs against the CPU's, a step of every published config in three types with time and memory, losses that must
not wait for the GPU, ranks with NCCL against one process, and a resumed training. Exits with status 1 if a check failed.
With --dry it runs on the CPU, on tiny networks and images: then the report says nothing about GPUs.
"""

import argparse
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import torch

from mmps.cli.run import packaged
from mmps.gpu import gpu_check

DETECTORS = (
    'oim/oim_r50-fpn_20e_cuhk-sysu',
    'nae/nae_r50-c4_20e_cuhk-sysu',
    'seqnet/seqnet_r50-c4_20e_cuhk-sysu',
    'alignps/alignps_r50_24e_cuhk-sysu',
    'alignps/alignps_r50-dcn_24e_cuhk-sysu',
)
SMALL = ('oim/oim_r18-w8-fpn_10e_synthps-mini', 'alignps/alignps_r18-w8_10e_synthps-mini')


def published(configs: Path) -> list[Path]:
    """Returns the published configs: detectors first, those for CUHK-SYSU before the others, which differ in the data only."""
    files = [path for path in configs.glob('[!_]*/*.py') if 'synthps' not in path.stem]
    plain = {'oim', 'nae', 'seqnet', 'alignps', 'qeeps', 'reid'}
    return sorted(files, key=lambda path: (path.parent.name not in plain, 'cuhk' not in path.stem, path.stem))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('gpu-check.md'))
    parser.add_argument('--minutes', type=float, default=20, help='when no further config is started (default: %(default)s)')
    parser.add_argument('--dry', action='store_true', help='on the CPU, with tiny networks and images')
    args = parser.parse_args()
    if not args.dry and not torch.cuda.is_available():
        sys.exit('error: there is no GPU that torch can use: --dry runs the checks on the CPU')
    device = torch.device('cpu' if args.dry else 'cuda')
    configs = packaged('configs')
    small, detectors = ([configs / f'{name}.py' for name in names] for names in (SMALL, SMALL if args.dry else DETECTORS))
    size = (64, 96) if args.dry else (448, 736)
    # The steps come last: they take the time that is left.
    steps = partial(gpu_check.published_steps, device, until=time.monotonic() + 60 * args.minutes)
    checks = {
        'Machine': partial(gpu_check.machine, device),
        'Outputs, largest difference from the CPU relative to the largest value': partial(
            gpu_check.same_outputs, device, detectors, size
        ),
        'Parts that never wait for the device': partial(gpu_check.no_waits, device),
        'Waits in a step of four images': partial(gpu_check.count_waits, device, detectors, size),
        'Ranks': partial(gpu_check.many_ranks, device),
        'Resumed': partial(gpu_check.resumed, device, small[0], (64, 96)),
        'Steps': partial(steps, small, batch=2, size=size) if args.dry else partial(steps, published(configs)),
    }
    failed = []
    with open(args.out, 'w') as report:
        report.write(f'# GPU check{", dry: nothing here is about a GPU" if args.dry else ""}\n')
        for title, check in checks.items():
            start = time.monotonic()
            try:
                text = check()
            except Exception as error:  # the other checks still say something; the status tells that one failed
                failed.append(title)
                details = str(error) if isinstance(error, gpu_check.CheckFailed) else f'```\n{traceback.format_exc()}```'
                text = f'**Failed**\n\n{details}'
            report.write(f'\n## {title}\n\n{text}\n\n({time.monotonic() - start:.0f} s)\n')
            report.flush()
            print(f'{title}: {"failed" if title in failed else "done"}', flush=True)
    print(args.out)
    if failed:
        sys.exit(f'error: failed: {"; ".join(failed)}: see {args.out}')


if __name__ == '__main__':
    main()
