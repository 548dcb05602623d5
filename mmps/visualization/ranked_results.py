"""A picture of search results: a row a query, the query first, then its ranked detections, framed green or red."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmps.evaluation.predictions import Predictions
from mmps.evaluation.protocol import SearchProtocol
from mmps.evaluation.ranking import top_detections

CELL = (192, 80)  # height, width of a crop
MARGIN, CAPTION = 6, 18
BLUE, GREEN, RED, INK = (190, 120, 40), (80, 160, 40), (60, 50, 210), (50, 50, 50)  # BGR


@dataclass(frozen=True)
class Crop:
    """A box of an image: path, box (4,) x1 y1 x2 y2 in its pixels, frame colour (BGR), and what is written under it."""
    path: str
    box: np.ndarray
    colour: tuple[int, int, int]
    caption: str


def search_rows(protocol: SearchProtocol, predictions: Predictions, image_paths: Sequence[str], queries: Sequence[int],
                topk: int = 5, score_thr: float = 0.5, other_cameras: bool = False) -> list[list[Crop]]:
    """For each of the given queries: its own crop, then those of its ``topk`` best detections with their similarities.

    Args:
        image_paths: Where the protocol's G images lie, in its order.
    """
    ranked = top_detections(protocol, predictions.boxes, predictions.scores, predictions.embeddings,
                            predictions.query_embeddings, queries, topk, score_thr, other_cameras)
    rows = []
    for query, best in zip(queries, ranked, strict=True):
        image = protocol.query_images[query]
        row = [Crop(image_paths[image], protocol.query_boxes[query], BLUE, f'query {query}')]
        for index, box, similarity, correct in zip(best.images, best.boxes, best.similarities, best.correct, strict=True):
            row.append(Crop(image_paths[index], box, GREEN if correct else RED, f'{similarity:.2f}'))
        rows.append(row)
    return rows


def draw_rows(rows: Sequence[Sequence[Crop]]) -> np.ndarray:
    """The picture of the rows: uint8 (H, W, 3), BGR.

    Raises:
        FileNotFoundError: An image that cannot be read.
    """
    height, width = CELL[0] + CAPTION + 2 * MARGIN, CELL[1] + 2 * MARGIN
    columns = max((len(row) for row in rows), default=1)
    sheet = np.full((max(len(rows), 1) * height, columns * width, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, crop in enumerate(row):
            y, x = i * height + MARGIN, j * width + MARGIN
            cell = sheet[y:y + CELL[0], x:x + CELL[1]]
            cell[:] = _fit(_read(crop), CELL)
            cv2.rectangle(sheet, (x - 2, y - 2), (x + CELL[1] + 1, y + CELL[0] + 1), crop.colour, 3)
            cv2.putText(sheet, crop.caption, (x, y + CELL[0] + CAPTION - 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1,
                        cv2.LINE_AA)
    return sheet


def write_rows(path: str | Path, rows: Sequence[Sequence[Crop]]) -> None:
    """Writes the picture of the rows; the file's ending says how."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), draw_rows(rows)):
        raise OSError(f'{path}: could not be written')


def _read(crop: Crop) -> np.ndarray:
    image = cv2.imread(str(crop.path))
    if image is None:
        raise FileNotFoundError(f'{crop.path}: there is no readable image')
    height, width = image.shape[:2]
    x1, y1 = np.clip(np.floor(crop.box[:2]).astype(int), 0, (width - 1, height - 1))
    x2, y2 = np.clip(np.ceil(crop.box[2:]).astype(int), (x1 + 1, y1 + 1), (width, height))
    return image[y1:y2, x1:x2]


def _fit(crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The crop as large as fits into (height, width), on grey."""
    scale = min(size[0] / crop.shape[0], size[1] / crop.shape[1])
    height, width = (max(1, round(side * scale)) for side in crop.shape[:2])
    canvas = np.full((*size, 3), 230, np.uint8)
    y, x = (size[0] - height) // 2, (size[1] - width) // 2
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas[y:y + height, x:x + width] = cv2.resize(crop, (width, height), interpolation=interpolation)
    return canvas
