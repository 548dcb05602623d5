"""Draws search results, one row per query: its crop, its best detections and its targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mmps.evaluation.failures import Explanation, TargetFate, explain, target_fates
from mmps.evaluation.predictions import Predictions
from mmps.evaluation.protocol import SearchProtocol
from mmps.evaluation.ranking import top_detections
from mmps.evaluation.search import RankedDetections, SearchResult

from .sheet import Sheet, read_picture

CELL = (144, 60)  # height, width of a crop
MARGIN, CAPTION, TITLE, GAP = 6, 14, 18, 12
LEGEND = (26, 130)  # height of its line, width of an entry
BLUE, GREEN, RED, GOLD = (30, 110, 200), (40, 160, 80), (210, 45, 55), (245, 170, 0)
LEGEND_TEXTS = {BLUE: 'query', GREEN: 'the person sought', RED: 'a wrong result', GOLD: 'targets by rank'}


@dataclass(frozen=True, eq=False)
class Crop:
    """A box of an image: the image (path or RGB pixels), box (4,) x1 y1 x2 y2 in its pixels, frame colour (RGB) and caption."""

    image: str | np.ndarray
    box: np.ndarray
    colour: tuple[int, int, int]
    caption: str


@dataclass(frozen=True, eq=False)
class SearchRow:
    """The row of a query: its crop, its best detections, targets and a title above them."""

    query: Crop
    results: Sequence[Crop]
    targets: Sequence[Crop] = ()
    title: str = ''


def search_rows(
    protocol: SearchProtocol,
    predictions: Predictions,
    image_paths: Sequence[str],
    queries: Sequence[int],
    topk: int = 5,
    score_thr: float = 0.5,
    cameras: str | int = 'all',
    result: SearchResult | None = None,
    num_missed: int = 3,
) -> list[SearchRow]:
    """Makes a row per query: its ``topk`` best detections with similarities, and the targets that are not among them.

    Args:
        image_paths: Paths of the G images of the protocol, in its order.
        score_thr, cameras: The values that the result was scored with.
        result: The scores of these predictions without re-ranking. None = no targets are shown.
        num_missed: At most this many targets are shown, preferably undetected ones, then those with the latest ranks.
    """
    ranked = _ranked(protocol, predictions, queries, topk, score_thr, cameras)
    rows = []
    for query, best in zip(queries, ranked, strict=True):
        fates = target_fates(protocol, result, query, cameras) if result is not None else ()
        missed = _target_crops([fate for fate in fates if not 0 < fate.rank <= topk], image_paths)
        rows.append(
            SearchRow(
                _query_crop(protocol, image_paths, query),
                _result_crops(best, image_paths),
                missed[max(0, len(missed) - num_missed) :],
            )
        )
    return rows


def failure_rows(
    protocol: SearchProtocol,
    predictions: Predictions,
    result: SearchResult,
    image_paths: Sequence[str],
    queries: Sequence[int],
    topk: int = 5,
    score_thr: float = 0.5,
    cameras: str | int = 'all',
    num_targets: int = 5,
) -> list[SearchRow]:
    """Makes a row per query: its ``topk`` best detections, its ``num_targets`` best targets and the reason of the failure.

    The other arguments are those of :func:`search_rows`.
    """
    ranked = _ranked(protocol, predictions, queries, topk, score_thr, cameras)
    reasons = explain(protocol, predictions, result, queries, score_thr=score_thr, cameras=cameras)
    return [
        SearchRow(
            _query_crop(protocol, image_paths, why.query),
            _result_crops(best, image_paths),
            _target_crops(why.targets, image_paths)[:num_targets],
            _failure_title(why),
        )
        for why, best in zip(reasons, ranked, strict=True)
    ]


def draw_rows(rows: Sequence[SearchRow], legend: bool = True) -> np.ndarray:
    """Draws the rows as an RGB picture.

    Raises:
        FileNotFoundError: An image cannot be read.
    """
    height, width = CELL[0] + CAPTION + 2 * MARGIN, CELL[1] + 2 * MARGIN
    title = TITLE if any(row.title for row in rows) else 0
    num_results = max((len(row.results) for row in rows), default=0)
    num_targets = max((len(row.targets) for row in rows), default=0)
    first_result = width + GAP
    first_target = first_result + num_results * width + GAP
    top = LEGEND[0] if legend else 0
    needed = first_target + num_targets * width if num_targets else first_result + num_results * width
    entries = [(colour, text) for colour, text in LEGEND_TEXTS.items() if colour != GOLD or num_targets] if legend else []
    sheet = Sheet(top + len(rows) * (title + height), max(needed, len(entries) * LEGEND[1]))
    for i, (colour, text) in enumerate(entries):
        sheet.paste(np.full((10, 10, 3), colour, np.uint8), 8, MARGIN + i * LEGEND[1])
        sheet.write(text, 17, MARGIN + i * LEGEND[1] + 15)
    for i, row in enumerate(rows):
        y = top + i * (title + height)
        sheet.write(row.title, y + TITLE - 5, MARGIN, points=9, bold=True)
        for start, crops in ((0, [row.query]), (first_result, row.results), (first_target, row.targets)):
            for j, crop in enumerate(crops):
                _draw_crop(sheet, crop, y + title + MARGIN, start + j * width + MARGIN)
    return sheet.picture()


def _ranked(
    protocol: SearchProtocol, predictions: Predictions, queries: Sequence[int], topk: int, score_thr: float, cameras: str | int
) -> list[RankedDetections]:
    return top_detections(
        protocol,
        predictions.boxes,
        predictions.scores,
        predictions.embeddings,
        predictions.query_embeddings,
        queries,
        topk,
        score_thr,
        cameras,
    )


def _query_crop(protocol: SearchProtocol, image_paths: Sequence[str], query: int) -> Crop:
    return Crop(image_paths[protocol.query_images[query]], protocol.query_boxes[query], BLUE, f'query {query}')


def _result_crops(best: RankedDetections, image_paths: Sequence[str]) -> list[Crop]:
    return [
        Crop(image_paths[image], box, GREEN if correct else RED, f'{similarity:.2f}')
        for image, box, similarity, correct in zip(best.images, best.boxes, best.similarities, best.correct, strict=True)
    ]


def _target_crops(fates: Sequence[TargetFate], image_paths: Sequence[str]) -> list[Crop]:
    """Returns the crops of the targets by rank. Undetected ones come last."""
    by_rank = sorted(fates, key=lambda fate: fate.rank or np.inf)
    return [Crop(image_paths[fate.image], fate.box, GOLD, f'rank {fate.rank}' if fate.rank else 'missed') for fate in by_rank]


def _failure_title(why: Explanation) -> str:
    count = len(why.targets)
    return f'AP {why.ap * 100:.1f} | {count} {"target" if count == 1 else "targets"} | {why.reason}'


def _draw_crop(sheet: Sheet, crop: Crop, y: int, x: int) -> None:
    picture = read_picture(crop.image) if isinstance(crop.image, str) else crop.image
    sheet.paste(_fit(_cut(picture, crop.box), CELL), y, x)
    sheet.frame(y, x, *CELL, crop.colour)
    sheet.write(crop.caption, y + CELL[0] + CAPTION, x, points=7.5)


def _cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cuts the box out of the image, at least one pixel."""
    height, width = image.shape[:2]
    x1, y1 = np.clip(np.floor(box[:2]).astype(int), 0, (width - 1, height - 1))
    x2, y2 = np.clip(np.ceil(box[2:]).astype(int), (x1 + 1, y1 + 1), (width, height))
    return image[y1:y2, x1:x2]


def _fit(crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales the crop to fit into ``size``, (height, width), and centres it on grey."""
    scale = min(size[0] / crop.shape[0], size[1] / crop.shape[1])
    height, width = (max(1, round(side * scale)) for side in crop.shape[:2])
    canvas = np.full((*size, 3), 230, np.uint8)
    y, x = (size[0] - height) // 2, (size[1] - width) // 2
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas[y : y + height, x : x + width] = cv2.resize(crop, (width, height), interpolation=interpolation)
    return canvas
