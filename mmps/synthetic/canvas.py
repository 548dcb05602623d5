"""A small transparent canvas on which one figure is put together from polygons."""

import cv2
import numpy as np

_TURN = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


class Canvas:
    """Colour and relief of one figure, in body heights with y upwards.

    Edges are drawn hard, at more than the final resolution: averaging down then gives both the soft edge and
    premultiplied colours. Relief is kept apart from colour and blurred once at the end, which rounds every limb
    whatever pattern it wears.

    Args:
        scale (float): Canvas pixels a body height.
        light (float): Where the light comes from, -1 left to 1 right.
    """

    def __init__(self, scale, light):
        self.scale = scale
        self.light = light
        self.height, self.width = int(scale * 1.14), int(scale * 1.0)
        self.origin = np.array([self.width / 2, scale * 1.07])
        self.colour = np.zeros((self.height, self.width, 4), np.uint8)
        self.relief = np.full((self.height, self.width), 128, np.uint8)

    def to_pixels(self, points):
        """(K, 2) body points to (K, 2) float canvas pixels."""
        return np.asarray(points, dtype=np.float64) * (self.scale, -self.scale) + self.origin

    def polygon(self, points, fill, edge=0.78, core=0.72):
        """Fill a polygon.

        Args:
            points (sequence): (K, 2) body points.
            fill (tuple or np.ndarray): A BGR colour, or a BGRA texture of the canvas's size.
            edge (float): Brightness at the rim, 1 = as in the middle.
            core (float): Size of the bright middle, of the polygon's own.
        """
        self._fill(self.to_pixels(points), fill, edge, core)

    def capsule(self, a, b, radius_a, radius_b, fill, edge=0.74, core=0.5):
        """Fill a limb: the hull of a circle at each end."""
        pixels = np.concatenate(
            [_CIRCLE * (radius_a * self.scale) + self.to_pixels(a), _CIRCLE * (radius_b * self.scale) + self.to_pixels(b)]
        )
        hull = cv2.convexHull(pixels.astype(np.float32))[:, 0]
        self._fill(hull, fill, edge, core)

    def ellipse(self, centre, radius_x, radius_y, fill, edge=0.8, core=0.6):
        """Fill an upright ellipse."""
        pixels = _CIRCLE * (radius_x * self.scale, radius_y * self.scale) + self.to_pixels(centre)
        self._fill(pixels, fill, edge, core)

    def line(self, points, colour, width):
        """Draw a line of some width (body heights), without relief."""
        pixels = np.rint(self.to_pixels(points)).astype(np.int32)
        cv2.polylines(self.colour, [pixels], False, (*colour, 255), max(1, round(width * self.scale)))

    def crease(self, a, b, width, brightness):
        """Darken or brighten along a line: folds, seams."""
        pixels = np.rint(self.to_pixels([a, b])).astype(np.int32)
        cv2.polylines(self.relief, [pixels], False, int(128 * brightness), max(1, round(width * self.scale)))

    def _fill(self, pixels, fill, edge, core):
        corners = np.rint(pixels).astype(np.int32)
        if isinstance(fill, np.ndarray):
            self._stamp(corners, fill)
        else:
            cv2.fillPoly(self.colour, [corners], (*fill, 255))
        middle = pixels.mean(axis=0)
        size = pixels.max(axis=0) - pixels.min(axis=0)
        # The bright middle sits towards the light; a narrow shape keeps most of its length.
        shift = np.array([self.light * 0.12 * size[0], -0.03 * size[1]])
        shrink = np.where(size < size.max() * 0.6, core, min(1.0, core + 0.3))
        inner = np.rint((pixels - middle) * shrink + middle + shift).astype(np.int32)
        cv2.fillPoly(self.relief, [corners], int(128 * edge))
        cv2.fillPoly(self.relief, [inner], 132)

    def _stamp(self, corners, texture):
        x, y = np.maximum(corners.min(axis=0), 0)
        right, bottom = np.minimum(corners.max(axis=0) + 1, (self.width, self.height))
        if right <= x or bottom <= y:
            return
        mask = np.zeros((bottom - y, right - x), np.uint8)
        cv2.fillPoly(mask, [corners - (x, y)], 255)
        part = self.colour[y:bottom, x:right]
        cv2.copyTo(texture[y:bottom, x:right], mask, part)

    def finish(self):
        """The figure, cut tightly.

        Returns:
            np.ndarray: uint8 (h, w, 4), BGR premultiplied by the alpha in the last channel.
        """
        x, y, w, h = cv2.boundingRect(self.colour[..., 3])
        colour = self.colour[y : y + h, x : x + w]
        sigma = max(0.8, self.scale * 0.006)
        relief = cv2.GaussianBlur(self.relief[y : y + h, x : x + w], (0, 0), sigma)
        shaded = cv2.multiply(colour[..., :3], cv2.merge([relief] * 3), scale=1 / 128)
        return cv2.merge([*cv2.split(shaded), colour[..., 3]])
