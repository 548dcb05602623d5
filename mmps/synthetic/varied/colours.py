"""Random colours. All are BGR."""

import colorsys
import random

from ..drawing import Colour


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Returns a colour from hue, saturation and value, each 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return round(255 * blue), round(255 * green), round(255 * red)


def wall_colour(rng: random.Random) -> Colour:
    """Returns a colour of buildings and floors: mostly warm or cold greys."""
    hue = rng.choice((rng.gauss(0.08, 0.03), rng.gauss(0.6, 0.05), rng.random()))
    return hsv(hue, abs(rng.gauss(0, 0.18)), rng.uniform(0.25, 0.92))


def bright_colour(rng: random.Random) -> Colour:
    """Returns a colour of signs, cars and awnings."""
    return hsv(rng.random(), rng.uniform(0.5, 1), rng.uniform(0.4, 1))


def cloth_colour(rng: random.Random, bright: float = 0.3) -> Colour:
    """Returns a colour of clothes: dark or grey, denim and beige, or with the probability `bright` anything."""
    kind = rng.random()
    if kind < bright:
        return hsv(rng.random(), rng.uniform(0.35, 0.95), rng.uniform(0.25, 0.95))
    kind = (kind - bright) / (1 - bright)
    if kind < 0.45:
        return hsv(rng.random(), rng.uniform(0, 0.2), rng.uniform(0.08, 0.3))
    if kind < 0.62:
        return hsv(rng.random(), rng.uniform(0, 0.08), rng.uniform(0.75, 0.97))
    if kind < 0.76:
        return hsv(rng.random(), rng.uniform(0, 0.1), rng.uniform(0.3, 0.75))
    if kind < 0.9:
        return hsv(rng.gauss(0.61, 0.03), rng.uniform(0.25, 0.7), rng.uniform(0.2, 0.65))
    return hsv(rng.gauss(0.09, 0.02), rng.uniform(0.15, 0.5), rng.uniform(0.45, 0.85))
