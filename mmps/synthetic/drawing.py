"""Draws filled and outlined shapes into a scene. Positions and lengths are in pixels, colours are BGR."""

from collections.abc import Sequence

import cv2
import numpy as np

Point = tuple[float, float]
Colour = tuple[int, int, int]
# OpenCV takes fixed-point coordinates: 4 fractional bits, which are sixteenths of a pixel.
_BITS = 4
_STEPS = 1 << _BITS


def shade(colour: Colour, factor: float) -> Colour:
    """Returns the colour made darker (factor < 1) or brighter (factor > 1)."""
    blue, green, red = colour
    return min(255, int(blue * factor)), min(255, int(green * factor)), min(255, int(red * factor))


def rectangle(image: np.ndarray, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
    """Fills an upright rectangle; its corners are rounded to whole pixels."""
    cv2.rectangle(image, (round(left), round(top)), (round(right), round(bottom)), colour, -1)


def polygon(image: np.ndarray, points: Sequence[Point], colour: Colour | int) -> None:
    """Fills an anti-aliased polygon. An image with one channel takes an int as its colour."""
    cv2.fillPoly(image, [_fixed_point(points)], colour, cv2.LINE_AA, _BITS)


def polyline(image: np.ndarray, points: Sequence[Point], colour: Colour, width: float) -> None:
    """Draws an anti-aliased line through the points."""
    cv2.polylines(image, [_fixed_point(points)], False, colour, max(1, round(width)), cv2.LINE_AA, _BITS)


def circle(image: np.ndarray, x: float, y: float, radius: float, colour: Colour, width: float) -> None:
    """Draws the outline of an anti-aliased circle."""
    centre = round(x * _STEPS), round(y * _STEPS)
    cv2.circle(image, centre, round(radius * _STEPS), colour, max(1, round(width)), cv2.LINE_AA, _BITS)


def ellipse(image: np.ndarray, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
    """Fills an upright anti-aliased ellipse."""
    centre, radii = (round(x * _STEPS), round(y * _STEPS)), (round(radius_x * _STEPS), round(radius_y * _STEPS))
    cv2.ellipse(image, centre, radii, 0, 0, 360, colour, -1, cv2.LINE_AA, _BITS)


def shadow(image: np.ndarray, x: float, y: float, radius_x: float, radius_y: float, colour: Colour, opacity: float) -> None:
    """Blends an upright ellipse into the image: `opacity` in the centre, falling to 0 at the rim."""
    left, top = max(0, int(x - radius_x)), max(0, int(y - radius_y))
    right, bottom = min(image.shape[1], int(x + radius_x) + 2), min(image.shape[0], int(y + radius_y) + 2)
    if right <= left or bottom <= top:
        return
    across = ((np.arange(left, right, dtype=np.float32) - x) / radius_x) ** 2
    down = ((np.arange(top, bottom, dtype=np.float32) - y) / radius_y) ** 2
    cover = np.clip(1 - across[None] - down[:, None], 0, 1)[..., None] * opacity
    part = image[top:bottom, left:right]
    part[:] = part * (1 - cover) + np.array(colour, np.float32) * cover


def _fixed_point(points: Sequence[Point]) -> np.ndarray:
    return np.rint(np.asarray(points) * _STEPS).astype(np.int32)
