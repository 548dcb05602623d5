"""Draws one person: a look in a pose."""

import numpy as np

from .canvas import Canvas
from .head import draw_head, draw_long_hair
from .patterns import draw_logo, texture
from .pose import skeleton, skirt_reach, spread

_TROUSERS = {
    'slim': (0.052, 0.04, 0.026),
    'trousers': (0.056, 0.046, 0.037),
    'wide': (0.059, 0.055, 0.052),
    'shorts': (0.057, 0.053, 0.05),
}
_PUFF = {'coat': 1.07, 'jacket': 1.07, 'hoodie': 1.06, 'vest': 1.03, 'shirt': 1.0, 'tshirt': 0.98, 'dress': 0.95}


def _mix(a, b, part):
    """The point `part` of the way from a to b."""
    return a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part


def _shade(colour, factor):
    return tuple(min(255, int(c * factor)) for c in colour)


def draw_figure(look, pose, scale, light=-0.5):
    """One person on a transparent canvas, cut tightly.

    Args:
        look (Look): Who.
        pose (Pose): How the person stands.
        scale (float): Pixels a body height.
        light (float): Where the light comes from, -1 left to 1 right.

    Returns:
        np.ndarray: uint8 (h, w, 4), BGR premultiplied by the alpha in the last channel.
    """
    bones = skeleton(pose, look.girth, look.shoulders)
    canvas = Canvas(scale, light)
    fill = texture(look, canvas)
    behind = [side for side in (0, 1) if bones.arm_depth[side] < -0.05]
    frontal = bones.cos > 0
    if frontal:
        _draw_backpack(canvas, look, bones)
        draw_long_hair(canvas, look, bones)
    for side in behind:
        _draw_arm(canvas, look, bones, side, fill)
    if look.bag == 'crossbody' and _bag_depth(look, bones) < 0:
        _draw_side_bag(canvas, look, bones)
    for side in sorted((0, 1), key=lambda s: bones.leg_depth[s]):
        _draw_leg(canvas, look, bones, side)
    _draw_lower(canvas, look, bones)
    _draw_torso(canvas, look, bones, fill)
    draw_head(canvas, look, bones)
    if look.scarf:
        canvas.ellipse((bones.sin * 0.012, 0.838), spread(0.058, 0.052, bones), 0.022, look.accent)
        if bones.cos > 0.2:
            x = 0.03 * bones.sin + 0.02
            canvas.capsule((x, 0.83), (x + 0.008, 0.71), 0.016, 0.018, look.accent)
    if not frontal:
        draw_long_hair(canvas, look, bones)
        _draw_backpack(canvas, look, bones)
    _draw_straps(canvas, look, bones)
    if look.bag == 'crossbody' and _bag_depth(look, bones) >= 0:
        _draw_side_bag(canvas, look, bones)
    for side in (0, 1):
        if side not in behind:
            _draw_arm(canvas, look, bones, side, fill)
    return canvas.finish()


def _draw_leg(canvas, look, bones, side):
    hip, knee, ankle, toe = bones.legs[side]
    thigh, mid, cuff = (r * look.girth for r in _TROUSERS.get(look.lower, (0.047, 0.036, 0.026)))
    far = 0.86 if bones.leg_depth[side] < bones.leg_depth[1 - side] - 0.02 else 1.0
    sole = (ankle[0], ankle[1] - 0.016)
    canvas.capsule(sole, toe, 0.022, 0.014, _shade(look.shoe_colour, far), core=0.6)
    bare = look.lower in ('shorts', 'skirt')
    shin = look.skin if bare else look.lower_colour
    if look.lower == 'long_skirt':
        shin = look.skin
    canvas.capsule(knee, ankle, 0.036 * look.girth if bare else mid, 0.023 if bare else cuff, _shade(shin, far))
    if look.boots:
        canvas.capsule(_mix(knee, ankle, 0.5), sole, max(0.032, mid * 0.8), 0.026, _shade(look.shoe_colour, far))
    upper = look.skin if look.lower in ('skirt', 'long_skirt') else look.lower_colour
    end = _mix(hip, knee, 0.95)
    canvas.capsule(hip, end, thigh, mid, _shade(upper, far))
    # The stripe runs down the outer side: it is hidden on the inner side of the far leg.
    outward = (1 if side == 0 else -1) * bones.cos
    if look.side_stripe and (abs(outward) > 0.3 or far == 1.0):
        shift = 0.03 * outward * look.girth
        line = [(hip[0] + shift, hip[1]), (knee[0] + shift, knee[1])]
        if not bare:
            line.append((ankle[0] + shift * 0.8, ankle[1]))
        canvas.line(line, look.accent, 0.013)
    canvas.crease((knee[0] - 0.02, knee[1] + 0.008), (knee[0] + 0.02, knee[1] - 0.006), 0.006, 0.8)


def _draw_lower(canvas, look, bones):
    """Hips, and a skirt over the legs."""
    hip = spread(0.082, 0.068, bones) * look.girth
    if look.lower in ('skirt', 'long_skirt'):
        hem = 0.31 if look.lower == 'skirt' else 0.1
        reach = skirt_reach(look, bones) * (0.92 if look.lower == 'skirt' else 1.0)
        middle = sum(leg[1][0] for leg in bones.legs) / 2
        canvas.polygon(
            [
                (-hip * 0.9, 0.57),
                (hip * 0.9, 0.57),
                (hip * 1.05, 0.49),
                (middle + reach, hem + 0.01),
                (middle, hem - 0.01),
                (middle - reach, hem + 0.01),
                (-hip * 1.05, 0.49),
            ],
            look.lower_colour,
        )
        for fold in (-0.5, 0.1, 0.55):
            canvas.crease((fold * hip, 0.5), (middle + fold * reach * 1.3, hem + 0.02), 0.008, 0.8)
        return
    canvas.polygon(
        [(-hip, 0.57), (hip, 0.57), (hip * 1.06, 0.5), (hip * 0.7, 0.455), (-hip * 0.7, 0.455), (-hip * 1.06, 0.5)],
        look.lower_colour,
    )


def _draw_torso(canvas, look, bones, fill):
    puff = _PUFF[look.upper] * look.girth
    shoulder = spread(0.112 * look.shoulders, 0.062, bones) * puff
    chest = spread(0.104 * look.shoulders, 0.076, bones) * puff
    waist = spread(0.09, 0.07, bones) * puff * (0.9 if look.upper == 'dress' else 1.0)
    hem = spread(0.094, 0.076, bones) * puff
    lean = 0.012 * bones.sin
    middle = 0.0
    if look.upper == 'coat':
        hem = max(hem, skirt_reach(look, bones) * 0.94)
        middle = sum(leg[1][0] for leg in bones.legs) / 2
    outline = [
        (lean - 0.036, 0.85),
        (lean + 0.036, 0.85),
        (lean + shoulder * 0.8, 0.83),
        (lean + shoulder, 0.795),
        (chest, 0.72),
        (waist, 0.6),
        (middle + hem, look.hem),
        (middle - hem, look.hem),
        (-waist, 0.6),
        (-chest, 0.72),
        (lean - shoulder, 0.795),
        (lean - shoulder * 0.8, 0.83),
    ]
    canvas.polygon(outline, fill)
    if look.is_open and bones.cos > 0.15:
        x, half = 0.05 * bones.sin, 0.034 * bones.cos + 0.004
        low = max(look.hem, 0.45)
        canvas.polygon(
            [(x - half * 0.7, 0.845), (x + half * 0.7, 0.845), (x + half * 1.1, low), (x - half * 1.1, low)],
            look.accent,
            edge=0.7,
        )
        if look.hem < 0.44:
            canvas.polygon(
                [
                    (x - half * 1.1, low),
                    (x + half * 1.1, low),
                    (middle + half * 1.6, look.hem),
                    (middle - half * 1.6, look.hem),
                ],
                look.lower_colour,
                edge=0.7,
            )
    elif look.upper in ('jacket', 'coat', 'shirt') and bones.cos > 0.2:
        x = 0.06 * bones.sin
        canvas.crease((x, 0.83), (middle + x * 0.7, look.hem + 0.01), 0.007, 0.68)
    if look.upper == 'hoodie':
        if bones.cos > -0.2:
            canvas.crease((-0.045 + 0.04 * bones.sin, 0.545), (0.045 + 0.04 * bones.sin, 0.545), 0.008, 0.74)
        dark = _shade(look.upper_colour, 0.8)
        canvas.ellipse((-0.03 * bones.sin, 0.838), spread(0.062, 0.056, bones), 0.03, dark)
    if look.upper in ('shirt', 'coat') and bones.cos > -0.2:
        collar = _shade(look.upper_colour, 1.15)
        x = 0.03 * bones.sin
        canvas.polygon([(x - 0.045, 0.85), (x, 0.815), (x + 0.045, 0.85)], collar)
        canvas.polygon([(x - 0.022, 0.855), (x, 0.825), (x + 0.022, 0.855)], look.skin)
    elif look.upper in ('tshirt', 'dress', 'vest') and bones.cos > -0.1:
        canvas.ellipse((0.03 * bones.sin, 0.842), 0.03, 0.02, look.skin)
    draw_logo(canvas, look, bones)
    for y, part in ((0.64, 0.5), (0.565, -0.3), (0.53, 0.6)):
        canvas.crease((part * waist, y), ((part - 0.5) * waist, y - 0.02), 0.006, 0.86)
    canvas.crease((middle - hem, look.hem + 0.004), (middle + hem, look.hem + 0.004), 0.01, 0.7)


def _draw_arm(canvas, look, bones, side, fill):
    shoulder, elbow, hand = bones.arms[side]
    puff = _PUFF[look.upper] * look.girth
    skin = look.skin
    canvas.ellipse(hand, 0.021, 0.025, skin)
    canvas.capsule(elbow, hand, 0.025 * look.girth, 0.018, skin)
    canvas.capsule(shoulder, elbow, 0.03 * look.girth, 0.026 * look.girth, skin)
    if look.sleeve > 0:
        # The lower sleeve first: the elbow's fold then lies over it.
        if look.sleeve > 0.55:
            end = _mix(elbow, hand, min(1.0, (look.sleeve - 0.5) * 2) * 0.94)
            canvas.capsule(elbow, end, 0.032 * puff, 0.026 * puff, fill)
        canvas.capsule(shoulder, _mix(shoulder, elbow, min(1.0, look.sleeve * 2)), 0.034 * puff, 0.033 * puff, fill)
    if look.bag == 'tote' and side == (0 if look.bag_side > 0 else 1):
        _draw_tote(canvas, look, bones, hand)
    if (1 if side == 0 else -1) == _phone_side(look, bones):
        phone = np.array([(-0.012, -0.02), (0.012, -0.02), (0.012, 0.025), (-0.012, 0.025)])
        canvas.polygon(phone + hand, (30, 30, 30))


def _phone_side(look, bones):
    """The side whose hand is at chest height, 0 for none: a raised hand holds a phone."""
    left, right = (arm[2][1] - arm[1][1] for arm in bones.arms)
    if max(left, right) < 0:
        return 0
    return 1 if left > right else -1


def _draw_tote(canvas, look, bones, hand):
    half = spread(0.03, 0.07, bones)
    x, y = hand[0], hand[1] - 0.05
    canvas.line([(x - half * 0.6, y), hand, (x + half * 0.6, y)], _shade(look.bag_colour, 0.8), 0.008)
    canvas.polygon([(x - half * 0.9, y), (x + half * 0.9, y), (x + half, y - 0.115), (x - half, y - 0.115)], look.bag_colour)


def _bag_depth(look, bones):
    """How far a bag at the hip is towards the viewer."""
    return -look.bag_side * bones.sin


def _draw_side_bag(canvas, look, bones):
    x = 0.115 * look.bag_side * bones.cos * look.girth
    half = spread(0.036, 0.06, bones)
    canvas.polygon([(x - half, 0.545), (x + half, 0.545), (x + half * 0.95, 0.455), (x - half * 0.95, 0.455)], look.bag_colour)
    canvas.crease((x - half * 0.9, 0.515), (x + half * 0.9, 0.515), 0.006, 0.7)


def _draw_backpack(canvas, look, bones):
    if look.bag != 'backpack':
        return
    x, half = -0.1 * bones.sin * look.girth, spread(0.08, 0.048, bones)
    canvas.polygon(
        [
            (x - half * 0.75, 0.825),
            (x + half * 0.75, 0.825),
            (x + half, 0.78),
            (x + half, 0.6),
            (x + half * 0.85, 0.57),
            (x - half * 0.85, 0.57),
            (x - half, 0.6),
            (x - half, 0.78),
        ],
        look.bag_colour,
    )
    if bones.cos < 0.3:
        canvas.polygon(
            [(x - half * 0.65, 0.685), (x + half * 0.65, 0.685), (x + half * 0.6, 0.595), (x - half * 0.6, 0.595)],
            _shade(look.bag_colour, 1.2),
        )
        canvas.crease((x - half * 0.8, 0.74), (x + half * 0.8, 0.74), 0.006, 0.7)


def _draw_straps(canvas, look, bones):
    if look.bag == 'backpack' and bones.cos > -0.1:
        for side in (-1, 1):
            x = 0.062 * side * bones.cos * look.girth + 0.02 * bones.sin
            canvas.line([(x, 0.838), (x + 0.02 * bones.sin, 0.75), (x * 1.15 - 0.02 * bones.sin, 0.66)], look.bag_colour, 0.017)
    elif look.bag == 'crossbody':
        front = 1 if bones.cos > 0 else -1
        high = -0.06 * look.bag_side * bones.cos + 0.01 * front * bones.sin
        low = 0.1 * look.bag_side * bones.cos + 0.02 * front * bones.sin
        canvas.line([(high, 0.84), (low, 0.55)], _shade(look.bag_colour, 0.9), 0.012)
