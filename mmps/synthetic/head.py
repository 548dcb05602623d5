"""Draws neck, head, face, hair and hat."""

import math

from .canvas import Canvas
from .drawing import Point, shade
from .look import Look
from .pose import HEAD_R, HEAD_Y, Skeleton, spread

_EYE_COLOUR = (30, 30, 34)


def draw_long_hair(canvas: Canvas, look: Look, bones: Skeleton) -> None:
    """Draws hair that falls over the shoulders. Call it before the body in a frontal view, after it in a back view."""
    if look.hair not in ('long', 'bob'):
        return
    low = 0.76 if look.hair == 'long' else 0.85
    back = -0.028 * bones.sin
    half = spread(0.072, 0.058, bones)
    # The outline follows the skull, is widest at the jaw and ends in a curve.
    canvas.polygon(
        [
            (back - half * 0.72, HEAD_Y + 0.045),
            (back + half * 0.72, HEAD_Y + 0.045),
            (back + half * 0.92, HEAD_Y + 0.01),
            (back + half, 0.88),
            (back + half * 0.92, low + 0.02),
            (back + half * 0.6, low),
            (back, low - 0.012),
            (back - half * 0.6, low),
            (back - half * 0.92, low + 0.02),
            (back - half, 0.88),
            (back - half * 0.92, HEAD_Y + 0.01),
        ],
        look.hair_colour,
    )
    for strand in (-0.45, 0.05, 0.5):
        canvas.crease((back + strand * half * 0.7, HEAD_Y), (back + strand * half, low + 0.01), 0.005, 0.78)


def draw_head(canvas: Canvas, look: Look, bones: Skeleton) -> None:
    """Draws everything above the collar."""
    across, tall = HEAD_R * 0.86, HEAD_R * 1.16
    ahead = bones.sin * HEAD_R
    canvas.capsule((0, 0.82), (ahead * 0.25, HEAD_Y - 0.03), 0.032 * look.girth, 0.029, shade(look.skin, 0.9))
    centre = (ahead * 0.25, HEAD_Y)
    if look.hair == 'ponytail':
        tail = (centre[0] - ahead * 1.25, HEAD_Y + 0.01)
        if bones.cos < 0.6:
            canvas.capsule(tail, (tail[0] - ahead * 0.3, HEAD_Y - 0.12), 0.02, 0.012, look.hair_colour)
    if look.hair == 'bun':
        # A hat pushes the bun down to the nape.
        up = 0.052 + 0.02 * max(0, bones.cos) if look.hat == 'none' else -0.02
        canvas.ellipse((centre[0] - ahead * 0.95, HEAD_Y + up), 0.027, 0.027, look.hair_colour)
    bald = look.hair == 'bald'
    canvas.ellipse(centre, across, tall, look.skin if bald else look.hair_colour)
    if bones.cos > -0.45:
        _draw_face(canvas, look, bones, centre, across, tall)
    elif not bald:
        # Short hair shows the nape.
        if look.hair in ('short', 'crop', 'bun', 'ponytail'):
            canvas.ellipse((centre[0], HEAD_Y - tall * 0.82), across * 0.5, tall * 0.24, look.skin)
        if look.hair == 'ponytail':
            canvas.capsule((centre[0], HEAD_Y + 0.01), (centre[0], HEAD_Y - 0.12), 0.02, 0.012, shade(look.hair_colour, 0.8))
    _draw_hat(canvas, look, bones, centre, across, tall)


def _draw_face(canvas: Canvas, look: Look, bones: Skeleton, centre: Point, across: float, tall: float) -> None:
    """Draws a patch of skin, shifted to where the person looks, with beard or mouth, eyes, brows and nose."""
    side = abs(bones.sin)
    x = centre[0] + bones.sin * across * 0.42
    fringe = {'bald': 0.0, 'crop': 0.14, 'short': 0.24, 'bun': 0.2, 'ponytail': 0.2, 'bob': 0.34, 'long': 0.28}
    drop = fringe[look.hair]
    half = across * (0.92 - 0.36 * side)
    canvas.ellipse((x, HEAD_Y - tall * drop * 0.75), half, tall * (1 - drop * 0.75), look.skin)
    if look.beard:
        canvas.ellipse((x + bones.sin * 0.004, HEAD_Y - tall * 0.66), half * 0.86, tall * 0.36, shade(look.hair_colour, 0.95))
        canvas.ellipse((x + bones.sin * 0.006, HEAD_Y - tall * 0.45), half * 0.5, tall * 0.1, shade(look.skin, 0.8))
    else:
        mouth = (x + bones.sin * half * 0.3, HEAD_Y - tall * 0.56)
        canvas.line([(mouth[0] - half * 0.26, mouth[1]), (mouth[0] + half * 0.26, mouth[1])], shade(look.skin, 0.66), 0.005)
    brow = HEAD_Y - tall * 0.04
    for eye in (-1, 1):
        spot = x + half * (0.42 * eye * max(0.35, bones.cos) + 0.3 * bones.sin)
        if side > 0.75 and eye * bones.sin < 0:
            continue
        canvas.line([(spot - half * 0.1, brow), (spot + half * 0.1, brow)], _EYE_COLOUR, 0.007)
        canvas.line([(spot - half * 0.2, brow + 0.014), (spot + half * 0.2, brow + 0.014)], shade(look.skin, 0.6), 0.004)
    nose = x + half * 0.62 * bones.sin
    canvas.line([(nose, brow - tall * 0.1), (nose + 0.004 * bones.sin, brow - tall * 0.3)], shade(look.skin, 0.8), 0.006)


def _draw_hat(canvas: Canvas, look: Look, bones: Skeleton, centre: Point, across: float, tall: float) -> None:
    if look.hat == 'none':
        return
    x, brim = centre[0], HEAD_Y + tall * 0.3
    crown = across * 1.08
    arc = [(x + crown * math.cos(t * math.pi / 8), brim + (tall * 0.86) * math.sin(t * math.pi / 8)) for t in range(9)]
    canvas.polygon(arc, look.hat_colour)
    if look.hat == 'beanie':
        canvas.polygon(
            [(x - crown, brim - 0.012), (x + crown, brim - 0.012), (x + crown, brim + 0.012), (x - crown, brim + 0.012)],
            shade(look.hat_colour, 0.82),
        )
    elif look.hat == 'brim':
        canvas.ellipse((x, brim), crown * 1.62, 0.013, shade(look.hat_colour, 0.85))
    elif bones.cos > -0.5:
        tip = bones.sin * 0.075
        half = crown * max(0.45, abs(bones.cos))
        canvas.polygon(
            [
                (x - half + tip * 0.2, brim + 0.006),
                (x + half + tip * 0.2, brim + 0.006),
                (x + half * 0.8 + tip, brim - 0.018 * max(0.35, bones.cos)),
                (x - half * 0.8 + tip, brim - 0.018 * max(0.35, bones.cos)),
            ],
            shade(look.hat_colour, 0.78),
        )
