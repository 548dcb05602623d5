"""How fast SynthPS is drawn, JPEG files included, in one process with one thread.

python tools/benchmarks/synthetic.py
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2

from mmps.synthetic import SIZES, Size, Studio, plan, render_scene
from mmps.synthetic.scene import encode


def main():
    parser = argparse.ArgumentParser(description='Scenes a second of SynthPS on one core.')
    parser.add_argument('--scenes', type=int, default=100)
    parser.add_argument('--height', type=int, default=256)
    parser.add_argument('--width', type=int, default=448)
    args = parser.parse_args()
    cv2.setNumThreads(1)

    size = Size('benchmark', args.height, args.width, args.scenes, 20, 10, 5, (2, 5), 3, 5)
    planned = plan('prw', size)
    studio = Studio(size, planned.seed)
    with tempfile.TemporaryDirectory() as folder:
        wall, core = time.perf_counter(), time.process_time()
        for scene in planned.scenes[: args.scenes]:
            camera = studio.get(scene.camera)[0]
            (Path(folder) / scene.name).write_bytes(encode(render_scene(scene, studio), camera))
        wall, core = time.perf_counter() - wall, time.process_time() - core
    people = sum(len(scene.persons) for scene in planned.scenes[: args.scenes])
    print(
        f'{args.height} x {args.width}, {people / args.scenes:.1f} people a scene: {args.scenes / wall:.1f} scenes/s '
        f'({args.scenes / core:.1f} a second of processor time)'
    )

    for name in SIZES:
        start = time.perf_counter()
        plan('cuhk-sysu', name)
        print(f'plan {name}: {time.perf_counter() - start:.2f} s')


if __name__ == '__main__':
    main()
