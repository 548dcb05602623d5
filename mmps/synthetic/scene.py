"""Draws a planned scene."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from .background import draw_background
from .camera import expose, make_camera, noise_tile
from .figure import draw_figure
from .furniture import draw_item, ellipse, polygon
from .plan import look_of
from .seeds import RENDER, stream
from .size import Size


@dataclass
class Studio:
    """What scenes of one data set share, made when first needed: places, cameras and their noise."""

    size: Size
    seed: int
    _sets: dict = field(default_factory=dict)

    def get(self, index):
        """(Camera, background, noise) of a camera index."""
        if index not in self._sets:
            camera = make_camera(self.seed, index)
            self._sets[index] = (
                camera,
                draw_background(self.seed, camera, self.size.height, self.size.width),
                noise_tile(self.seed, camera, self.size.height, self.size.width),
            )
        return self._sets[index]


def render_scene(scene, studio, owner=None):
    """Draw one scene.

    Args:
        scene (Scene): From a plan.
        studio (Studio): Of the same data set.
        owner (np.ndarray): If given, int (H, W): set to 1 + the position in `scene.persons` of whom a pixel shows; left
            alone where it shows nobody, 0 where furniture stands, which counts as its whole box.

    Returns:
        np.ndarray: uint8 (H, W, 3), BGR.
    """
    camera, background, tile = studio.get(scene.camera)
    rng = stream(studio.seed, RENDER, scene.index)
    image = background.copy()
    _cast_shade(image, rng)
    queue = [(person.depth, k, person) for k, person in enumerate(scene.persons)]
    queue += [(item.height, -1, item) for item in scene.furniture]
    # Far things first: whoever is nearer covers them.
    for _, k, thing in sorted(queue, key=lambda entry: entry[:2]):
        if k < 0:
            draw_item(image, thing, camera)
            if owner is not None:
                left, top, right, bottom = (max(0, round(v * studio.size.height)) for v in thing.box(camera))
                owner[top:bottom, left:right] = 0
        else:
            look = look_of(studio.seed, scene, thing)
            _draw_person(image, thing, look, camera.light, rng.uniform(0.72, 1.12), k, owner)
    return expose(image, camera, rng, tile)


def encode(image, camera):
    """JPEG bytes of a scene at its camera's quality."""
    done, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, camera.quality])
    if not done:
        raise RuntimeError('OpenCV cannot encode JPEG')
    return data.tobytes()


def _cast_shade(image, rng):
    """The time of day: sometimes a building's shade falls across the place."""
    if rng.random() < 0.5:
        return
    height, width = image.shape[:2]
    mask = np.full((height // 4 + 1, width // 4 + 1), 255, np.uint8)
    a, b = rng.uniform(-0.2, 1.0) * mask.shape[1], rng.uniform(0.3, 1.0) * mask.shape[1]
    lean = rng.uniform(-0.4, 0.4) * mask.shape[1]
    polygon(mask, [(a, 0), (a + b, 0), (a + b + lean, mask.shape[0]), (a + lean, mask.shape[0])], 170)
    mask = cv2.resize(cv2.GaussianBlur(mask, (0, 0), 2), (width, height))
    cv2.multiply(image, cv2.merge([mask] * 3), dst=image, scale=1 / 255)


def _draw_person(image, person, look, light, brightness, position, owner):
    x, y, w, h = person.figure
    # Half as fine as a small figure's canvas is enough for a large one.
    scale = min(2.0 * h, max(300.0, 1.4 * h))
    sprite = draw_figure(look, person.pose, scale, light)
    sprite = cv2.resize(sprite, (w, h), interpolation=cv2.INTER_AREA)
    for shift, wide, dark in ((0.0, 0.13, 0.6), (-0.1 * light, 0.2, 0.35)):
        ellipse(image, x + w / 2 + shift * h, y + h - 0.012 * h, wide * h, 0.035 * h, (30, 28, 28), dark)
    left, top = max(0, x), max(0, y)
    right, bottom = min(image.shape[1], x + w), min(image.shape[0], y + h)
    sprite = sprite[top - y : bottom - y, left - x : right - x]
    alpha = sprite[..., 3]
    colour = cv2.convertScaleAbs(sprite[..., :3], alpha=brightness)
    # A bright light must not lift a premultiplied rim above its alpha.
    cover = cv2.merge([alpha] * 3)
    part = image[top:bottom, left:right]
    part[:] = cv2.add(cv2.multiply(part, cv2.bitwise_not(cover), scale=1 / 255), cv2.min(colour, cover))
    if owner is not None:
        owner[top:bottom, left:right][alpha > 127] = position + 1
