"""Reads image sizes, and checks and clips boxes against them."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mmps.fileio.annotations import AnnotationError

MIN_SIDE = 8  # smallest usable side of an image, in pixels
TOLERATED = 0.01  # largest fraction of wrong entries that only causes a warning; more of them are an error


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Converts (N, 4) boxes [x y w h] to float32 [x1 y1 x2 y2], with x2 = x + w (no - 1)."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)


def clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Clips (N, 4) boxes xyxy to their images, of (N, 2) height and width. With unknown size (0), clips only negatives."""
    limit = np.where(sizes > 0, sizes, np.inf)[:, [1, 0, 1, 0]].astype(np.float32)
    return np.clip(boxes, 0, limit)


def _has_area(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = clip(boxes, sizes).T
    return (x2 > x1) & (y2 > y1)


def visible(boxes: np.ndarray, sizes: np.ndarray, path: Path) -> np.ndarray:
    """Returns a mask (N,) of the boxes with an area inside their images. A warning counts the others.

    Args:
        boxes: (N, 4), xyxy.
        sizes: (N, 2), height and width, 0 if unknown.
        path: The annotation file, for the warning.
    """
    kept = _has_area(boxes, sizes)
    if not kept.all():
        print_log(
            f'{path}: {np.sum(~kept)} of {len(kept)} boxes have no area inside their images and are left out',
            'current',
            logging.WARNING,
        )
    return kept


def require_visible(boxes: np.ndarray, sizes: np.ndarray, path: Path, what: str) -> None:
    """Raises AnnotationError for boxes without area inside their images: they cannot be embedded, nor be left out."""
    kept = _has_area(boxes, sizes)
    if not kept.all():
        first = int(np.argmin(kept))
        raise AnnotationError(
            f'{path}: expected boxes of {what} with an area inside their images, got x1 y1 x2 y2 '
            f'{boxes[first].tolist()} (number {first + 1} of {len(boxes)})'
        )


def image_sizes(folder: Path, names: Iterable[str]) -> np.ndarray:
    """Reads height and width (G, 2) from the files' headers.

    They are 0 if that fails or the image is too small. The error is raised when the image is used.
    """
    sizes = []
    for name in names:
        try:
            with Image.open(folder / name) as image:
                size = image.height, image.width
        except OSError:
            size = 0, 0
        sizes.append(size if min(size) >= MIN_SIDE else (0, 0))
    return np.array(sizes, dtype=np.int32).reshape(-1, 2)
