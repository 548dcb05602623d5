"""Things among the people: they hide parts of them, and some look like people."""

import random
from collections.abc import Callable

import numpy as np

from ..drawing import Colour, Point, circle, ellipse, polygon, polyline, shade, shadow
from ..furniture import SIZES, Item, draw_item
from ..seeds import weighted_choice
from .colours import bright_colour, cloth_colour, hsv, wall_colour
from .view import View

# Width and height of each kind, relative to a person at the same place, and how often it is drawn.
THINGS = {
    'car': (2.5, 0.85, 3),
    'cone': (0.24, 0.42, 1.5),
    'lamp': (0.12, 2.4, 2),
    'column': (0.3, 2.2, 1.5),
    'poster': (0.55, 1.3, 2),
    'dummy': (0.34, 1.0, 1),
    'tree': (0.9, 2.3, 2),
    'cypress': (0.4, 1.5, 1),
    'shrub': (0.8, 0.6, 1),
    'box': (0.5, 1.1, 2),
    'table': (0.6, 0.6, 1),
    'parasol': (1.4, 1.5, 0.7),
    'case': (0.26, 0.45, 1),
    'dog': (0.5, 0.36, 0.7),
    'barrier': (1.2, 0.6, 1),
    'motorbike': (1.1, 0.7, 2),
}
SIZES.update({kind: size[:2] for kind, size in THINGS.items()})
_CLASSIC = ('pole', 'bin', 'bench', 'planter', 'bike', 'sign', 'bollard')
_WEIGHTS = {kind: size[2] for kind, size in THINGS.items()} | dict.fromkeys(_CLASSIC, 0.8)

Fill = Callable[[list[Point], Colour], None]


def draw_things(rng: random.Random, view: View, aspect: float) -> list[Item]:
    """Returns the things of one scene: none to six."""
    count = rng.choice((0, 1, 1, 2, 2, 3, 4, 6))
    return [
        Item(weighted_choice(rng, _WEIGHTS), rng.uniform(0, aspect), view.random_depth(rng), rng.randrange(1 << 30))
        for _ in range(count)
    ]


def draw_thing(image: np.ndarray, item: Item, view: View) -> None:
    """Draws one thing and its shadow into a scene, in place."""
    if item.kind not in THINGS:
        draw_item(image, item, view)
        return
    rng = random.Random(item.tone)
    left, top, right, bottom = (v * image.shape[0] for v in item.box(view))
    unit = item.height * image.shape[0]
    shadow(image, (left + right) / 2, bottom, (right - left) * 0.6, unit * 0.05, (30, 30, 32), 0.5)

    def at(x: float, y: float) -> Point:
        """Turns (x from the left, y from the ground), both 0 to 1 within the box, into pixels."""
        return left + x * (right - left), bottom - y * (bottom - top)

    def fill(points: list[Point], colour: Colour) -> None:
        polygon(image, [at(*point) for point in points], colour)

    def blob(x: float, y: float, radius: float, colour: Colour) -> None:
        ellipse(image, *at(x, y), radius * unit, radius * unit, colour)

    colour = rng.choice((wall_colour, bright_colour, cloth_colour))(rng)
    dark, pale = shade(colour, 0.6), shade(colour, 1.35)
    if item.kind == 'car':
        draw_car(fill, blob, colour, rng)
    elif item.kind == 'cone':
        fill([(0.38, 1), (0.62, 1), (0.9, 0.08), (0.1, 0.08)], bright_colour(rng))
        fill([(0.28, 0.55), (0.72, 0.55), (0.78, 0.38), (0.22, 0.38)], (225, 225, 225))
        fill([(0, 0), (1, 0), (1, 0.1), (0, 0.1)], dark)
    elif item.kind in ('lamp', 'column'):
        wide = 0.3 if item.kind == 'lamp' else 0.9
        fill([(0.5 - wide / 2, 0), (0.5 + wide / 2, 0), (0.5 + wide / 2, 1), (0.5 - wide / 2, 1)], colour)
        fill([(0.5 - wide / 2, 0), (0.5 - wide / 6, 0), (0.5 - wide / 6, 1), (0.5 - wide / 2, 1)], pale)
        if item.kind == 'lamp':
            for _ in range(rng.randrange(0, 3)):
                blob(rng.uniform(0, 1), rng.uniform(0.4, 1), rng.uniform(0.05, 0.15), hsv(0.13, rng.uniform(0, 0.2), 1))
    elif item.kind == 'poster':
        fill([(0, 0.1), (1, 0.1), (1, 1), (0, 1)], dark)
        fill([(0.06, 0.15), (0.94, 0.15), (0.94, 0.96), (0.06, 0.96)], colour)
        for _ in range(rng.randrange(2, 6)):  # blocks of print, and half of the time somebody's head and shoulders
            x, y = rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.8)
            fill([(x, y), (x + 0.3, y), (x + 0.3, y + 0.08), (x, y + 0.08)], bright_colour(rng))
        if rng.random() < 0.5:
            fill([(0.2, 0.2), (0.8, 0.2), (0.72, 0.55), (0.28, 0.55)], cloth_colour(rng))
            blob(0.5, 0.65, 0.13, hsv(0.06, 0.4, 0.8))
    elif item.kind == 'dummy':
        figure = rng.choice((hsv(0.1, 0.1, 0.9), (40, 40, 42), (150, 150, 152)))
        fill([(0.1, 0.8), (0.9, 0.8), (0.7, 0.45), (0.3, 0.45)], figure)
        fill([(0.44, 0), (0.56, 0), (0.56, 0.5), (0.44, 0.5)], shade(figure, 0.5))
        if rng.random() < 0.4:
            blob(0.5, 0.9, 0.07, figure)
    elif item.kind in ('tree', 'cypress', 'shrub'):
        draw_plant(fill, blob, item.kind, rng)
    elif item.kind in ('box', 'table', 'barrier'):
        if item.kind == 'box':
            fill([(0, 0), (1, 0), (1, 1), (0, 1)], colour)
            fill([(0.7, 0), (1, 0), (1, 1), (0.7, 1)], dark)
            fill([(0.1, 0.4), (0.6, 0.4), (0.6, 0.9), (0.1, 0.9)], bright_colour(rng))
        else:
            for x in (0.08, 0.48, 0.88) if item.kind == 'barrier' else (0.46,):
                fill([(x, 0), (x + 0.06, 0), (x + 0.06, 1), (x, 1)], dark)
            fill([(0, 0.86), (1, 0.86), (0.95, 1), (0.05, 1)], pale)
            if item.kind == 'barrier':
                fill([(0, 0.4), (1, 0.4), (1, 0.52), (0, 0.52)], colour)
    elif item.kind == 'parasol':
        fill([(0.48, 0), (0.52, 0), (0.52, 1), (0.48, 1)], dark)
        fill([(0, 0.68), (1, 0.68), (0.5, 1)], colour)
        fill([(0.35, 0.68), (0.65, 0.68), (0.5, 1)], pale)
    elif item.kind == 'case':
        fill([(0, 0.06), (1, 0.06), (1, 0.7), (0, 0.7)], colour)
        polyline(image, [at(0.3, 0.7), at(0.3, 1), at(0.7, 1), at(0.7, 0.7)], dark, 0.02 * unit)
    elif item.kind == 'motorbike':
        for x in (0.16, 0.84):
            blob(x, 0.28, 0.18, (24, 24, 26))
            blob(x, 0.28, 0.08, (120, 120, 122))
        fill([(0.2, 0.3), (0.75, 0.3), (0.86, 0.75), (0.6, 0.85), (0.5, 0.6), (0.12, 0.68)], colour)
        fill([(0.1, 0.66), (0.5, 0.6), (0.48, 0.74), (0.08, 0.8)], (26, 26, 28))
        polyline(image, [at(0.84, 0.3), at(0.72, 0.95), at(0.62, 1)], dark, 0.04 * unit)
        blob(0.8, 0.78, 0.05, hsv(0.14, 0.15, 0.9))
    else:  # dog
        fur = hsv(0.08, rng.uniform(0, 0.6), rng.uniform(0.1, 0.9))
        for x in (0.2, 0.3, 0.68, 0.78):
            fill([(x, 0), (x + 0.07, 0), (x + 0.08, 0.5), (x - 0.02, 0.5)], shade(fur, 0.8))
        fill([(0.12, 0.4), (0.8, 0.4), (0.82, 0.8), (0.1, 0.75)], fur)
        circle(image, *at(0.88, 0.85), 0.05 * unit, fur, 0.06 * unit)


def draw_car(fill: Fill, blob: Callable[..., None], colour: Colour, rng: random.Random) -> None:
    """Draws a car from the side, or from the front, which is narrower."""
    glass = hsv(0.58, 0.2, rng.uniform(0.1, 0.5))
    if rng.random() < 0.6:
        fill([(0, 0.15), (1, 0.15), (0.99, 0.55), (0.8, 0.62), (0.66, 1), (0.28, 1), (0.14, 0.62), (0.01, 0.5)], colour)
        fill([(0.2, 0.62), (0.46, 0.62), (0.46, 0.94), (0.31, 0.94)], glass)
        fill([(0.49, 0.62), (0.75, 0.62), (0.63, 0.94), (0.49, 0.94)], glass)
        for x in (0.2, 0.8):
            blob(x, 0.16, 0.15, (24, 24, 26))
            blob(x, 0.16, 0.07, (130, 130, 132))
    else:
        fill([(0.18, 0.08), (0.82, 0.08), (0.84, 0.6), (0.72, 1), (0.28, 1), (0.16, 0.6)], colour)
        fill([(0.26, 0.62), (0.74, 0.62), (0.68, 0.94), (0.32, 0.94)], glass)
        fill([(0.4, 0.3), (0.6, 0.3), (0.6, 0.42), (0.4, 0.42)], shade(colour, 0.5))
        for x in (0.25, 0.75):
            blob(x, 0.4, 0.06, hsv(0.14, 0.15, 0.95))
            blob(x, 0.08, 0.08, (24, 24, 26))


def draw_plant(fill: Fill, blob: Callable[..., None], kind: str, rng: random.Random) -> None:
    """Draws a tree with a round crown, a narrow conifer or a shrub."""
    green = hsv(rng.gauss(0.28, 0.05), rng.uniform(0.25, 0.8), rng.uniform(0.15, 0.6))
    low, high, wide, radius = {
        'tree': (0.5, 0.95, 0.35, 0.2),
        'cypress': (0.05, 1, 0.4, 0.2),
        'shrub': (0.1, 0.85, 0.4, 0.14),
    }[kind]
    if kind == 'tree':
        fill([(0.44, 0), (0.56, 0), (0.53, 0.7), (0.47, 0.7)], hsv(0.08, 0.4, rng.uniform(0.15, 0.45)))
    for _ in range(60 if kind == 'cypress' else 30):
        up = rng.random()
        reach = wide * (1 - up if kind == 'cypress' else 1)
        leaves = shade(green, rng.uniform(0.6, 1.5))
        blob(0.5 + rng.uniform(-reach, reach), low + (high - low) * up, radius * rng.uniform(0.3, 0.8), leaves)
    if rng.random() < 0.2:  # in flower
        flowers = hsv(rng.random(), 0.4, 0.95)
        for _ in range(20):
            blob(0.5 + rng.uniform(-wide, wide), rng.uniform(low, high), radius * 0.12, flowers)
