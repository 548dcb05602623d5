"""Writes what a search found: as data, as a table and as a picture."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from mmps.visualization import Crop, SearchRow, draw_rows, write_picture

from .video import is_video, read_frame

COLUMNS = ('query', 'rank', 'similarity', 'source', 'frame', 'time', 'camera', 'x', 'y', 'width', 'height', 'score')
BLUE, GREY, SHOWN = (30, 110, 200), (120, 120, 120), 10


def write_found(predictions: Sequence[dict[str, Any]], out: str | Path) -> None:
    """Writes the predictions of a :class:`PersonSearchInferencer` to a folder.

    ``matches.json`` has all of it, ``matches.csv`` a row per match, and ``matches.png`` each query with its ten best matches.

    Raises:
        UnreadableSourceError: An image or video is not there any more.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'matches.json').write_text(json.dumps(predictions, indent=1))
    with open(out / 'matches.csv', 'w', newline='') as file:
        write_table(predictions, file)
    if predictions:
        write_picture(out / 'matches.png', draw_found(predictions))


def write_table(predictions: Sequence[dict[str, Any]], file: TextIO, extra: Sequence[str] = ()) -> None:
    """Writes a row of CSV per match, with these further keys of the matches as the last columns."""
    table = csv.writer(file)
    table.writerow([*COLUMNS, *extra])
    for number, prediction in enumerate(predictions):
        for match in prediction['matches']:
            where = [match[name] for name in ('source', 'frame', 'time', 'camera')]
            box = [round(value, 1) for value in match['bbox']]
            row = [number, match['rank'], round(match['similarity'], 4), *where, *box, round(match['score'], 4)]
            table.writerow([*row, *(match[name] for name in extra)])


def draw_found(predictions: Sequence[dict[str, Any]], images: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """Draws each query with its ten best matches: RGB picture.

    Args:
        predictions: From a :class:`PersonSearchInferencer`.
        images: The queries' images, uint8 (H, W, 3) BGR, where they are not files.

    Raises:
        UnreadableSourceError: An image or video is not there any more.
    """
    rows = []
    for number, prediction in enumerate(predictions):
        query = prediction['query']
        image, frame, box = (
            (query[name] for name in ('image', 'frame', 'bbox'))
            if 'image' in query
            else (query[name][0] for name in ('images', 'frames', 'bboxes'))
        )
        results = [
            Crop(_rgb(read_frame(match['source'], match['frame'])), _corners(match['bbox']), GREY, _caption(match))
            for match in prediction['matches'][:SHOWN]
        ]
        asked = read_frame(image, frame) if images is None else images[number]
        rows.append(SearchRow(Crop(_rgb(asked), _corners(box), BLUE, 'query'), results))
    return draw_rows(rows, legend=False)


def _rgb(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _caption(match: dict[str, Any]) -> str:
    minutes, seconds = divmod(round(match['time']), 60)
    return f'{match["similarity"]:.2f}' + (f'  {minutes}:{seconds:02d}' if is_video(match['source']) else '')


def _corners(box: Sequence[float]) -> np.ndarray:
    x, y, width, height = box
    return np.array([x, y, x + width, y + height])
