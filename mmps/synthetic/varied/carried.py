"""What a person holds, pushes or rides: an umbrella, a pram, a suitcase, a bicycle, a dog on a lead."""

import math
import random
from dataclasses import replace

import numpy as np

from ..drawing import Colour, Point, circle, ellipse, polygon, polyline, shade
from ..pose import Pose
from ..seeds import weighted_choice
from ..style import PixelBox
from .colours import bright_colour, cloth_colour, hsv

_KINDS = {'': 85, 'umbrella': 3, 'pram': 3, 'case': 3, 'bicycle': 4, 'dog': 2}
_TYRE = (28, 28, 30)


def give(rng: random.Random, pose: Pose) -> Pose:
    """Returns the pose with something to hold, push or ride, mostly nothing."""
    kind = '' if pose.sit else weighted_choice(rng, _KINDS)
    if kind == 'umbrella':
        return replace(pose, carried=kind, arms=((0.35, 1.9), (0.0, 0.3)), phone=0)
    if kind == 'pram':
        return replace(pose, carried=kind, arms=((0.7, 0.8), (0.7, 0.8)), phone=0)
    if kind == 'bicycle':
        return replace(pose, carried=kind, sit=rng.uniform(0.7, 1.1), arms=((1.0, 0.3), (1.0, 0.3)), phone=0)
    return replace(pose, carried=kind)


def draw_carried(image: np.ndarray, pose: Pose, figure: PixelBox, unit: float, rng: random.Random) -> None:
    """Draws it in front of the person, in place. It is no part of the person's box.

    Args:
        image: uint8 (H, W, 3).
        pose: The person's pose, which names it.
        figure: x, y, w, h of the person, in pixels.
        unit: Height of the upright person, in pixels.
        rng: Picks the colours.
    """
    x, y, w, h = figure
    middle, ground, ahead, dark = x + w / 2, y + h, math.sin(pose.yaw), (40, 40, 42)
    side = max(abs(ahead), 0.25)  # how much of its length is seen
    colour = rng.choice((bright_colour, cloth_colour))(rng)

    def at(forward: float, up: float) -> Point:
        """Turns body heights in the direction of the person, and above the ground, into pixels."""
        return middle + forward * math.copysign(side, ahead) * unit, ground - up * unit

    def wheel(forward: float, radius: float, width: float) -> None:
        centre = at(forward, radius)
        if side > 0.5:
            circle(image, *centre, radius * unit, _TYRE, width * unit)
        else:
            ellipse(image, *centre, max(0.03, radius * side * 0.5) * unit, radius * unit, _TYRE)

    if pose.carried == 'umbrella':
        draw_umbrella(image, middle + 0.1 * ahead * unit, ground - unit * rng.uniform(1.0, 1.12), unit, colour)
    elif pose.carried == 'pram':
        basket = [at(0.3, 0.2), at(0.75, 0.2), at(0.85, 0.45), at(0.25, 0.45)]
        polyline(image, [at(0.15, 0.55), at(0.3, 0.4), at(0.75, 0.1)], dark, 0.02 * unit)
        polygon(image, basket, colour)
        polygon(image, [at(0.55, 0.45), at(0.85, 0.45), at(0.8, 0.62), at(0.6, 0.65)], shade(colour, 0.7))
        for forward in (0.32, 0.75):
            wheel(forward, 0.09, 0.03)
    elif pose.carried == 'case':
        polyline(image, [at(-0.15, 0.45), at(-0.28, 0.35), at(-0.3, 0.3)], dark, 0.02 * unit)
        polygon(image, [at(-0.2, 0.02), at(-0.45, 0.02), at(-0.45, 0.34), at(-0.2, 0.34)], colour)
    elif pose.carried == 'bicycle':
        for forward in (-0.28, 0.34):
            wheel(forward, 0.18, 0.025)
        polyline(image, [at(-0.28, 0.18), at(-0.1, 0.42), at(0.25, 0.42), at(0.34, 0.18)], colour, 0.025 * unit)
        polyline(image, [at(-0.28, 0.18), at(0.03, 0.18), at(0.25, 0.42)], colour, 0.02 * unit)
        polyline(image, [at(0.25, 0.42), at(0.22, 0.55), at(0.28, 0.56)], dark, 0.02 * unit)
    elif pose.carried == 'dog':
        fur = hsv(0.08, rng.uniform(0, 0.6), rng.uniform(0.1, 0.9))
        polyline(image, [at(0.1, 0.42), at(0.5, 0.28)], dark, 0.01 * unit)
        for forward in (0.36, 0.56):
            polygon(image, [at(forward, 0), at(forward + 0.03, 0), at(forward + 0.04, 0.2), at(forward, 0.2)], shade(fur, 0.8))
        polygon(image, [at(0.33, 0.15), at(0.6, 0.15), at(0.62, 0.28), at(0.32, 0.27)], fur)
        circle(image, *at(0.64, 0.29), 0.03 * unit, fur, 0.04 * unit)


def draw_umbrella(image: np.ndarray, x: float, y: float, unit: float, colour: Colour) -> None:
    """Draws an open umbrella whose tip is a little above (x, y), in pixels."""
    polyline(image, [(x, y), (x, y + 0.55 * unit)], (60, 60, 62), 0.015 * unit)
    angles = np.linspace(math.pi, 2 * math.pi, 13)
    rim = [(x + 0.32 * unit * math.cos(a), y + 0.12 * unit + 0.22 * unit * math.sin(a)) for a in angles]
    polygon(image, rim, colour)
    polygon(image, [*rim[4:9], (x, y + 0.12 * unit)], shade(colour, 1.25))
