"""A viewpoint: where a camera hangs, what it looks at, at what time, and what it does to light.

Vertical positions are in scene heights from the top, distances on the ground in body heights.
"""

import math
import random
from dataclasses import dataclass

from ..camera import Camera
from ..seeds import CAMERA, stream, weighted_choice

PLACES = {'street': 4, 'square': 3, 'park': 1.5, 'room': 2, 'collage': 1.5}
TIMES = {'day': 6, 'dusk': 2, 'night': 2}


@dataclass(frozen=True)
class View(Camera):
    """A camera at any height, with any lens."""

    shortest: float = 0.02
    tries: int = 96
    far: float = 0.1  # heights of the farthest and nearest average person, in scene heights
    near: float = 0.6
    focal: float = 1.5  # focal length in scene heights
    place: str = 'street'
    time: str = 'day'
    sociable: float = 0.4  # share of the people who stand beside somebody
    motion: float = 0.0  # length of the motion blur, in scene heights
    detail: float = 1.0  # share of the resolution that the lens and the codec leave
    haze: float = 0.0
    sharpening: float = 0.0
    interlaced: bool = False
    grey: bool = False

    def random_depth(self, rng: random.Random) -> float:
        return self.far * (self.near / self.far) ** (rng.random() ** 1.3)

    def tilt(self, depth: float) -> float:
        """Returns the angle at which the camera looks down at a person of this height (in scene heights), in radians."""
        return min(math.atan((self.slope - 0.5) * depth / self.focal), 1.0)

    def distance(self, depth: float) -> float:
        """Returns the distance on the ground, in body heights, at which an average person has this height."""
        return self.focal / depth


def make_view(seed: int, index: int) -> View:
    """Returns the view with this index."""
    rng = stream(seed, CAMERA, index, 3)
    kind = weighted_choice(rng, {'eye': 3, 'raised': 3, 'high': 3})
    horizon, slope = {
        'eye': lambda: (rng.uniform(0.15, 0.5), rng.uniform(0.8, 1.3)),
        'raised': lambda: (rng.uniform(-0.15, 0.3), rng.uniform(1.4, 3.0)),
        'high': lambda: (rng.uniform(-1.6, -0.1), rng.uniform(2.5, 8.0)),
    }[kind]()
    # The nearest people stand somewhere between the middle and below the lower border.
    near = min(max((rng.uniform(0.75, 1.25) - horizon) / slope, 0.1), 1.2)
    far = max(near * rng.uniform(0.08, 0.5), (0.02 - horizon) / (slope - 0.5), 0.02)  # half of a body is in the picture
    warm, tint = rng.gauss(0, 0.08), rng.gauss(0, 0.03)
    time = weighted_choice(rng, TIMES)
    dark = {'day': 0.0, 'dusk': 0.3, 'night': 0.8}[time]
    return View(
        index=index,
        horizon=horizon,
        slope=slope,
        gain=(1 - warm - 0.05 * dark, 1 + tint, 1 + warm + 0.1 * dark),
        gamma=rng.uniform(0.7, 1.35) + 0.2 * dark,
        contrast=rng.uniform(0.7, 1.2),
        saturation=rng.uniform(0.4, 1.3),
        blur=rng.choice((0.0, 0.0, rng.uniform(0.2, 1.6))),
        noise=rng.uniform(0.5, 6.0) + 4 * dark,
        quality=rng.randrange(35, 96),
        light=rng.choice((-1, 1)) * rng.uniform(0.2, 1.0),
        far=min(far, 0.8 * near),
        near=near,
        focal=rng.uniform(0.9, 2.6),
        place=weighted_choice(rng, PLACES),
        time=time,
        sociable=rng.uniform(0.1, 0.7),
        motion=rng.choice((0.0, 0.0, 0.0, rng.uniform(0.002, 0.01))),
        detail=rng.choice((1.0, 1.0, rng.uniform(0.35, 0.9))),
        haze=rng.choice((0.0, 0.0, rng.uniform(0.05, 0.5))),
        sharpening=rng.choice((0.0, rng.uniform(0.2, 1.2))),
        interlaced=rng.random() < 0.04,
        grey=rng.random() < 0.03,
    )
