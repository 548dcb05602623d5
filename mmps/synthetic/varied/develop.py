"""What air, lens, sensor and codec do to a picture."""

import random

import cv2
import numpy as np

from ..camera import expose
from .colours import hsv
from .textures import SIDE, coloured_noise
from .view import View

_NOISE = cv2.resize(coloured_noise(np.random.default_rng(7), 0.2).astype(np.float32), (SIDE, SIDE))


def develop(image: np.ndarray, view: View, rng: random.Random, noise: np.ndarray) -> np.ndarray:
    """Returns the picture that the camera takes: uint8 (H, W, 3) -> the same.

    Args:
        image: The scene.
        view: The camera.
        rng: Varies the picture from scene to scene.
        noise: From `noise_of`.
    """
    height, width = image.shape[:2]
    if view.haze:
        image = add_haze(image, view, rng)
    if view.time != 'day':
        image = light_lamps(image, view, rng)
    if view.motion and (length := round(view.motion * height)) > 1:
        image = cv2.blur(image, (length, 1))
    if view.detail < 1:
        small = cv2.resize(image, None, fx=view.detail, fy=view.detail, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    image = expose(image, view, rng, noise)
    if view.sharpening:
        soft = cv2.GaussianBlur(image, (0, 0), 1.2)
        image = cv2.addWeighted(image, 1 + view.sharpening, soft, -view.sharpening, 0)
    if view.interlaced:
        image[1::2] = np.roll(image[1::2], rng.choice((-1, 1)), axis=1)
    if view.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return image


def noise_of(view: View, height: int, width: int) -> np.ndarray:
    """Returns sensor noise in grey levels, float32 (H + 64, W + 64, 3): one colourless tile, repeated."""
    rows, columns = height + 64, width + 64
    repeated = np.tile(_NOISE * view.noise, (-(-rows // SIDE), -(-columns // SIDE)))[:rows, :columns]
    return cv2.merge([repeated] * 3)


def add_haze(image: np.ndarray, view: View, rng: random.Random) -> np.ndarray:
    """Blends far rows into a pale colour."""
    height = image.shape[0]
    rows = np.arange(height, dtype=np.float32) / height
    depth = np.clip((rows - view.horizon) / view.slope, 1e-3, None)
    cover = (view.haze * np.clip(view.far / depth, 0, 1))[:, None, None]
    pale = np.array(hsv(0.58, rng.uniform(0, 0.15), rng.uniform(0.6, 0.95)), np.float32)
    return (image * (1 - cover) + pale * cover).astype(np.uint8)


def light_lamps(image: np.ndarray, view: View, rng: random.Random) -> np.ndarray:
    """Darkens the scene but for pools of light, and adds lamps with their glow."""
    height, width = image.shape[:2]
    rows, columns = height // 8 + 1, width // 8 + 1
    ambient = rng.uniform(0.4, 0.7) if view.time == 'night' else rng.uniform(0.6, 0.9)
    light = np.full((rows, columns, 3), ambient, np.float32)
    glow = np.zeros((rows, columns, 3), np.float32)
    for _ in range(rng.randrange(1, 8)):
        x, y = rng.randrange(columns), rng.randrange(-rows // 3, rows)
        colour = np.array(hsv(rng.choice((0.1, 0.12, 0.55, rng.random())), rng.uniform(0, 0.5), 1.0), np.float32) / 255
        cv2.ellipse(
            light,
            (x, y),
            (int(rng.uniform(0.1, 0.5) * rows), int(rng.uniform(0.1, 0.4) * rows)),
            0,
            0,
            360,
            (colour * rng.uniform(0.8, 1.5)).tolist(),
            -1,
        )
        if rng.random() < 0.5:
            cv2.circle(glow, (x, y), max(1, int(rng.uniform(0.01, 0.05) * rows)), (colour * 255).tolist(), -1)
    light = cv2.GaussianBlur(light, (0, 0), 0.12 * rows)
    glow = glow + 2 * cv2.GaussianBlur(glow, (0, 0), 0.03 * rows)
    size = (width, height)
    return np.clip(image * cv2.resize(light, size) + cv2.resize(glow, size), 0, 255).astype(np.uint8)
