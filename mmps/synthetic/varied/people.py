"""People of all builds, clothes and poses, seen from any height."""

import math
import random
from dataclasses import replace

import cv2
import numpy as np

from ..figure import draw_figure
from ..look import Look, draw_look
from ..pose import Pose, aspect, stature
from ..seeds import weighted_choice
from ..style import PixelBox, Shown, paste
from .carried import draw_carried, give
from .colours import cloth_colour, hsv
from .place import flat_texture
from .textures import KINDS
from .view import View

_ARMS = {'walking': 6, 'phone': 1.5, 'down': 2, 'folded': 1.5, 'carrying': 1, 'reaching': 0.6, 'raised': 0.2}
_SITTING = 0.08


def draw_varied_look(rng: random.Random) -> Look:
    """Returns a random look with any colours of skin, hair and clothes. One in twelve is a child."""
    look = draw_look(rng)
    upper = cloth_colour(rng)
    lower = upper if look.upper == 'dress' or rng.random() < 0.12 else cloth_colour(rng, bright=0.1)
    warmth = rng.random() ** 1.7
    return replace(
        look,
        height=rng.uniform(0.55, 0.85) if rng.random() < 0.08 else look.height,
        girth=min(max(look.girth + rng.gauss(0, 0.06), 0.75), 1.5),
        skin=hsv(rng.gauss(0.055, 0.01), 0.3 + 0.35 * warmth, 0.95 - 0.65 * warmth),
        hair_colour=hsv(rng.gauss(0.07, 0.02), rng.uniform(0.1, 0.6), rng.choice((0.08, 0.12, 0.2, 0.35, 0.6, 0.8))),
        hat_colour=cloth_colour(rng),
        upper_colour=upper,
        accent=cloth_colour(rng, bright=0.5),
        pitch=rng.uniform(0.014, 0.05),
        lower_colour=lower,
        shoe_colour=cloth_colour(rng, bright=0.2),
        bag_colour=cloth_colour(rng, bright=0.4),
        fabric=rng.randrange(1000),
    )


def draw_varied_pose(rng: random.Random, look: Look) -> Pose:
    """Returns a random pose: walking or standing in any direction, with any business for the arms, or sitting.

    One in seven holds, pushes or rides something.
    """
    arms = weighted_choice(rng, _ARMS)
    swing = {
        'down': lambda: (rng.uniform(-0.1, 0.15), rng.uniform(0.05, 0.4)),
        'folded': lambda: (rng.uniform(0.1, 0.4), rng.uniform(1.5, 2.1)),
        'carrying': lambda: (rng.uniform(0.2, 0.7), rng.uniform(0.7, 1.4)),
        'reaching': lambda: (rng.uniform(0.6, 1.6), rng.uniform(0.0, 0.5)),
        'raised': lambda: (rng.uniform(1.8, 2.8), rng.uniform(0.0, 0.8)),
    }.get(arms)
    sits = rng.random() < _SITTING
    standing = sits or rng.random() < 0.35
    pose = Pose(
        yaw=rng.uniform(0, 2 * math.pi),
        phase=rng.uniform(0, 2 * math.pi),
        stride=rng.uniform(0.0, 0.12) if standing else rng.uniform(0.2, 0.5),
        elbow=rng.uniform(0.1, 0.8),
        phone=rng.choice((-1, 1)) if arms == 'phone' else 0,
        arms=tuple(swing() if rng.random() < 0.8 else (0.0, 0.2) for _ in range(2)) if swing else None,
        sit=rng.uniform(1.2, 1.55) if sits else 0.0,
    )
    return give(rng, pose)


def seen_from(pose: Pose, view: View, depth: float) -> Pose:
    """Returns the pose as the view sees it from above."""
    return replace(pose, pitch=math.tan(view.tilt(depth)))


def ratio(look: Look, pose: Pose, view: View, depth: float) -> float:
    """Returns width / height of a person's box."""
    return aspect(look, seen_from(pose, view, depth)) / math.cos(view.tilt(depth))


def draw_person(
    image: np.ndarray,
    figure: PixelBox,
    depth: float,
    look: Look,
    pose: Pose,
    view: View,
    sun: float,
    rng: random.Random,
) -> Shown:
    """Draws a person and the shadow on the ground, in place.

    Args:
        image: uint8 (H, W, 3).
        figure: x, y, w, h of the whole figure, in pixels.
        depth: Height of an average person there, in scene heights.
        look: Who.
        pose: How.
        view: Who looks.
        sun: Length of the cast shadow in body heights, to the right if it is positive; 0 = none.
        rng: Varies the brightness.

    Returns:
        The part of the image, and the person's alpha there.
    """
    x, y, w, h = figure
    sprite = draw_figure(look, seen_from(pose, view, depth), min(2.0 * h, max(300.0, 1.4 * h)), view.light)
    sprite = stand(dress(sprite, look, h), w, h, view, depth)
    cast_shadow(image, sprite[..., 3], x, y, sun)
    shown = paste(image, sprite, x, y, rng.uniform(0.6, 1.2))
    draw_carried(image, pose, figure, h / stature(pose), rng)
    return shown


def dress(sprite: np.ndarray, look: Look, height: int) -> np.ndarray:
    """Gives the clothes their fabric and folds, which a person always has."""
    rng = random.Random(look.fabric)
    rows, columns = sprite.shape[:2]
    folds = flat_texture(rng, 'clouds', rows, columns, rows / 150)
    fabric = flat_texture(rng, rng.choice(KINDS), rows, columns, rng.uniform(0.3, 1.2) * rows / max(height, 150))
    relief = cv2.addWeighted(folds, rng.uniform(0.3, 0.9), fabric, rng.uniform(0.0, 0.5), 0)
    relief = cv2.convertScaleAbs(relief, alpha=128 / max(float(relief.mean()), 1))
    colour = cv2.multiply(sprite[..., :3], cv2.merge([relief] * 3), scale=1 / 128)
    return cv2.merge([*cv2.split(colour), sprite[..., 3]])


def stand(sprite: np.ndarray, width: int, height: int, view: View, depth: float) -> np.ndarray:
    """Resizes the figure. From above, the head is nearer to the camera than the feet, and so it is larger."""
    rows, columns = sprite.shape[:2]
    taper = 0.25 * math.sin(view.tilt(depth)) * depth / view.focal * columns
    if taper * width / columns >= 0.5:
        source = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)], np.float32)
        target = np.array([(0, 0), (columns + 2 * taper, 0), (columns, rows), (2 * taper, rows)], np.float32)
        matrix = cv2.getPerspectiveTransform(source, target)
        sprite = cv2.warpPerspective(sprite, matrix, (math.ceil(columns + 2 * taper), rows))
        x, y, columns, rows = cv2.boundingRect((sprite[..., 3] > 127).astype(np.uint8))
        sprite = sprite[y : y + rows, x : x + columns]
    return cv2.resize(sprite, (width, height), interpolation=cv2.INTER_AREA)


def cast_shadow(image: np.ndarray, alpha: np.ndarray, x: int, y: int, sun: float) -> None:
    """Darkens the ground at the feet, and where the figure keeps off the sun."""
    h, w = alpha.shape
    flat = max(2, round(0.12 * h)) if sun == 0 else max(2, round(0.3 * h))
    reach = round(abs(sun) * h)
    size = (w + reach + 2 * flat, 2 * flat)  # the feet stand on the middle row
    squash = 0.08 if sun == 0 else flat / h
    shift = flat + (reach if sun < 0 else 0)
    matrix = np.array([(1, -sun if sun else 0, shift + (sun * h if sun else 0)), (0, squash, flat - squash * h)], np.float32)
    shade = cv2.warpAffine(alpha, matrix, size)
    shade = cv2.GaussianBlur(shade, (0, 0), max(0.6, 0.012 * h))
    left, top = x - shift, y + h - flat
    a, b = max(0, left), max(0, top)
    c, d = min(image.shape[1], left + size[0]), min(image.shape[0], top + size[1])
    if c <= a or d <= b:
        return
    kept = cv2.convertScaleAbs(shade[b - top : d - top, a - left : c - left], alpha=-0.5 if sun else -0.45, beta=255)
    part = image[b:d, a:c]
    cv2.multiply(part, cv2.merge([kept] * 3), dst=part, scale=1 / 255)
