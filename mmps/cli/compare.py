"""Compares finished trainings: a table of their last validations, and charts."""

import argparse
from pathlib import Path

from mmps.benchmark.logs import losses, validations
from mmps.evaluation.tables import markdown_table
from mmps.visualization import draw_learning, draw_losses, write_picture

SCORES = {'mAP': 'mAP', 'top-1': 'top-1', 'det AP': 'det_AP', 'det recall': 'det_recall'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', metavar='NAME=WORK_DIR', help='a training, and what to call it')
    parser.add_argument('--out', type=Path, help='folder for learning.png and losses.png')
    args = parser.parse_args()
    runs = dict(named(run) for run in args.runs)
    found = {name: validations(folder) for name, folder in runs.items()}
    rows = [
        [name, *(f'{each[-1][1][key] * 100:.1f}' for key in SCORES.values()), f'{each[-1][0]:.1f}']
        for name, each in found.items()
    ]
    print(markdown_table(['', *SCORES, 'minutes'], rows))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        curves = {
            label: {name: [(minutes, scores[key]) for minutes, scores in each] for name, each in found.items()}
            for label, key in SCORES.items()
        }
        write_picture(args.out / 'learning.png', draw_learning(curves))
        write_picture(args.out / 'losses.png', draw_losses({name: losses(folder) for name, folder in runs.items()}))
        print(f'{args.out}: learning.png and losses.png')


def named(run: str) -> tuple[str, Path]:
    name, found, folder = run.rpartition('=')
    return (name if found else Path(folder).name), Path(folder)
