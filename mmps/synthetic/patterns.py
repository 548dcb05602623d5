"""What is woven into or printed on a garment."""

import numpy as np

_CHEST, _WAIST = 0.70, 0.60


def texture(look, canvas):
    """The upper garment's fill.

    Args:
        look (Look): The person.
        canvas (Canvas): Where it will be used; gives the size and the resolution.

    Returns:
        tuple or np.ndarray: A BGR colour, or uint8 (canvas height, canvas width, 4) with full alpha.
    """
    base, accent = np.array((*look.upper_colour, 255), np.uint8), np.array((*look.accent, 255), np.uint8)
    if look.pattern in ('plain', 'logo'):
        return look.upper_colour
    up = (canvas.origin[1] - np.arange(canvas.height)) / canvas.scale
    across = (np.arange(canvas.width) - canvas.origin[0]) / canvas.scale
    if look.pattern == 'checks':
        pitch = look.pitch * 1.5
        # Three tones, as in flannel: where both directions cross it is the accent itself.
        crossing = ((up // pitch) % 2)[:, None] + ((across // pitch) % 2)[None]
        tones = np.stack([base, (base.astype(int) + accent) // 2, accent]).astype(np.uint8)
        return tones[crossing.astype(int)]
    if look.pattern == 'pinstripes':
        on = (across // (look.pitch * 0.6)) % 2 < 1
        return np.ascontiguousarray(np.broadcast_to(np.where(on[:, None], base, accent), (canvas.height, len(on), 4)))
    if look.pattern == 'stripes':
        on = (up // look.pitch) % 2 < 1
    elif look.pattern == 'band':
        on = abs(up - _CHEST) > look.pitch * 0.9
    else:
        on = up > _WAIST + look.pitch
    return np.ascontiguousarray(np.broadcast_to(np.where(on[:, None], base, accent)[:, None], (len(on), canvas.width, 4)))


def draw_logo(canvas, look, bones):
    """A print on the chest: seen from the front only, narrower from the side."""
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
        tall = size * (0.35 if look.logo == 'bar' else 0.9)
        wide = across * (1.5 if look.logo == 'bar' else 0.9)
        canvas.polygon(
            [(x - wide, y - tall), (x + wide, y - tall), (x + wide, y + tall), (x - wide, y + tall)], look.accent, **flat
        )
