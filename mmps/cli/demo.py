"""Distils a small model on drawn scenes and prints a table of scores.

It draws SynthPS mini, then trains and tests a teacher, a student and the student under GDPS.
"""

import argparse
from pathlib import Path

from mmps.benchmark.demo import demo

from .run import packaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=1, help='train both students with this many seeds')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument('--data-root', type=Path, default=Path('data/synthps-mini'))
    args = parser.parse_args()
    if args.seeds < 1:
        raise ValueError(f'--seeds: expected 1 or more, got {args.seeds}')
    demo(packaged('configs'), packaged('tools'), args.work_dir, args.data_root, args.seeds)
