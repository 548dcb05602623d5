"""The empty place that a view looks at: ground with markings, and what stands behind it."""

import math
import random

import cv2
import numpy as np

from ..background import draw_houses, draw_park, draw_skyline
from ..drawing import Point, ellipse, polygon, polyline, rectangle, shade
from ..seeds import CAMERA, stream
from .colours import bright_colour, hsv, wall_colour
from .textures import SIDE, tile
from .view import View

_BODY = 64  # texture pixels per body height on the ground
_GROUNDS = {
    'street': ('slabs', 'bricks', 'grain', 'clouds', 'slabs'),
    'square': ('slabs', 'bricks', 'slabs', 'weave', 'grain'),
    'park': ('grass', 'grain', 'grass', 'leaves'),
    'room': ('planks', 'planks', 'slabs', 'clouds', 'weave'),
    'collage': ('leaves', 'clouds', 'weave', 'planks', 'grass'),
}


def draw_place(seed: int, view: View, height: int, width: int) -> np.ndarray:
    """Draws the place without people: uint8 (height, width, 3), BGR. A view always shows the same place."""
    rng = stream(seed, CAMERA, view.index, 4)
    image = np.empty((height, width, 3), np.uint8)
    foot = min(max(int(view.foot(view.far * 0.8) * height), 0), height)  # where walls touch the ground
    draw_backdrop(image, rng, view, foot)
    if foot < height:
        draw_ground(image, rng, view, foot)
    return image


def weather(image: np.ndarray, texture: np.ndarray, strength: float) -> None:
    """Multiplies a texture (H, W) into an image, in place. With a strength of 1, the texture's own contrast."""
    factor = cv2.addWeighted(texture, strength, texture, 0, 128 * (1 - strength))
    cv2.multiply(image, cv2.merge([factor] * 3), dst=image, scale=1 / 128)


def flat_texture(rng: random.Random, kind: str, height: int, width: int, zoom: float) -> np.ndarray:
    """Returns a texture (height, width), enlarged by a factor, from a random position of its tile."""
    source = tile(kind, rng.randrange(4))
    x, y = rng.randrange(SIDE), rng.randrange(SIDE)
    map_x = np.broadcast_to(np.arange(width, dtype=np.float32) / zoom + x, (height, width))
    map_y = np.broadcast_to((np.arange(height, dtype=np.float32) / zoom + y)[:, None], (height, width))
    return cv2.remap(source, map_x.copy(), map_y.copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def draw_backdrop(image: np.ndarray, rng: random.Random, view: View, foot: int) -> None:
    """Draws sky, houses, trees, a wall or a collage down to the row `foot`."""
    height = image.shape[0]
    zenith, low = hsv(rng.gauss(0.58, 0.06), rng.uniform(0, 0.5), rng.uniform(0.5, 0.98)), wall_colour(rng)
    part = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] * height / max(foot, 1)
    image[:] = np.clip(np.array(zenith) * (1 - part) + np.array(low) * part, 0, 255)
    if foot < 0.03 * height:
        return
    horizon = min(max(int(view.horizon * height), 1), foot)
    if view.place == 'collage':
        draw_shapes(image, rng, 0, foot, rng.randrange(15, 60))
    elif view.place == 'room':
        draw_wall(image, rng, foot)
    else:
        if rng.random() < 0.5:
            draw_skyline(image, rng, horizon, foot)
        if view.place == 'park':
            draw_park(image, rng, horizon, foot)
        else:
            draw_houses(image, rng, foot, shops=rng.random() < 0.5)
            draw_signs(image, rng, foot, rng.randrange(0, 8))
    wall = image[:foot]
    kind = rng.choice(('bricks', 'clouds', 'grain', 'leaves', 'slabs'))
    weather(wall, flat_texture(rng, kind, foot, image.shape[1], rng.uniform(0.2, 1.2) * height / 250), rng.uniform(0.1, 0.7))


def draw_shapes(image: np.ndarray, rng: random.Random, top: int, bottom: int, count: int) -> None:
    """Draws blocks and discs of all sizes between two rows: a place of no kind at all."""
    height, width = image.shape[:2]
    for _ in range(count):
        size = min(0.6, 0.04 / rng.random() ** 0.7) * height
        x, y = rng.uniform(0, width), rng.uniform(top, bottom)
        colour = rng.choice((wall_colour, wall_colour, bright_colour))(rng)
        if rng.random() < 0.4:
            ellipse(image, x, y, size / 2, size / 2 * rng.uniform(0.4, 1.5), colour)
            continue
        angle, tall = rng.choice((0.0, rng.uniform(-0.8, 0.8))), size * rng.uniform(0.2, 3)
        corners = [(-size / 2, -tall / 2), (size / 2, -tall / 2), (size / 2, tall / 2), (-size / 2, tall / 2)]
        cos, sin = math.cos(angle), math.sin(angle)
        polygon(image, [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners], colour)


def draw_wall(image: np.ndarray, rng: random.Random, foot: int) -> None:
    """Draws the wall of a room: panels, pillars, doors, pictures and screens, and a skirting board."""
    height, width = image.shape[:2]
    image[:foot] = wall_colour(rng)
    unit = 0.2 * height
    for _ in range(rng.randrange(1, 7)):
        x, wide = rng.uniform(-0.1, 1) * width, rng.uniform(0.2, 1.6) * unit
        top = rng.choice((0.0, rng.uniform(0, 0.8) * foot))
        low = rng.choice((foot, foot, rng.uniform(top + 2, foot + 2)))
        colour = rng.choice((wall_colour, wall_colour, bright_colour))(rng)
        rectangle(image, x - 2, top, x + wide + 2, low, shade(colour, 0.6))
        rectangle(image, x, top, x + wide, low, colour)
    rectangle(image, 0, foot - rng.uniform(0.005, 0.04) * height, width, foot, shade(wall_colour(rng), 0.8))


def draw_signs(image: np.ndarray, rng: random.Random, foot: int, count: int) -> None:
    """Draws bright signs with marks that look like writing."""
    height, width = image.shape[:2]
    for _ in range(count):
        x, y = rng.uniform(0, width), rng.uniform(0, 0.8 * foot)
        wide, tall = rng.uniform(0.02, 0.2) * height, rng.uniform(0.02, 0.15) * height
        colour = bright_colour(rng)
        ink = shade(colour, rng.choice((0.3, 2.5)))
        rectangle(image, x, y, x + wide, y + tall, colour)
        for _ in range(rng.randrange(2, 8)):
            a, b = x + rng.uniform(0.1, 0.8) * wide, y + rng.uniform(0.15, 0.75) * tall
            rectangle(image, a, b, a + rng.uniform(0.05, 0.15) * wide, b + rng.uniform(0.05, 0.2) * tall, ink)


def draw_ground(image: np.ndarray, rng: random.Random, view: View, foot: int) -> None:
    """Draws ground and markings in perspective from the row `foot` down."""
    height, width = image.shape[:2]
    colour = (
        wall_colour(rng) if view.place != 'park' else hsv(rng.uniform(0.1, 0.35), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.7))
    )
    fade = np.linspace(rng.uniform(0.8, 1.15), rng.uniform(0.8, 1.15), height - foot, dtype=np.float32)[:, None, None]
    image[foot:] = np.clip(np.array(colour, np.float32) * fade, 0, 255)
    yaw = rng.choice((0.0, rng.uniform(-0.8, 0.8)))
    ground = image[foot:]
    for _ in range(rng.randrange(0, 6)):
        draw_marking(ground, rng, view, yaw, foot)
    for _ in range(2):
        texture = ground_texture(rng, view, yaw, foot, height, width)
        weather(ground, texture, rng.uniform(0.15, 0.8))


def ground_texture(rng: random.Random, view: View, yaw: float, foot: int, height: int, width: int) -> np.ndarray:
    """Returns a texture (height - foot, width) that lies on the ground. It fades where it is too far away to be resolved."""
    rows = (np.arange(foot, height, dtype=np.float32) + 0.5) / height
    depth = np.maximum((rows - view.horizon) / view.slope, 0.02)[:, None]  # height of a body that stands there
    across = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / height)[None] / depth
    away = np.broadcast_to(view.focal / depth, across.shape)
    cos, sin = math.cos(yaw), math.sin(yaw)
    zoom = _BODY * rng.uniform(0.5, 2.5)
    map_x = ((across * cos - away * sin) * zoom + rng.randrange(SIDE)).astype(np.float32)
    map_y = ((across * sin + away * cos) * zoom + rng.randrange(SIDE)).astype(np.float32)
    source = tile(rng.choice(_GROUNDS[view.place]), rng.randrange(4))
    texture = cv2.remap(source, map_x % SIDE, map_y % SIDE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    step = zoom * view.focal / (depth**2 * view.slope * height)  # texture pixels per row
    kept = np.clip(4 / step, 0, 1).astype(np.float32)
    return (128 + kept * (texture.astype(np.float32) - 128)).astype(np.uint8)


def draw_marking(ground: np.ndarray, rng: random.Random, view: View, yaw: float, foot: int) -> None:
    """Draws a strip, a crossing, a line or a cover onto the ground."""
    width = ground.shape[1]
    height = ground.shape[0] + foot
    cos, sin = math.cos(yaw), math.sin(yaw)

    def on_ground(a: float, b: float) -> Point:
        """Turns ground coordinates, in body heights, into pixels. A point behind the camera comes to lie far below."""
        across, away = a * cos + b * sin, -a * sin + b * cos
        depth = view.focal / max(away, 0.3)
        return across * depth * height + width / 2, (view.horizon + view.slope * depth) * height - foot

    near, far = view.distance(view.near * 1.3), view.distance(view.far)
    a, b = rng.uniform(-0.5, 0.5) * far / view.focal, rng.uniform(near, far)
    kind = rng.choice(('strip', 'strip', 'line', 'crossing', 'cover', 'mat'))
    colour = wall_colour(rng)
    if kind == 'strip':  # a road, a kerb or a lane, along or across
        wide = rng.uniform(0.1, 3)
        if rng.random() < 0.5:
            polygon(
                ground, [on_ground(a, 0), on_ground(a + wide, 0), on_ground(a + wide, 3 * far), on_ground(a, 3 * far)], colour
            )
        else:
            polygon(ground, [on_ground(-40, b), on_ground(40, b), on_ground(40, b + wide), on_ground(-40, b + wide)], colour)
    elif kind == 'line':
        paint = rng.choice(((225, 225, 225), (60, 190, 220), shade(colour, 1.4)))
        wide = rng.uniform(0.04, 0.15)
        polygon(ground, [on_ground(a, 0), on_ground(a + wide, 0), on_ground(a + wide, 3 * far), on_ground(a, 3 * far)], paint)
    elif kind == 'crossing':
        for k in range(rng.randrange(4, 10)):
            left = a + 0.6 * k
            corners = [(left, b), (left + 0.3, b), (left + 0.3, b + 2), (left, b + 2)]
            polygon(ground, [on_ground(*corner) for corner in corners], (215, 218, 218))
    elif kind == 'cover':
        x, y = on_ground(a, b)
        radius = view.focal / max(b, 0.3) * height * rng.uniform(0.15, 0.3)
        ellipse(ground, x, y, radius, radius * 0.5, shade(colour, 0.7))
        polyline(ground, [(x - radius, y), (x + radius, y)], shade(colour, 0.5), 1)
    else:
        corners = [(a, b), (a + rng.uniform(0.5, 2), b), (a + rng.uniform(0.5, 2), b + rng.uniform(0.5, 2)), (a, b + 1)]
        polygon(ground, [on_ground(*corner) for corner in corners], bright_colour(rng))
