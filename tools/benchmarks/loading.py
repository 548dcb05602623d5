"""Times the first and the cached load of full-size CUHK-SYSU and PRW annotations, made up but in the real nesting.

    python tools/benchmarks/loading.py [--images] [--galleries 500 4000]

No image is needed; ``--images`` also writes (tiny) ones, so that reading their headers is counted. ``--galleries`` adds
CUHK-SYSU's protocols of these sizes. Each load has a process of its own, whose peak memory is given (the imports alone
take most of it).
"""

import argparse
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from mmps.datasets import CUHKSYSU, PRW
from mmps.synthetic import mat5

DATASETS = {'CUHKSYSU': CUHKSYSU, 'PRW': PRW}


def cell(values: list) -> np.ndarray:
    """(n, 1) MATLAB cell array."""
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


def struct(rows: list[tuple], *fields: str) -> np.ndarray:
    """(1, n) MATLAB struct array."""
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    array[0] = rows
    return array


def write_cuhk_sysu(
    root: Path,
    rng: np.random.Generator,
    num_images: int = 18184,
    num_boxes: int = 96143,
    num_test: int = 6978,
    num_identities: int = 5532,
    num_queries: int = 2900,
    gallery_sizes: Sequence[int] = (100,),
) -> list[str]:
    """Returns the images' names, below the root."""
    (root / 'annotation/test/train_test').mkdir(parents=True)
    names = [f's{i + 1}.jpg' for i in range(num_images)]
    counts = np.full(num_images, num_boxes // num_images)
    counts[: num_boxes - counts.sum()] += 1
    boxes = [rng.integers(1, 250, (count, 4)).astype(np.uint16) for count in counts]
    savemat(
        root / 'annotation/Images.mat',
        {
            'Img': struct(
                [
                    (name, len(rows), struct([(row[None], np.uint8(0)) for row in rows], 'idlocate', 'ishard'))
                    for name, rows in zip(names, boxes, strict=True)
                ],
                'imname',
                'nAppear',
                'box',
            )
        },
        do_compression=True,
    )
    test, train = np.arange(num_test), np.arange(num_test, num_images)
    savemat(root / 'annotation/pool.mat', {'pool': cell([names[i] for i in test])}, do_compression=True)

    def appearances(images):
        return [(names[i], boxes[i][:1], np.uint8(0)) for i in images]

    savemat(
        root / 'annotation/test/train_test/Train.mat',
        {
            'Train': cell(
                [
                    struct(
                        [(f'p{i}', 3, struct(appearances(rng.choice(train, 3)), 'imname', 'idlocate', 'ishard'))],
                        'idname',
                        'nAppear',
                        'scene',
                    )
                    for i in range(num_identities)
                ]
            )
        },
        do_compression=True,
    )
    queries = rng.choice(test, num_queries, replace=False)
    for size in gallery_sizes:
        write_protocol(root / f'annotation/test/train_test/TestG{size}.mat', rng, names[:num_test], boxes, queries, size)
    return [f'Image/SSM/{name}' for name in names]


def write_protocol(
    path: Path, rng: np.random.Generator, names: list[str], boxes: list[np.ndarray], queries: np.ndarray, gallery_size: int
) -> None:
    """Through the encoder that lists an encoded image again for nothing: ``TestG4000.mat`` has 11.6 million entries."""
    fields, not_hard = ('imname', 'idlocate', 'ishard'), mat5.numbers([[0]])
    blank = [mat5.record(mat5.text(name), mat5.empty(), mat5.empty()) for name in names]
    rows = []
    for i, query in enumerate(queries):
        found, *others = rng.permutation(np.delete(np.arange(len(names)), query))[:gallery_size].tolist()
        sought, target = [[*mat5.text(names[image]), *mat5.numbers(boxes[image][:1]), *not_hard] for image in (query, found)]
        rows.append(
            [
                *mat5.struct((*fields, 'idname'), [[*sought, *mat5.text(f'p{i}')]]),
                *mat5.struct(fields, [target, *(blank[image] for image in others)]),
            ]
        )
    mat5.save(path, mat5.struct(('Query', 'Gallery'), rows, path.stem))


def write_prw(
    root: Path, rng: np.random.Generator, num_train: int = 5704, num_test: int = 6112, num_queries: int = 2057
) -> list[str]:
    """Returns the images' names, below the root."""
    (root / 'annotations').mkdir(parents=True)
    frames = [f'c{i % 6 + 1}s1_{i:06d}' for i in range(num_train + num_test)]
    for frame in frames:
        rows = rng.integers(1, 900, (4, 5)).astype(float)
        savemat(root / f'annotations/{frame}.jpg.mat', {'box_new': rows})
    savemat(root / 'frame_train.mat', {'img_index_train': cell(frames[:num_train])})
    savemat(root / 'frame_test.mat', {'img_index_test': cell(frames[num_train:])})
    (root / 'query_info.txt').write_text(
        ''.join(f'{i % 400 + 1} 10 20 60 150 {frames[num_train + i]}\n' for i in range(num_queries))
    )
    return [f'frames/{frame}.jpg' for frame in frames]


def load(name: str, root: str, test_mode: bool, search: str | None) -> str:
    """What a load, or that of a search once its data set is there, takes; to be called in a new process."""
    if search is None:
        seconds, processor = -time.perf_counter(), -time.process_time()
        DATASETS[name](data_root=root, test_mode=test_mode)
    else:
        loaded = DATASETS[name](data_root=root, test_mode=test_mode)
        seconds, processor = -time.perf_counter(), -time.process_time()
        loaded.search(search)
    seconds, processor = seconds + time.perf_counter(), processor + time.process_time()
    peak = int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) / 1024
    return f'{seconds:6.2f} s (CPU {processor:.2f}, {peak:.0f} MiB)'


def report(pool, name: str, root: Path, test_mode: bool, search: str | None = None) -> None:
    first, cached = (pool.apply(load, (name, str(root), test_mode, search)) for _ in range(2))
    print(f'{name + " " + (search or ("test" if test_mode else "train")):<22} first {first}, cached {cached}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', action='store_true', help='write an image for every name')
    parser.add_argument('--galleries', type=int, nargs='+', default=[], help='sizes of galleries to load as well')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ['MMPS_CACHE'] = f'{folder}/cache'
        roots = {name: Path(folder) / name for name in DATASETS}
        names = {
            'CUHKSYSU': write_cuhk_sysu(roots['CUHKSYSU'], np.random.default_rng(0), gallery_sizes=(100, *arguments.galleries)),
            'PRW': write_prw(roots['PRW'], np.random.default_rng(0)),
        }
        if arguments.images:
            for name, root in roots.items():
                (root / names[name][0]).parent.mkdir(parents=True)
                for image in names[name]:
                    Image.new('RGB', (48, 32)).save(root / image)
        with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
            for name, root in roots.items():
                for test_mode in (False, True):
                    report(pool, name, root, test_mode)
            for size in arguments.galleries:
                report(pool, 'CUHKSYSU', roots['CUHKSYSU'], True, f'gallery {size}')


if __name__ == '__main__':
    main()
