"""Images' sizes, and boxes inside them."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mmps.fileio.annotations import AnnotationError

# In an image with a side of fewer pixels nobody can be seen.
MIN_SIDE = 8
# A few wrong entries are an accident, and counted in a warning; a larger part than this says that something else is wrong.
TOLERATED = 0.01


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) corner and size to (N, 4) float32 corners; the far corner is x + w, without the - 1."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)


def clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N, 4) corners inside their images, of (N, 2) height and width; where these are 0, unknown, only negatives go."""
    limit = np.where(sizes > 0, sizes, np.inf)[:, [1, 0, 1, 0]].astype(np.float32)
    return np.clip(boxes, 0, limit)


def _visible(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    boxes = clip(boxes, sizes)
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1)


def visible(boxes: np.ndarray, sizes: np.ndarray, path: Path) -> np.ndarray:
    """(N,) which corner boxes have an area inside their images, (N, 2) height and width, as for :func:`clip`.

    A warning counts the others, which are to be left out.
    """
    kept = _visible(boxes, sizes)
    if not kept.all():
        print_log(
            f'{path}: {np.sum(~kept)} of {len(kept)} boxes have no area inside their images and are left out',
            'current',
            logging.WARNING,
        )
    return kept


def require_visible(boxes: np.ndarray, sizes: np.ndarray, path: Path, what: str) -> None:
    """Refuses boxes of ``what`` that are not :func:`visible`: whom they are of cannot be embedded, nor missed."""
    kept = _visible(boxes, sizes)
    if not kept.all():
        first = int(np.argmin(kept))
        raise AnnotationError(
            f'{path}: expected boxes of {what} with an area inside their images, got x1 y1 x2 y2 '
            f'{boxes[first].tolist()} (number {first + 1} of {len(boxes)})'
        )


def image_sizes(folder: Path, names: Iterable[str]) -> np.ndarray:
    """(G, 2) height and width from the files' headers; 0 where that fails or nobody can be seen, which is reported once the
    image is used."""
    sizes = []
    for name in names:
        try:
            with Image.open(folder / name) as image:
                size = image.height, image.width
        except OSError:
            size = 0, 0
        sizes.append(size if min(size) >= MIN_SIDE else (0, 0))
    return np.array(sizes, dtype=np.int32).reshape(-1, 2)
