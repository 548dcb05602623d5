"""The varied style: people of 20 to 700 pixels, alone or in crowds, anywhere, at any time, before any camera.

It is not meant to look real. Every property is drawn from a wide distribution, so that real pictures lie within it (domain
randomization, Tobin et al., IROS 2017).
"""

import random
from collections.abc import Sequence

import numpy as np

from ..furniture import Item
from ..look import Look
from ..pose import Pose
from ..style import PixelBox, Shown, Style
from .develop import develop, noise_of
from .people import draw_person, draw_varied_look, draw_varied_pose, ratio
from .place import draw_place
from .things import draw_thing, draw_things
from .view import View, make_view


class Varied(Style[View]):
    """Draws the varied style."""

    version = 2
    min_visible = 0.3

    def make_camera(self, seed: int, index: int) -> View:
        return make_view(seed, index)

    def camera_furniture(self, seed: int, camera: View, aspect: float) -> Sequence[Item]:
        return ()

    def scene_furniture(self, rng: random.Random, camera: View, aspect: float) -> Sequence[Item]:
        return draw_things(rng, camera, aspect)

    def draw_look(self, rng: random.Random) -> Look:
        return draw_varied_look(rng)

    def draw_pose(self, rng: random.Random, look: Look) -> Pose:
        return draw_varied_pose(rng, look)

    def ratio(self, look: Look, pose: Pose, camera: View, depth: float) -> float:
        return ratio(look, pose, camera, depth)

    def draw_place(self, seed: int, camera: View, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_place(seed, camera, height, width), noise_of(camera, height, width)

    def light(self, image: np.ndarray, camera: View, rng: random.Random) -> float:
        if camera.time != 'day' or rng.random() < 0.5:
            return 0.0
        return rng.choice((-1, 1)) * rng.uniform(0.2, 1.2)

    def draw_item(self, image: np.ndarray, item: Item, camera: View) -> None:
        draw_thing(image, item, camera)

    def draw_person(
        self,
        image: np.ndarray,
        figure: PixelBox,
        depth: float,
        look: Look,
        pose: Pose,
        camera: View,
        sun: float,
        rng: random.Random,
    ) -> Shown:
        return draw_person(image, figure, depth, look, pose, camera, sun, rng)

    def expose(self, image: np.ndarray, camera: View, rng: random.Random, noise: np.ndarray) -> np.ndarray:
        return develop(image, camera, rng, noise)
