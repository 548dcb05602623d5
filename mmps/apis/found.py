"""Writes what a search found: as data, as a table and as a picture."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmps.visualization import Crop, SearchRow, draw_rows, write_picture

from .video import is_video, read_frames

COLUMNS = ('query', 'rank', 'similarity', 'source', 'frame', 'time', 'camera', 'x', 'y', 'width', 'height', 'score')
BLUE, GREY, SHOWN = (30, 110, 200), (120, 120, 120), 10


def write_found(predictions: Sequence[dict[str, Any]], out: str | Path) -> None:
    """Writes the predictions of a :class:`PersonSearchInferencer` to a folder.

    ``matches.json`` has all of it, ``matches.csv`` a row per match, and ``matches.png`` each query with its ten best matches.
    Frames of videos that the picture shows are kept in ``frames``.

    Raises:
        UnreadableSourceError: An image or video is not there any more.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'matches.json').write_text(json.dumps(predictions, indent=1))
    with open(out / 'matches.csv', 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number, prediction in enumerate(predictions):
            for match in prediction['matches']:
                where = [match[name] for name in ('source', 'frame', 'time', 'camera')]
                box = [round(value, 1) for value in match['bbox']]
                table.writerow([number, match['rank'], round(match['similarity'], 4), *where, *box, round(match['score'], 4)])
    if predictions:
        write_picture(out / 'matches.png', draw_rows([_row(each, out / 'frames') for each in predictions], legend=False))


def _row(prediction: dict[str, Any], frames: Path) -> SearchRow:
    query = prediction['query']
    image, box = (query['image'], query['bbox']) if 'image' in query else (query['images'][0], query['bboxes'][0])
    results = [
        Crop(_picture(match, frames), _corners(match['bbox']), GREY, f'{match["similarity"]:.2f}{_when(match)}')
        for match in prediction['matches'][:SHOWN]
    ]
    return SearchRow(Crop(image, _corners(box), BLUE, 'query'), results)


def _picture(match: dict[str, Any], frames: Path) -> str:
    """Returns the path of a match's image. A frame of a video is written to a file first."""
    source, number = match['source'], match['frame']
    if not is_video(source):
        return source
    path = frames / f'{Path(source).stem}_{number:06d}.png'
    if not path.is_file():
        frames.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), next(read_frames(source, number)).image)
    return str(path)


def _when(match: dict[str, Any]) -> str:
    minutes, seconds = divmod(round(match['time']), 60)
    return f'  {minutes}:{seconds:02d}' if is_video(match['source']) else ''


def _corners(box: Sequence[float]) -> np.ndarray:
    x, y, width, height = box
    return np.array([x, y, x + width, y + height])
