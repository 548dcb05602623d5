"""Images as the model takes them. Shapes: B images, (H, W) pixels."""

from collections.abc import Sequence

import cv2
import numpy as np

MIN_SIDE = 8


class ImageError(ValueError):
    """An image or a box that a model cannot take."""


def as_colour(image: np.ndarray) -> np.ndarray:
    """Returns an image as uint8 (H, W, 3), BGR. A grey image gets three equal channels; an alpha channel is dropped.

    Raises:
        ImageError: It is no such image, or a side has fewer than 8 pixels. One line.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        found = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f'image: expected uint8 (H, W, 3), BGR, got {found}')
    grey = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
    if not grey and (image.ndim != 3 or image.shape[2] not in (3, 4)):
        raise ImageError(f'image: expected uint8 (H, W, 3), BGR, got the shape {image.shape}')
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(f'image: {width} x {height} pixels; expected at least {MIN_SIDE} on each side')
    if grey:
        return cv2.cvtColor(image.reshape(height, width), cv2.COLOR_GRAY2BGR)
    return image[..., :3]


def target_size(size: tuple[int, int], scale: tuple[int, int], within: tuple[int, int] | None) -> tuple[int, int]:
    """Returns the size (height, width) to which an image is resized. Its ratio is kept.

    Args:
        size: Height and width of the image.
        scale: Long and short side within which it is resized.
        within: Height and width within which it is resized instead, if the input has a fixed size.
    """
    height, width = size
    if within is None:
        factor = min(max(scale) / max(size), min(scale) / min(size))
    else:
        factor = min(within[0] / height, within[1] / width)
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image to (height, width), bilinearly, as in training."""
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def stack(images: Sequence[np.ndarray], divisor: int, size: tuple[int, int] | None) -> np.ndarray:
    """Stacks images of (H_i, W_i, 3), padded at the bottom and right to ``size`` or to the next multiple of ``divisor``."""
    height, width = size or (-(-max(image.shape[axis] for image in images) // divisor) * divisor for axis in (0, 1))
    batch = np.zeros((len(images), height, width, 3), np.uint8)
    for padded, image in zip(batch, images, strict=True):
        padded[: image.shape[0], : image.shape[1]] = image
    return batch


def check_boxes(boxes: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
    """Returns boxes as float32 (N, 4), x1 y1 x2 y2.

    Raises:
        ImageError: They are no boxes, or one has no area. One line.
    """
    checked = np.asarray(boxes, np.float32)
    checked = checked.reshape(0, 4) if checked.size == 0 else checked
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise ImageError(f'boxes: expected (N, 4), got the shape {checked.shape}')
    empty = ~(checked[:, 2:] > checked[:, :2]).all(1)  # NaN counts
    if empty.any():
        raise ImageError(f'boxes: expected x1 < x2 and y1 < y2, got {checked[empty][0].tolist()}')
    return checked
