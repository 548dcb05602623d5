"""What a style is: how places, people and things look. Plans and files are the same in all styles."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import cv2
import numpy as np

from .camera import Camera
from .furniture import Item
from .look import Look
from .pose import Pose

AnyCamera = TypeVar('AnyCamera', bound=Camera)
Shown = tuple[tuple[slice, slice], np.ndarray]
PixelBox = tuple[int, int, int, int]  # x, y, w, h


class Style(ABC, Generic[AnyCamera]):
    """Draws the parts of a scene.

    Attributes:
        version: Increased when the same seed gives other bytes.
        min_visible: Share of a person that must be in the image and not hidden.
    """

    version: int
    min_visible: float

    @abstractmethod
    def make_camera(self, seed: int, index: int) -> AnyCamera:
        """Returns the camera with this index."""

    @abstractmethod
    def camera_furniture(self, seed: int, camera: AnyCamera, aspect: float) -> Sequence[Item]:
        """Returns the things that every scene of a camera shows. `aspect` is width / height of a scene."""

    @abstractmethod
    def scene_furniture(self, rng: random.Random, camera: AnyCamera, aspect: float) -> Sequence[Item]:
        """Returns the things of one scene alone."""

    @abstractmethod
    def draw_look(self, rng: random.Random) -> Look:
        """Returns a random look."""

    @abstractmethod
    def draw_pose(self, rng: random.Random, look: Look) -> Pose:
        """Returns a random pose."""

    @abstractmethod
    def ratio(self, look: Look, pose: Pose, camera: AnyCamera, depth: float) -> float:
        """Returns width / height of a person's box, where an average person has the height `depth`."""

    @abstractmethod
    def draw_place(self, seed: int, camera: AnyCamera, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what all scenes of a camera share: the empty place, uint8 (H, W, 3), BGR, and the sensor's noise."""

    @abstractmethod
    def light(self, image: np.ndarray, camera: AnyCamera, rng: random.Random) -> float:
        """Puts the light of one scene onto the empty place, in place. Returns the sun, which `draw_person` gets."""

    @abstractmethod
    def draw_item(self, image: np.ndarray, item: Item, camera: AnyCamera) -> None:
        """Draws a thing and its shadow, in place."""

    @abstractmethod
    def draw_person(
        self,
        image: np.ndarray,
        figure: PixelBox,
        depth: float,
        look: Look,
        pose: Pose,
        camera: AnyCamera,
        sun: float,
        rng: random.Random,
    ) -> Shown:
        """Draws a person into its box, and the shadow, in place.

        Returns:
            The part of the image that the box shows, and the person's alpha there.
        """

    @abstractmethod
    def expose(self, image: np.ndarray, camera: AnyCamera, rng: random.Random, noise: np.ndarray) -> np.ndarray:
        """Returns the picture that the camera takes."""


def paste(image: np.ndarray, sprite: np.ndarray, x: int, y: int, brightness: float) -> Shown:
    """Puts a sprite, (h, w, 4) with premultiplied alpha, into an image at (x, y), in place.

    Returns:
        The part of the image, and the sprite's alpha there.
    """
    left, top = max(0, x), max(0, y)
    right, bottom = min(image.shape[1], x + sprite.shape[1]), min(image.shape[0], y + sprite.shape[0])
    sprite = sprite[top - y : bottom - y, left - x : right - x]
    alpha = sprite[..., 3]
    colour = cv2.convertScaleAbs(sprite[..., :3], alpha=brightness)
    # Brightness must not lift a premultiplied colour above its alpha.
    cover = cv2.merge([alpha] * 3)
    shown = slice(top, bottom), slice(left, right)
    part = image[shown]
    part[:] = cv2.add(cv2.multiply(part, cv2.bitwise_not(cover), scale=1 / 255), cv2.min(colour, cover))
    return shown, alpha
