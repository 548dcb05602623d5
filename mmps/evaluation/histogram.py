"""Computes embeddings from the colours of a person's clothes: a baseline for learned embeddings."""

import cv2
import numpy as np


def colour_histogram(
    image: np.ndarray, boxes: np.ndarray, bins: tuple[int, int, int] = (8, 4, 4), stripes: int = 2
) -> np.ndarray:
    """Returns square-rooted HSV histograms of horizontal stripes of each person's box.

    The dot product of two of them is the Bhattacharyya coefficient of the histograms.

    Args:
        image: uint8 (H, W, 3), BGR.
        boxes: (N, 4), x1 y1 x2 y2 in pixels, clipped to the image; at least one pixel always remains.
        bins: Number of bins for hue, saturation and value.
        stripes: Number of stripes of equal height, from head to foot.

    Returns:
        float32 (N, stripes x bins), L2-normalized: N x 256 by default.

    Raises:
        ValueError: Wrong type or shape of image or boxes.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'image: expected uint8 (H, W, 3), got {image.dtype} {image.shape}')
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ValueError(f'boxes: expected finite numbers of shape (N, 4), got {boxes.shape}')
    height, width = image.shape[:2]
    left, top = (np.clip(np.floor(boxes[:, i]), 0, size - 1).astype(int) for i, size in ((0, width), (1, height)))
    right = np.clip(np.ceil(boxes[:, 2]), left + 1, width).astype(int)
    bottom = np.clip(np.ceil(boxes[:, 3]), top + 1, height).astype(int)
    colours, num_colours = _colour_bins(image, bins), int(np.prod(bins))
    counts = np.zeros((len(boxes), stripes * num_colours))
    # A loop, because crops differ in size.
    for person, (x1, y1, x2, y2) in enumerate(zip(left, top, right, bottom, strict=True)):
        stripe = np.arange(y2 - y1) * stripes // (y2 - y1)
        places = stripe[:, None] * num_colours + colours[y1:y2, x1:x2]
        counts[person] = np.bincount(places.ravel(), minlength=counts.shape[1])
    # The fractions sum to 1, so their square roots have L2 norm 1.
    return np.sqrt(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def _colour_bins(image: np.ndarray, bins: tuple[int, int, int]) -> np.ndarray:
    """Returns the bin (H, W) of each pixel's hue (0..179 in OpenCV), saturation and value."""
    places = np.zeros(image.shape[:2], dtype=np.intp)
    channels = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    for channel, levels, count in zip(channels, (180, 256, 256), bins, strict=True):
        places = places * count + (np.arange(256) * count // levels)[channel]
    return places
