"""The empty place that a camera looks at. It is drawn once per camera; people and furniture are drawn over it."""

import random

import cv2
import numpy as np

from .camera import Camera
from .drawing import ellipse, polygon, polyline, rectangle, shade
from .seeds import CAMERA, array_stream, stream

_WALLS = ((150, 160, 172), (120, 138, 160), (96, 104, 128), (172, 176, 178), (110, 110, 112), (140, 164, 184), (92, 84, 76))
_GROUNDS = ((132, 136, 138), (118, 122, 128), (140, 150, 160), (104, 106, 110), (126, 140, 152))
_SIGNS = ((60, 60, 160), (150, 90, 40), (60, 120, 70), (40, 150, 190), (40, 40, 44), (190, 190, 196))


def draw_background(seed: int, camera: Camera, height: int, width: int) -> np.ndarray:
    """Draws sky, buildings or a park, and the ground.

    Args:
        seed: The data set's seed.
        camera: The camera that sees the place.
        height: In pixels.
        width: In pixels.

    Returns:
        uint8 (height, width, 3), BGR.
    """
    rng = stream(seed, CAMERA, camera.index, 1)
    image = np.empty((height, width, 3), np.uint8)
    horizon = int(camera.horizon * height)
    # Walls reach below the horizon. The ground that people walk on begins at their foot.
    foot = int((camera.horizon + camera.slope * 0.16) * height)
    _draw_sky(image, rng, horizon)
    if rng.random() < 0.6:
        draw_skyline(image, rng, horizon, foot)
    style = ('shops', 'houses', 'park')[camera.index % 3]
    if style == 'park':
        draw_park(image, rng, horizon, foot)
    else:
        draw_houses(image, rng, foot, shops=style == 'shops')
    _draw_ground(image, rng, camera, foot)
    for _ in range(rng.randrange(0, 3)):
        _draw_tree(image, rng, rng.uniform(0, width), foot + rng.uniform(0.0, 0.05) * height, height * rng.uniform(0.4, 0.6))
    noise = array_stream(seed, CAMERA, camera.index, 1).standard_normal((height // 2 + 1, width // 2 + 1), np.float32)
    grain = cv2.resize(cv2.GaussianBlur(noise, (0, 0), 1.0) * 12, (width, height))
    return np.clip(image + grain[..., None], 0, 255).astype(np.uint8)


def _draw_sky(image: np.ndarray, rng: random.Random, horizon: int) -> None:
    zenith, bottom = rng.choice(
        (((214, 176, 130), (232, 222, 208)), ((206, 204, 202), (222, 222, 222)), ((196, 170, 150), (206, 214, 226)))
    )
    part = np.linspace(0, 1, max(horizon, 1), dtype=np.float32)[:, None, None]
    image[:] = bottom
    image[: len(part)] = np.array(zenith) * (1 - part) + np.array(bottom) * part


def draw_skyline(image: np.ndarray, rng: random.Random, horizon: int, foot: int) -> None:
    """Draws distant buildings as plain blocks."""
    height, width = image.shape[:2]
    x = 0.0
    while x < width:
        step = rng.uniform(0.1, 0.25) * height
        top = horizon - rng.uniform(0.05, 0.9) * horizon
        rectangle(image, x, top, x + step, foot, shade((196, 190, 184), rng.uniform(0.85, 1.05)))
        x += step


def draw_houses(image: np.ndarray, rng: random.Random, foot: int, shops: bool) -> None:
    """Draws a row of houses: windows above; below, shop windows, or doors and windows."""
    height, width = image.shape[:2]
    x = -rng.uniform(0, 0.2) * height
    while x < width:
        span = rng.uniform(0.35, 0.7) * height
        top = foot - rng.uniform(0.45, 1.3) * height
        wall = shade(rng.choice(_WALLS), rng.uniform(0.85, 1.15))
        rectangle(image, x, top, x + span, foot, wall)
        rectangle(image, x, top, x + span, top + 0.015 * height, shade(wall, 0.75))
        glass = shade((96, 84, 70), rng.uniform(0.7, 1.4))
        columns, floor = rng.randrange(3, 6), rng.uniform(0.12, 0.16) * height
        pane = span / columns
        ground_floor = foot - 0.25 * height
        y = ground_floor - floor * 0.9
        while y > top:
            for column in range(columns):
                left = x + (column + 0.22) * pane
                rectangle(image, left - 1, y - 1, left + pane * 0.56 + 1, y + floor * 0.58 + 1, shade(wall, 1.2))
                shine = shade(glass, 1.6 if rng.random() < 0.15 else rng.uniform(0.85, 1.15))
                rectangle(image, left, y, left + pane * 0.56, y + floor * 0.58, shine)
            y -= floor
        if shops:
            _draw_shop(image, rng, x, x + span, foot, height)
        else:
            door = x + span * rng.uniform(0.2, 0.7)
            for left in np.arange(x + pane * 0.3, x + span - pane * 0.5, pane):
                if abs(left - door) > pane * 0.8:
                    rectangle(image, left, foot - 0.2 * height, left + pane * 0.5, foot - 0.1 * height, glass)
            rectangle(image, door, foot - 0.21 * height, door + 0.1 * height, foot, shade(rng.choice(_SIGNS), 0.7))
        x += span


def _draw_shop(image: np.ndarray, rng: random.Random, left: float, right: float, foot: int, height: int) -> None:
    """Draws shop windows under a sign, sometimes with an awning."""
    sign = rng.choice(_SIGNS)
    rectangle(image, left, foot - 0.245 * height, right, foot, shade(sign, 0.5))
    edge, count = 0.02 * height, rng.randrange(2, 4)
    step = (right - left) / count
    for pane in range(count):
        a, b = left + pane * step + edge, left + (pane + 1) * step - edge / 2
        top, bottom = foot - 0.17 * height, foot - 0.025 * height
        rectangle(image, a, top, b, bottom, shade((120, 150, 170), rng.uniform(0.6, 1.25)))
        # Goods in the window, and a slanting reflection.
        for _ in range(rng.randrange(2, 6)):
            x, wide, tall = rng.uniform(a, b - 4), rng.uniform(0.015, 0.04) * height, rng.uniform(0.03, 0.1) * height
            goods = shade(rng.choice(_SIGNS), rng.uniform(0.7, 1.2))
            rectangle(image, x, bottom - tall, min(x + wide, b), bottom, goods)
        polygon(
            image,
            [(a + (b - a) * 0.1, bottom), (a + (b - a) * 0.3, bottom), (a + (b - a) * 0.6, top), (a + (b - a) * 0.4, top)],
            (196, 200, 200),
        )
    rectangle(image, left, foot - 0.245 * height, right, foot - 0.19 * height, sign)
    x, letter = left + (right - left) * 0.2, 0.022 * height
    while x < left + (right - left) * 0.8:
        right_end = x + letter * rng.uniform(0.3, 0.8)
        rectangle(image, x, foot - 0.23 * height, right_end, foot - 0.205 * height, shade(sign, 2.4))
        x += letter
    if rng.random() < 0.4:
        stripes = 10
        for k in range(stripes):
            a, b = (left + (right - left) * e / stripes for e in (k, k + 1))
            polygon(
                image,
                [(a, foot - 0.2 * height), (b, foot - 0.2 * height), (b, foot - 0.155 * height), (a, foot - 0.155 * height)],
                (224, 226, 226) if k % 2 else shade(sign, 1.1),
            )


def draw_park(image: np.ndarray, rng: random.Random, horizon: int, foot: int) -> None:
    """Draws a lawn with trees, sometimes behind a fence."""
    height, width = image.shape[:2]
    rectangle(image, 0, horizon + (foot - horizon) * 0.3, width, foot, (70, 118, 96))
    for _ in range(rng.randrange(7, 12)):
        _draw_tree(
            image,
            rng,
            rng.uniform(0, width),
            rng.uniform(horizon + 0.3 * (foot - horizon), foot),
            height * rng.uniform(0.2, 0.5),
        )
    if rng.random() < 0.7:
        rail = rng.choice(((60, 64, 66), (170, 174, 176)))
        for x in np.arange(0, width, 0.05 * height):
            polyline(image, [(x, foot), (x, foot - 0.1 * height)], rail, 0.006 * height)
        polyline(image, [(0, foot - 0.1 * height), (width, foot - 0.1 * height)], rail, 0.01 * height)


def _draw_tree(image: np.ndarray, rng: random.Random, x: float, foot: float, height: float) -> None:
    polygon(
        image,
        [
            (x - 0.035 * height, foot),
            (x + 0.035 * height, foot),
            (x + 0.02 * height, foot - 0.6 * height),
            (x - 0.02 * height, foot - 0.6 * height),
        ],
        (50, 66, 84),
    )
    green = (rng.randrange(40, 70), rng.randrange(88, 124), rng.randrange(60, 96))
    for k in range(26):
        angle, reach = rng.uniform(0, 6.283), rng.random() ** 0.5 * 0.26 * height
        cx, cy = x + reach * np.cos(angle), foot - 0.78 * height + 0.85 * reach * np.sin(angle)
        radius = rng.uniform(0.05, 0.1) * height
        ellipse(image, cx, cy, radius, radius * 0.85, shade(green, 0.65 + 0.02 * k + rng.uniform(-0.05, 0.1)))


def _draw_ground(image: np.ndarray, rng: random.Random, camera: Camera, foot: int) -> None:
    """Draws tarmac, a road, or paving whose joints run to the vanishing point."""
    height, width = image.shape[:2]
    colour, horizon = rng.choice(_GROUNDS), camera.horizon * height
    depth = np.linspace(0.88, 1.06, height - foot, dtype=np.float32)[:, None, None]
    image[foot:] = np.clip(np.array(colour, np.float32) * depth, 0, 255)
    vanish = rng.uniform(0.2, 0.8) * width
    kind = rng.choice(('paving', 'paving', 'road', 'tarmac'))
    if kind == 'paving':
        joint, near = shade(colour, 0.82), 1.1 * height - horizon
        for x in np.arange(-2.5 * width, 3.5 * width, rng.uniform(0.18, 0.3) * height):
            start = vanish + (x - vanish) * (foot - horizon) / near
            polyline(image, [(start, foot), (x, horizon + near)], joint, 1)
        step, k = rng.uniform(0.05, 0.09), 0
        # Rows of equal depth are further apart near the viewer.
        while (y := horizon + (foot - horizon) / (1 - step * k)) < height and step * (k + 1) < 1:
            polyline(image, [(0, y), (width, y)], joint, 1)
            k += 1
    elif kind == 'road':
        far, near = horizon + (foot - horizon) * 1.35, horizon + (foot - horizon) * 2.4
        polygon(image, [(0, far), (width, far), (width, near), (0, near)], shade(colour, 0.72))
        for edge in (far, near):
            polyline(image, [(0, edge), (width, edge)], shade(colour, 1.25), 0.008 * height)
        if rng.random() < 0.6:
            for k in range(-3, 8):
                a, b = vanish + k * 0.2 * height, vanish + (k + 0.5) * 0.2 * height
                ratio = (near - horizon) / (far - horizon)
                polygon(
                    image,
                    [(a, far), (b, far), (vanish + (b - vanish) * ratio, near), (vanish + (a - vanish) * ratio, near)],
                    (206, 210, 210),
                )
    polyline(image, [(0, foot), (width, foot)], shade(colour, 0.6), 0.01 * height)
