"""Draws a planned scene."""

import random
from dataclasses import dataclass, field

import cv2
import numpy as np

from .background import draw_background
from .camera import Camera, expose, make_camera, noise_tile
from .drawing import polygon, shadow
from .figure import draw_figure
from .furniture import draw_item
from .look import Look
from .plan import Person, Scene, look_of
from .seeds import RENDER, stream
from .size import Size


@dataclass
class Studio:
    """Makes and keeps what all scenes of a camera share. Each camera's share is made when it is first needed."""

    size: Size
    seed: int
    _shared: dict[int, tuple[Camera, np.ndarray, np.ndarray]] = field(default_factory=dict)

    def get(self, index: int) -> tuple[Camera, np.ndarray, np.ndarray]:
        """Returns camera, background and noise tile of a camera index."""
        if index not in self._shared:
            camera = make_camera(self.seed, index)
            self._shared[index] = (
                camera,
                draw_background(self.seed, camera, self.size.height, self.size.width),
                noise_tile(self.seed, camera, self.size.height, self.size.width),
            )
        return self._shared[index]


def render_scene(scene: Scene, studio: Studio, owner: np.ndarray | None = None) -> np.ndarray:
    """Draws one scene.

    Args:
        scene: A scene of a plan.
        studio: The studio of the same data set.
        owner: If given, int (H, W). It is set to 1 + the position in `scene.persons` where a pixel shows that person, and
            to 0 in the box of furniture that is in front. Other pixels are not changed.

    Returns:
        uint8 (H, W, 3), BGR.
    """
    camera, background, tile = studio.get(scene.camera)
    rng = stream(studio.seed, RENDER, scene.index)
    image = background.copy()
    _shade_ground(image, rng)
    # Far things first, so that nearer ones cover them; furniture comes before people of the same depth.
    people = [(person.depth, k) for k, person in enumerate(scene.persons)]
    furniture = [(item.height, k - len(scene.furniture)) for k, item in enumerate(scene.furniture)]
    for _, k in sorted(people + furniture):
        if k < 0:
            item = scene.furniture[k]
            draw_item(image, item, camera)
            if owner is not None:
                left, top, right, bottom = (max(0, round(v * studio.size.height)) for v in item.box(camera))
                owner[top:bottom, left:right] = 0
        else:
            person = scene.persons[k]
            look = look_of(studio.seed, scene, person)
            shown, alpha = _draw_person(image, person, look, camera.light, rng.uniform(0.72, 1.12))
            if owner is not None:
                owner[shown][alpha > 127] = k + 1
    return expose(image, camera, rng, tile)


def render_jpeg(scene: Scene, studio: Studio) -> bytes:
    """Draws one scene and encodes it as JPEG, at the camera's quality."""
    quality = studio.get(scene.camera)[0].quality
    done, data = cv2.imencode('.jpg', render_scene(scene, studio), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError('OpenCV cannot encode JPEG')
    return data.tobytes()


def _shade_ground(image: np.ndarray, rng: random.Random) -> None:
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


def _draw_person(
    image: np.ndarray, person: Person, look: Look, light: float, brightness: float
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Draws a person and the shadow at its feet, in place. Returns the part of the image and the person's alpha there."""
    x, y, w, h = person.figure
    # Small figures are drawn at twice their size, large ones at 1.4 times, which is enough for smooth edges.
    scale = min(2.0 * h, max(300.0, 1.4 * h))
    sprite = draw_figure(look, person.pose, scale, light)
    sprite = cv2.resize(sprite, (w, h), interpolation=cv2.INTER_AREA)
    for shift, width, opacity in ((0.0, 0.13, 0.6), (-0.1 * light, 0.2, 0.35)):
        shadow(image, x + w / 2 + shift * h, y + h - 0.012 * h, width * h, 0.035 * h, (30, 28, 28), opacity)
    left, top = max(0, x), max(0, y)
    right, bottom = min(image.shape[1], x + w), min(image.shape[0], y + h)
    sprite = sprite[top - y : bottom - y, left - x : right - x]
    alpha = sprite[..., 3]
    colour = cv2.convertScaleAbs(sprite[..., :3], alpha=brightness)
    # Brightness must not lift a premultiplied colour above its alpha.
    cover = cv2.merge([alpha] * 3)
    shown = slice(top, bottom), slice(left, right)
    part = image[shown]
    part[:] = cv2.add(cv2.multiply(part, cv2.bitwise_not(cover), scale=1 / 255), cv2.min(colour, cover))
    return shown, alpha
