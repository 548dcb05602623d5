"""The classic style: people of a quarter to two thirds of the scene's height, before streets and parks of flat colours."""

import random
from collections.abc import Sequence

import cv2
import numpy as np

from .background import draw_background
from .camera import Camera, expose, make_camera, noise_tile
from .drawing import polygon, shadow
from .figure import draw_figure
from .furniture import Item, draw_item
from .look import Look, draw_look
from .placement import camera_furniture, scene_furniture
from .pose import Pose, aspect, draw_pose
from .style import PixelBox, Shown, Style, paste


class Classic(Style[Camera]):
    """Draws the classic style."""

    version = 1
    min_visible = 0.5

    def make_camera(self, seed: int, index: int) -> Camera:
        return make_camera(seed, index)

    def camera_furniture(self, seed: int, camera: Camera, aspect: float) -> Sequence[Item]:
        return camera_furniture(seed, camera, aspect)

    def scene_furniture(self, rng: random.Random, camera: Camera, aspect: float) -> Sequence[Item]:
        return scene_furniture(rng, aspect)

    def draw_look(self, rng: random.Random) -> Look:
        return draw_look(rng)

    def draw_pose(self, rng: random.Random, look: Look) -> Pose:
        return draw_pose(rng, look)

    def ratio(self, look: Look, pose: Pose, camera: Camera, depth: float) -> float:
        return aspect(look, pose)

    def draw_place(self, seed: int, camera: Camera, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_background(seed, camera, height, width), noise_tile(seed, camera, height, width)

    def light(self, image: np.ndarray, camera: Camera, rng: random.Random) -> float:
        shade_ground(image, rng)
        return 0.0

    def draw_item(self, image: np.ndarray, item: Item, camera: Camera) -> None:
        draw_item(image, item, camera)

    def draw_person(
        self,
        image: np.ndarray,
        figure: PixelBox,
        depth: float,
        look: Look,
        pose: Pose,
        camera: Camera,
        sun: float,
        rng: random.Random,
    ) -> Shown:
        x, y, w, h = figure
        # Small figures are drawn at twice their size, large ones at 1.4 times, which is enough for smooth edges.
        scale = min(2.0 * h, max(300.0, 1.4 * h))
        brightness = rng.uniform(0.72, 1.12)
        sprite = draw_figure(look, pose, scale, camera.light)
        sprite = cv2.resize(sprite, (w, h), interpolation=cv2.INTER_AREA)
        for shift, width, opacity in ((0.0, 0.13, 0.6), (-0.1 * camera.light, 0.2, 0.35)):
            shadow(image, x + w / 2 + shift * h, y + h - 0.012 * h, width * h, 0.035 * h, (30, 28, 28), opacity)
        return paste(image, sprite, x, y, brightness)

    def expose(self, image: np.ndarray, camera: Camera, rng: random.Random, noise: np.ndarray) -> np.ndarray:
        return expose(image, camera, rng, noise)


def shade_ground(image: np.ndarray, rng: random.Random) -> None:
    """Darkens a slanted stripe, as the shadow of a building, in half of the scenes."""
    if rng.random() < 0.5:
        return
    height, width = image.shape[:2]
    mask = np.full((height // 4 + 1, width // 4 + 1), 255, np.uint8)
    left, stripe = rng.uniform(-0.2, 1.0) * mask.shape[1], rng.uniform(0.3, 1.0) * mask.shape[1]
    lean = rng.uniform(-0.4, 0.4) * mask.shape[1]
    bottom = mask.shape[0]
    polygon(mask, [(left, 0), (left + stripe, 0), (left + stripe + lean, bottom), (left + lean, bottom)], 170)
    mask = cv2.resize(cv2.GaussianBlur(mask, (0, 0), 2), (width, height))
    cv2.multiply(image, cv2.merge([mask] * 3), dst=image, scale=1 / 255)
