"""Two array helpers that every part of the evaluation shares."""

import numpy as np


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4), x1 y1 x2 y2, whose leading dimensions broadcast.

    Widths are x2 - x1, without + 1, as person search has it. Two empty boxes overlap by 0. Float64 in [0, 1].
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    corner = np.maximum(first[..., :2], second[..., :2])
    size = np.clip(np.minimum(first[..., 2:], second[..., 2:]) - corner, 0, None)
    shared = size[..., 0] * size[..., 1]
    union = box_area(first) + box_area(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """Area (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def joined_ranges(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All of ``start, start + 1, ..., start + count - 1``, one range after the other.

    Returns:
        The numbers (sum of counts,), and for each the index of the range it came from.
    """
    owners = np.repeat(np.arange(len(counts)), counts)
    shifts = starts - (np.cumsum(counts) - counts)
    return np.arange(len(owners)) + shifts[owners], owners
