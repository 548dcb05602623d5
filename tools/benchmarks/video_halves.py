"""Indexes the first half of videos whose people are known, and searches for the people of the second half.

    python tools/benchmarks/video_halves.py DATA_ROOT [--model CONFIG] [--weights CHECKPOINT] [--height PIXELS]

DATA_ROOT is a MOTChallenge folder. Each annotated person of a second half who is also in the first half is a query, by the
annotated box. A match is right if its box is that person's (IoU of at least 0.5). Prints how many best matches are right, and
the R-precision: where a person is in n frames of the first half, how many of the n best matches are right.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mmps.apis import PersonSearchInferencer
from mmps.cli import run_tool
from mmps.datasets import MOTChallenge
from mmps.evaluation.boxes import box_iou
from mmps.evaluation.tables import markdown_table

IOU = 0.5


def read_halves(root: str) -> list[list[dict[str, Any]]]:
    """Returns the frames of all first halves and those of all second halves: ``img_path`` and ``instances``."""
    dataset = MOTChallenge(data_root=root, train_fraction=1.0)
    frames = [dataset.get_data_info(number) for number in range(len(dataset))]
    halves: list[list[dict[str, Any]]] = [[], []]
    for _, group in groupby(frames, lambda frame: Path(frame['img_path']).parent):
        part = list(group)
        halves[0] += part[: len(part) // 2]
        halves[1] += part[len(part) // 2 :]
    return halves


def persons_of(frame: Mapping[str, Any]) -> dict[int, list[float]]:
    """Returns the box of each labelled person of a frame, as x1 y1 x2 y2."""
    return {each['person_id']: each['bbox'] for each in frame['instances'] if each['person_id'] >= 0}


def owner(box: Sequence[float], persons: Mapping[int, Sequence[float]]) -> int | None:
    """Returns whose box (x, y, width, height) it is, of annotated persons; None for nobody's."""
    x, y, width, height = box
    overlaps = box_iou(np.array([x, y, x + width, y + height]), np.array(list(persons.values())).reshape(-1, 4))
    return list(persons)[int(overlaps.argmax())] if overlaps.max(initial=0) >= IOU else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', help='a MOTChallenge folder')
    parser.add_argument('--model', default='real', help='as in mmps index (%(default)s)')
    parser.add_argument('--weights', help='its checkpoint')
    parser.add_argument('--height', type=int, help='shorter side of the images for the model')
    args = parser.parse_args()
    first, second = read_halves(args.data_root)
    persons = {frame['img_path']: persons_of(frame) for frame in first}
    counts = Counter(number for each in persons.values() for number in each)
    with tempfile.TemporaryDirectory() as folder:
        search = PersonSearchInferencer(args.model, args.weights, gallery=f'{folder}/gallery.db', height=args.height)
        search.index(list(persons))
        best, among = [], []
        for frame in second:
            sought = {number: box for number, box in persons_of(frame).items() if number in counts}
            boxes = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in sought.values()]
            predictions = search(frame['img_path'], boxes, topk=max(counts.values()))['predictions']
            for number, prediction in zip(sought, predictions, strict=True):
                owners = [owner(match['bbox'], persons[match['source']]) for match in prediction['matches']]
                best.append(owners[:1] == [number])
                among.append(owners[: counts[number]].count(number) / counts[number])
        search.close()
    if not best:
        raise ValueError(f'{args.data_root}: nobody is in both halves')
    row = [*map(str, (len(first), len(second), len(counts), len(best))), f'{np.mean(best):.1%}', f'{np.mean(among):.1%}']
    print(markdown_table(['frames indexed', 'searched', 'persons', 'queries', 'best match right', 'R-precision'], [row]))


if __name__ == '__main__':
    run_tool(main)
