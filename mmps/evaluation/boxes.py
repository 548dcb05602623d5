"""Array helpers that several parts of the evaluation use."""

import numpy as np


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of boxes (..., 4), x1 y1 x2 y2. Leading dimensions broadcast.

    Widths are x2 - x1, without + 1, as usual in person search. Two empty boxes have IoU 0. Float64 in [0, 1].
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    corner = np.maximum(first[..., :2], second[..., :2])
    size = np.clip(np.minimum(first[..., 2:], second[..., 2:]) - corner, 0, None)
    shared = size[..., 0] * size[..., 1]
    union = box_area(first) + box_area(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """Returns the area (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def joined_ranges(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenates the ranges ``start, start + 1, ..., start + count - 1``.

    Returns:
        The numbers (sum of counts,), and for each the index of its range.
    """
    owners = np.repeat(np.arange(len(counts)), counts)
    shifts = starts - (np.cumsum(counts) - counts)
    return np.arange(len(owners)) + shifts[owners], owners
