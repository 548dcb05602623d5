"""Patterns and prints of the upper garment."""

import numpy as np

from .canvas import Canvas, Fill
from .look import Look
from .pose import Skeleton

# Heights of the chest and the waist, in body heights above the ground.
_CHEST, _WAIST = 0.70, 0.60


def texture(look: Look, canvas: Canvas) -> Fill:
    """Returns the fill of the upper garment.

    Args:
        look: The person.
        canvas: The canvas it is for, which gives size and resolution.

    Returns:
        A BGR colour, or uint8 (canvas height, canvas width, 4) with full alpha.
    """
    if look.pattern in ('plain', 'logo'):
        return look.upper_colour
    base, accent = np.array((*look.upper_colour, 255), np.uint8), np.array((*look.accent, 255), np.uint8)
    up = (canvas.origin[1] - np.arange(canvas.height)) / canvas.scale
    across = (np.arange(canvas.width) - canvas.origin[0]) / canvas.scale
    if look.pattern == 'checks':
        pitch = look.pitch * 1.5
        # Three tones, as in flannel. Where stripes of both directions cross, the tone is the accent.
        crossing = ((up // pitch) % 2)[:, None] + ((across // pitch) % 2)[None]
        tones = np.stack([base, (base.astype(int) + accent) // 2, accent]).astype(np.uint8)
        return tones[crossing.astype(int)]
    if look.pattern == 'pinstripes':
        is_base = ((across // (look.pitch * 0.6)) % 2 < 1)[None]
    elif look.pattern == 'stripes':
        is_base = ((up // look.pitch) % 2 < 1)[:, None]
    elif look.pattern == 'band':
        is_base = (abs(up - _CHEST) > look.pitch * 0.9)[:, None]
    else:
        is_base = (up > _WAIST + look.pitch)[:, None]
    return np.where(np.broadcast_to(is_base, (canvas.height, canvas.width))[..., None], base, accent)


def draw_logo(canvas: Canvas, look: Look, bones: Skeleton) -> None:
    """Draws the print on the chest. Only the front shows it; it gets narrower towards the side view."""
    if look.pattern != 'logo' or bones.cos < 0.3:
        return
    size = look.logo_size
    x, y, across = 0.07 * bones.sin * look.girth, _CHEST, size * bones.cos
    flat = {'edge': 1.0, 'core': 0.9}
    if look.logo in ('disc', 'ring'):
        canvas.ellipse((x, y), across, size, look.accent, **flat)
        if look.logo == 'ring':
            canvas.ellipse((x, y), across * 0.5, size * 0.5, look.upper_colour, **flat)
    elif look.logo == 'triangle':
        canvas.polygon([(x - across, y - size), (x + across, y - size), (x, y + size)], look.accent, **flat)
    else:
        half_height = size * (0.35 if look.logo == 'bar' else 0.9)
        half_width = across * (1.5 if look.logo == 'bar' else 0.9)
        left, right, bottom, top = x - half_width, x + half_width, y - half_height, y + half_height
        canvas.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], look.accent, **flat)
