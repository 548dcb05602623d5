"""Times the published training pipelines: images a second and core, and where the time goes.

    python tools/benchmarks/input.py [CONFIG ...] [--images 8] [--repeats 5]

Scenes of 1080 x 1920 pixels (PRW's) and of 600 x 800 are drawn by SynthPS, saved as JPEG of quality 95, and go through the
training pipeline of each config in one thread. Prints a table of milliseconds of an image by transform, medians, and the
images a second.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmps.cli.run import packaged
from mmps.evaluation.tables import markdown_table
from mmps.registry import TRANSFORMS

CONFIGS = ('oim/oim_r50-fpn_20e_cuhk-sysu', 'alignps/alignps_r50_24e_cuhk-sysu', 'oim/oim_r50-fpn_20e_prw')
SIZES = ((1080, 1920), (600, 800))


def draw(path: Path, size: tuple[int, int], seed: int) -> None:
    """Writes a picture with edges and textures, so that it decodes as a photograph does: about 0.3 bytes a pixel."""
    generator = np.random.default_rng(seed)
    height, width = size
    picture = cv2.resize(generator.integers(0, 256, (height // 40, width // 40, 3), np.uint8), (width, height))
    picture = cv2.add(picture, generator.normal(0, 4, picture.shape).astype(np.int8), dtype=cv2.CV_8U)
    for _ in range(60):
        corner = generator.integers(0, (width, height))
        colour = tuple(map(int, generator.integers(0, 256, 3)))
        cv2.rectangle(picture, corner, corner + generator.integers(10, 200, 2), colour, -1)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])


def results_of(path: Path, size: tuple[int, int], persons: int = 6) -> dict:
    """Returns what a data set gives a pipeline."""
    instances = [
        dict(bbox=[20.0 * i, 10.0, 20.0 * i + 60, 200.0], bbox_label=0, ignore_flag=0, person_id=i) for i in range(persons)
    ]
    return dict(img_path=str(path), img_id=0, height=size[0], width=size[1], instances=instances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', type=Path)
    parser.add_argument('--images', type=int, default=8)
    parser.add_argument('--repeats', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder, DefaultScope.overwrite_default_scope('mmps'):
        for size in SIZES:
            files = [Path(folder) / f'{size[0]}-{index}.jpg' for index in range(args.images)]
            for index, file in enumerate(files):
                draw(file, size, index)
            for config in args.configs or [packaged('configs') / f'{name}.py' for name in CONFIGS]:
                pipeline = [TRANSFORMS.build(each) for each in Config.fromfile(config).train_dataloader.dataset.pipeline]
                times: dict[str, list[float]] = {type(each).__name__: [] for each in pipeline}
                for file in files * args.repeats:
                    results = results_of(file, size)
                    for transform in pipeline:
                        start = time.perf_counter()
                        results = transform(results)
                        times[type(transform).__name__].append(1000 * (time.perf_counter() - start))
                total = sum(map(median, times.values()))
                parts = ', '.join(f'{name} {median(each):.1f}' for name, each in times.items())
                rows.append([f'{size[0]} x {size[1]}', config.stem, parts, f'{total:.1f}', f'{1000 / total:.1f}'])
    print(markdown_table(['scene', 'config', 'ms by transform', 'ms', 'images a second'], rows))


if __name__ == '__main__':
    main()
