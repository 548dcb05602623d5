"""Times the first and the cached load of CUHK-SYSU and PRW annotations of the real size and nesting, written by SynthPS.

    python tools/benchmarks/loading.py [--images] [--galleries 500 4000]

No image is needed. ``--images`` also writes tiny ones, so that the time to read their headers counts. ``--galleries`` adds
CUHK-SYSU's protocols of these sizes. Each load has a process of its own. Prints a table with the load's wall-clock seconds,
CPU seconds and peak memory, most of which is taken by the imports.
"""

import argparse
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path

from PIL import Image

from mmps.datasets import CUHKSYSU, PRW
from mmps.evaluation.tables import markdown_table
from mmps.synthetic import SIZES, Plan, Size, plan, write_annotations
from mmps.synthetic.layouts import image_path

DATASETS = {'CUHKSYSU': CUHKSYSU, 'PRW': PRW}
# Counts of the real data sets.
PLANS = {
    'CUHKSYSU': ('cuhk-sysu', SIZES['full']),
    'PRW': ('prw', Size('prw', 600, 800, 5704, 6112, 482, 450, (3, 5), 6, 2057)),
}


def load(name: str, root: str, test_mode: bool, search: str | None) -> tuple[float, float, float]:
    """Loads a data set or, if ``search`` is given, loads it untimed and then that search. Needs a new process.

    Returns:
        Wall-clock seconds, CPU seconds and the process's peak memory in MiB.
    """
    call: Callable[[], object] = partial(DATASETS[name], data_root=root, test_mode=test_mode)
    if search is not None:
        call = partial(DATASETS[name](data_root=root, test_mode=test_mode).search, search)
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    call()
    wall, cpu = time.perf_counter() - wall_start, time.process_time() - cpu_start
    (peak,) = re.findall(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())
    return wall, cpu, int(peak) / 1024


def time_load(pool: Pool, name: str, root: Path, test_mode: bool, search: str | None = None) -> list[list[str]]:
    """Returns two rows of the table, for the first and for the cached load."""
    rows = []
    for when in ('first', 'cached'):
        wall, cpu, peak = pool.apply(load, (name, str(root), test_mode, search))
        what = f'{name} {search or ("test" if test_mode else "train")}'
        rows.append([what, when, f'{wall:.2f}', f'{cpu:.2f}', f'{peak:.0f}'])
    return rows


def write_images(planned: Plan, root: Path) -> None:
    paths = [root / image_path(planned.layout, scene.name) for scene in planned.scenes]
    paths[0].parent.mkdir(parents=True)
    for path in paths:
        Image.new('RGB', (48, 32)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', action='store_true', help='write an image for every name')
    parser.add_argument('--galleries', type=int, nargs='+', default=[], help='sizes of galleries to load as well')
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ['MMPS_CACHE'] = f'{folder}/cache'
        roots = {name: Path(folder) / name for name in DATASETS}
        for name, (layout, size) in PLANS.items():
            planned = plan(layout, size, style='classic')
            options = {'gallery_sizes': (100, *args.galleries)} if layout == 'cuhk-sysu' else {}
            write_annotations(planned, roots[name], **options)
            if args.images:
                write_images(planned, roots[name])
        with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
            for name, root in roots.items():
                for test_mode in (False, True):
                    rows += time_load(pool, name, root, test_mode)
            for gallery_size in args.galleries:
                rows += time_load(pool, 'CUHKSYSU', roots['CUHKSYSU'], True, f'gallery {gallery_size}')
    print(markdown_table(['what', 'load', 'seconds', 'CPU seconds', 'peak MiB'], rows))


if __name__ == '__main__':
    main()
