"""Street furniture: it stands among the people and hides parts of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .drawing import Colour, Point, circle, ellipse, polygon, polyline, shade, shadow

# Width and height of each kind, relative to a person at the same place.
SIZES = {
    'pole': (0.07, 2.0),
    'bin': (0.27, 0.5),
    'bench': (0.85, 0.42),
    'planter': (0.5, 0.5),
    'bike': (0.85, 0.55),
    'sign': (0.32, 0.58),
    'bollard': (0.09, 0.48),
    'hydrant': (0.17, 0.42),
}
_COLOURS = ((70, 74, 78), (96, 90, 60), (60, 84, 60), (70, 60, 96), (48, 52, 58), (120, 124, 128))


@dataclass(frozen=True)
class Item:
    """One piece of furniture. Lengths are in scene heights."""

    kind: str
    x: float  # centre
    height: float  # of a person at the same place: the depth
    tone: int  # picks the colours

    def box(self, camera: Camera) -> tuple[float, float, float, float]:
        """Returns (left, top, right, bottom) in scene heights."""
        width, height = (s * self.height for s in SIZES[self.kind])
        foot = camera.foot(self.height)
        return self.x - width / 2, foot - height, self.x + width / 2, foot


def draw_item(image: np.ndarray, item: Item, camera: Camera) -> None:
    """Draws one piece of furniture and its shadow into a scene, in place.

    Args:
        image: uint8 (H, W, 3).
        item: What to draw.
        camera: Tells where the ground is.
    """
    left, top, right, bottom = (v * image.shape[0] for v in item.box(camera))
    unit = item.height * image.shape[0]  # height of a person at the same place, in pixels
    colour = _COLOURS[item.tone % len(_COLOURS)]
    dark, bright = shade(colour, 0.6), shade(colour, 1.35)
    reach = (right - left) * 0.6 + unit * 0.05
    shadow(image, (left + right) / 2 + unit * 0.06, bottom, reach, unit * 0.03, (40, 40, 42), 0.45)

    # Shapes are given within the item's box: x from 0 (left) to 1 (right), y from 0 (ground) to 1 (top).
    def to_pixels(x: float, y: float) -> Point:
        return left + x * (right - left), bottom - y * (bottom - top)

    def poly(points: Sequence[Point], fill: Colour) -> None:
        polygon(image, [to_pixels(*p) for p in points], fill)

    def line(points: Sequence[Point], fill: Colour, width: float) -> None:
        polyline(image, [to_pixels(*p) for p in points], fill, width * unit)

    if item.kind == 'pole':
        poly([(0.1, 0), (0.9, 0), (0.75, 1), (0.25, 1)], colour)
        line([(0.35, 0), (0.42, 1)], bright, 0.012)
        poly([(-0.1, 0), (1.1, 0), (0.9, 0.06), (0.1, 0.06)], dark)
    elif item.kind == 'bin':
        poly([(0.08, 0), (0.92, 0), (1, 0.85), (0, 0.85)], colour)
        poly([(0.62, 0), (0.92, 0), (1, 0.85), (0.68, 0.85)], dark)
        poly([(-0.04, 0.84), (1.04, 0.84), (0.85, 1), (0.15, 1)], dark)
        line([(0.25, 0.7), (0.75, 0.7)], (24, 24, 26), 0.05)
    elif item.kind == 'bench':
        wood = (52, 84, 122) if item.tone % 2 else colour
        for x in (0.12, 0.88):
            line([(x, 0), (x, 1)], dark, 0.035)
            line([(x + 0.05, 0), (x + 0.05, 0.45)], dark, 0.03)
        for y in (0.45, 0.52, 0.72, 0.88):
            line([(0, y), (1, y)], wood if y > 0.5 else shade(wood, 0.7), 0.035)
    elif item.kind == 'planter':
        green = (48, 92 + 8 * (item.tone % 4), 58)
        rng = np.random.default_rng(item.tone)
        for x, y, radius in rng.uniform((0.05, 0.5, 0.08), (0.95, 0.95, 0.17), (14, 3)):
            ellipse(image, *to_pixels(x, y), radius * unit * 0.55, radius * unit * 0.45, shade(green, 0.7 + radius * 3.2))
        poly([(0.06, 0), (0.94, 0), (1, 0.52), (0, 0.52)], (104, 112, 122))
        poly([(0.66, 0), (0.94, 0), (1, 0.52), (0.7, 0.52)], (80, 86, 96))
        poly([(-0.03, 0.48), (1.03, 0.48), (1.03, 0.56), (-0.03, 0.56)], (128, 136, 144))
    elif item.kind == 'bike':
        for x in (0.2, 0.8):
            circle(image, *to_pixels(x, 0.34), 0.17 * unit, (28, 28, 30), 0.022 * unit)
        line([(0.2, 0.34), (0.36, 0.78), (0.68, 0.74), (0.8, 0.34)], colour, 0.022)
        line([(0.2, 0.34), (0.5, 0.34), (0.36, 0.78)], colour, 0.02)
        line([(0.5, 0.34), (0.68, 0.74), (0.66, 0.92), (0.76, 0.95)], dark, 0.02)
        line([(0.29, 0.86), (0.42, 0.86)], (24, 24, 26), 0.035)
    elif item.kind == 'sign':
        line([(0.1, 0), (0.22, 1)], dark, 0.03)
        poly([(0.02, 0.06), (0.9, 0.06), (0.98, 1), (0.12, 1)], bright)
        poly([(0.1, 0.14), (0.84, 0.14), (0.91, 0.92), (0.18, 0.92)], (210, 214, 216))
        for y in (0.75, 0.6, 0.45, 0.3):
            line([(0.24, y), (0.55 + 0.25 * ((item.tone + int(y * 20)) % 2), y)], dark, 0.02)
    elif item.kind == 'hydrant':
        red = (44, 44, 160)
        poly([(0.2, 0), (0.8, 0), (0.75, 0.8), (0.25, 0.8)], red)
        poly([(0, 0.5), (1, 0.5), (1, 0.66), (0, 0.66)], shade(red, 0.75))
        ellipse(image, *to_pixels(0.5, 0.8), 0.06 * unit, 0.07 * unit, shade(red, 1.2))
    else:  # bollard
        poly([(0, 0), (1, 0), (0.9, 0.95), (0.1, 0.95)], dark)
        line([(0.05, 0.8), (0.95, 0.8)], (190, 200, 205), 0.04)
