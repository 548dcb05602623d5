#!/usr/bin/env python
"""Draws SynthPS mini, trains a teacher, a student and the student under GDPS, tests them and prints one table."""

import argparse
from pathlib import Path

from mmps.benchmark.demo import demo
from mmps.cli import run_tool

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=1, help='train both students with this many seeds')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument('--data-root', type=Path, default=Path('data/synthps-mini'))
    args = parser.parse_args()
    if args.seeds < 1:
        raise ValueError(f'--seeds: expected 1 or more, got {args.seeds}')
    demo(ROOT / 'configs', ROOT / 'tools', args.work_dir, args.data_root, args.seeds)


if __name__ == '__main__':
    run_tool(main)
