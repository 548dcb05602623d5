"""A small transparent canvas on which one figure is put together from polygons."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .drawing import Colour, Point

# A BGR colour, or a uint8 BGRA texture of the canvas's size.
Fill = Colour | np.ndarray

_ANGLES = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


class Canvas:
    """Colour and relief of one figure.

    A body point is (x, y) in body heights: x to the right of the figure's middle, y up from the ground.

    Edges are drawn hard, at more than the final resolution. Averaging down then gives soft edges and premultiplied
    colours. Relief (brightness from the light) is kept apart from colour and blurred once at the end, so that every limb
    looks round whatever pattern it has.

    Args:
        scale: Canvas pixels per body height.
        light: Where the light comes from: -1 from the left to 1 from the right.
    """

    def __init__(self, scale: float, light: float):
        self.scale = scale
        self.light = light
        self.height, self.width = int(scale * 1.14), int(scale * 1.0)
        self.origin = np.array([self.width / 2, scale * 1.07])
        self.colour = np.zeros((self.height, self.width, 4), np.uint8)
        self.relief = np.full((self.height, self.width), 128, np.uint8)

    def to_pixels(self, points: ArrayLike) -> np.ndarray:
        """Turns body points (..., 2) into float canvas pixels (..., 2)."""
        return np.asarray(points, dtype=np.float64) * (self.scale, -self.scale) + self.origin

    def polygon(self, points: ArrayLike, fill: Fill, edge: float = 0.78, core: float = 0.72) -> None:
        """Fills a polygon.

        Args:
            points: (K, 2) body points.
            fill: Colour or texture.
            edge: Brightness at the rim; the middle has 1.
            core: Size of the bright middle, relative to the polygon.
        """
        self._fill(self.to_pixels(points), fill, edge, core)

    def capsule(
        self, a: Point, b: Point, radius_a: float, radius_b: float, fill: Fill, edge: float = 0.74, core: float = 0.5
    ) -> None:
        """Fills a limb: the convex hull of a circle at each end."""
        pixels = np.concatenate(
            [_CIRCLE * (radius_a * self.scale) + self.to_pixels(a), _CIRCLE * (radius_b * self.scale) + self.to_pixels(b)]
        )
        hull = cv2.convexHull(pixels.astype(np.float32))[:, 0]
        self._fill(hull, fill, edge, core)

    def ellipse(
        self, centre: Point, radius_x: float, radius_y: float, fill: Fill, edge: float = 0.8, core: float = 0.6
    ) -> None:
        """Fills an upright ellipse."""
        pixels = _CIRCLE * (radius_x * self.scale, radius_y * self.scale) + self.to_pixels(centre)
        self._fill(pixels, fill, edge, core)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """Draws a line of this width (in body heights), without relief."""
        pixels = np.rint(self.to_pixels(points)).astype(np.int32)
        cv2.polylines(self.colour, [pixels], False, (*colour, 255), max(1, round(width * self.scale)))

    def crease(self, a: Point, b: Point, width: float, brightness: float) -> None:
        """Changes the brightness along a line, for folds and seams."""
        pixels = np.rint(self.to_pixels([a, b])).astype(np.int32)
        cv2.polylines(self.relief, [pixels], False, int(128 * brightness), max(1, round(width * self.scale)))

    def _fill(self, pixels: np.ndarray, fill: Fill, edge: float, core: float) -> None:
        corners = np.rint(pixels).astype(np.int32)
        if isinstance(fill, np.ndarray):
            self._copy_texture(corners, fill)
        else:
            cv2.fillPoly(self.colour, [corners], (*fill, 255))
        middle = pixels.mean(axis=0)
        size = pixels.max(axis=0) - pixels.min(axis=0)
        # The bright middle moves towards the light; a narrow shape keeps most of its length.
        shift = np.array([self.light * 0.12 * size[0], -0.03 * size[1]])
        shrink = np.where(size < size.max() * 0.6, core, min(1.0, core + 0.3))
        inner = np.rint((pixels - middle) * shrink + middle + shift).astype(np.int32)
        cv2.fillPoly(self.relief, [corners], int(128 * edge))
        cv2.fillPoly(self.relief, [inner], 132)

    def _copy_texture(self, corners: np.ndarray, texture: np.ndarray) -> None:
        x, y = np.maximum(corners.min(axis=0), 0)
        right, bottom = np.minimum(corners.max(axis=0) + 1, (self.width, self.height))
        if right <= x or bottom <= y:
            return
        mask = np.zeros((bottom - y, right - x), np.uint8)
        cv2.fillPoly(mask, [corners - (x, y)], 255)
        part = self.colour[y:bottom, x:right]
        cv2.copyTo(texture[y:bottom, x:right], mask, part)

    def finish(self) -> np.ndarray:
        """Returns the shaded figure, cropped to its bounding box.

        Returns:
            uint8 (h, w, 4), BGR premultiplied by the alpha in the last channel.
        """
        x, y, w, h = cv2.boundingRect(self.colour[..., 3])
        colour = self.colour[y : y + h, x : x + w]
        sigma = max(0.8, self.scale * 0.006)
        relief = cv2.GaussianBlur(self.relief[y : y + h, x : x + w], (0, 0), sigma)
        shaded = cv2.multiply(colour[..., :3], cv2.merge([relief] * 3), scale=1 / 128)
        return cv2.merge([*cv2.split(shaded), colour[..., 3]])
