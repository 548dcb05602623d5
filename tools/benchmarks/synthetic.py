"""Measures how fast SynthPS is planned and drawn, in one process with one thread.

    python tools/benchmarks/synthetic.py [--scenes 100] [--height 256] [--width 448]

Drawing includes encoding and writing the JPEG files. Prints a table: scenes per second of wall-clock and of CPU time, then
the seconds that it takes to plan each size.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2

from mmps.evaluation.tables import markdown_table
from mmps.synthetic import SIZES, STYLES, Size, Studio, plan
from mmps.synthetic.scene import render_jpeg


def time_drawing(style: str, num_scenes: int, height: int, width: int) -> list[str]:
    """Returns a row of the table: what was measured, wall-clock and CPU figures."""
    size = Size('benchmark', height, width, num_scenes, 20, 10, 5, (2, 5), 6, 5)
    planned = plan('cuhk-sysu', size, style=style)
    studio = Studio(size, planned.seed, style)
    scenes = planned.scenes[:num_scenes]
    with tempfile.TemporaryDirectory() as folder:
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        for scene in scenes:
            (Path(folder) / scene.name).write_bytes(render_jpeg(scene, studio))
        wall, cpu = time.perf_counter() - wall_start, time.process_time() - cpu_start
    people = sum(len(scene.persons) for scene in scenes) / num_scenes
    what = f'draw {style}, {height} x {width}, {people:.1f} people per scene'
    return [what, f'{num_scenes / wall:.1f} scenes/s', f'{num_scenes / cpu:.1f} scenes/s']


def time_planning(name: str) -> list[str]:
    """Returns a row of the table: what was measured, wall-clock and CPU seconds."""
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    plan('cuhk-sysu', name)
    return [f'plan {name}', f'{time.perf_counter() - wall_start:.2f} s', f'{time.process_time() - cpu_start:.2f} s']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scenes', type=int, default=100, help='scenes to draw (%(default)s)')
    parser.add_argument('--height', type=int, default=256, help='of a scene, in pixels (%(default)s)')
    parser.add_argument('--width', type=int, default=448, help='of a scene, in pixels (%(default)s)')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows = [time_drawing(style, args.scenes, args.height, args.width) for style in STYLES]
    rows += map(time_planning, SIZES)
    print(markdown_table(['', 'wall clock', 'CPU'], rows))


if __name__ == '__main__':
    main()
