"""Times the first and the cached load of full-size CUHK-SYSU and PRW annotations, made up but in the real nesting.

    python tools/benchmarks/loading.py [--images]

No image is needed; ``--images`` also writes (tiny) ones, so that reading their headers is counted.
"""
import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from mmps.datasets import CUHKSYSU, PRW


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


def write_cuhk_sysu(root: Path, rng: np.random.Generator, num_images: int = 18184, num_boxes: int = 96143,
                    num_test: int = 6978, num_persons: int = 5532, num_queries: int = 2900,
                    gallery_size: int = 100) -> list[str]:
    """Returns the images' names, below the root."""
    (root / 'annotation/test/train_test').mkdir(parents=True)
    names = [f's{i + 1}.jpg' for i in range(num_images)]
    counts = np.full(num_images, num_boxes // num_images)
    counts[:num_boxes - counts.sum()] += 1
    boxes = [rng.integers(1, 250, (count, 4)).astype(np.uint16) for count in counts]
    savemat(root / 'annotation/Images.mat', {'Img': struct(
        [(name, len(rows), struct([(row[None], np.uint8(0)) for row in rows], 'idlocate', 'ishard'))
         for name, rows in zip(names, boxes, strict=True)], 'imname', 'nAppear', 'box')}, do_compression=True)
    test, train = np.arange(num_test), np.arange(num_test, num_images)
    savemat(root / 'annotation/pool.mat', {'pool': cell([names[i] for i in test])}, do_compression=True)

    def appearances(images):
        return [(names[i], boxes[i][:1], np.uint8(0)) for i in images]

    savemat(root / 'annotation/test/train_test/Train.mat', {'Train': cell([
        struct([(f'p{i}', 3, struct(appearances(rng.choice(train, 3)), 'imname', 'idlocate', 'ishard'))],
               'idname', 'nAppear', 'scene') for i in range(num_persons)])}, do_compression=True)
    rows = []
    for i in range(num_queries):
        query, *gallery = rng.choice(test, gallery_size + 1, replace=False)
        nothing = np.zeros((1, 0))
        rows.append((struct([(*appearances([query])[0], f'p{i}')], 'imname', 'idlocate', 'ishard', 'idname'),
                     struct([*appearances(gallery[:2]), *((names[g], nothing, nothing) for g in gallery[2:])],
                            'imname', 'idlocate', 'ishard')))
    key = f'TestG{gallery_size}'
    savemat(root / f'annotation/test/train_test/{key}.mat', {key: struct(rows, 'Query', 'Gallery')},
            do_compression=True)
    return [f'Image/SSM/{name}' for name in names]


def write_prw(root: Path, rng: np.random.Generator, num_train: int = 5704, num_test: int = 6112,
              num_queries: int = 2057) -> list[str]:
    """Returns the images' names, below the root."""
    (root / 'annotations').mkdir(parents=True)
    frames = [f'c{i % 6 + 1}s1_{i:06d}' for i in range(num_train + num_test)]
    for frame in frames:
        rows = rng.integers(1, 900, (4, 5)).astype(float)
        savemat(root / f'annotations/{frame}.jpg.mat', {'box_new': rows})
    savemat(root / 'frame_train.mat', {'img_index_train': cell(frames[:num_train])})
    savemat(root / 'frame_test.mat', {'img_index_test': cell(frames[num_train:])})
    (root / 'query_info.txt').write_text(''.join(
        f'{i % 400 + 1} 10 20 60 150 {frames[num_train + i]}\n' for i in range(num_queries)))
    return [f'frames/{frame}.jpg' for frame in frames]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', action='store_true', help='write an image for every name')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ['MMPS_CACHE'] = f'{folder}/cache'
        for dataset, write in ((CUHKSYSU, write_cuhk_sysu), (PRW, write_prw)):
            root = Path(folder) / dataset.__name__
            names = write(root, np.random.default_rng(0))
            if arguments.images:
                (root / names[0]).parent.mkdir(parents=True)
                for name in names:
                    Image.new('RGB', (48, 32)).save(root / name)
            for test_mode in (False, True):
                times = []
                for _ in range(2):
                    wall, processor = time.perf_counter(), time.process_time()
                    loaded = dataset(data_root=str(root), test_mode=test_mode)
                    times.append((time.perf_counter() - wall, time.process_time() - processor))
                (first, first_cpu), (cached, cached_cpu) = times
                print(f'{dataset.__name__} {"test" if test_mode else "train"}: {len(loaded)} images, first {first:.2f} s '
                      f'(CPU {first_cpu:.2f}), cached {cached:.2f} s (CPU {cached_cpu:.2f})')


if __name__ == '__main__':
    main()
