"""Draws one person: a look in a pose."""

import numpy as np

from .canvas import Canvas, Fill
from .drawing import Point, shade
from .head import draw_head, draw_long_hair
from .look import Look
from .patterns import draw_logo, texture
from .pose import SIDES, Pose, Skeleton, skeleton, skirt_reach, spread

# Radii of a trouser leg at thigh, knee and ankle.
_TROUSERS = {
    'slim': (0.052, 0.04, 0.026),
    'trousers': (0.056, 0.046, 0.037),
    'wide': (0.059, 0.055, 0.052),
    'shorts': (0.057, 0.053, 0.05),
}
_BARE_LEG = (0.047, 0.036, 0.026)
# How much wider than the body an upper garment is.
_WIDTHS = {'coat': 1.07, 'jacket': 1.07, 'hoodie': 1.06, 'vest': 1.03, 'shirt': 1.0, 'tshirt': 0.98, 'dress': 0.95}


def _mix(a: Point, b: Point, part: float) -> Point:
    """Returns the point `part` of the way from a to b."""
    return a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part


def draw_figure(look: Look, pose: Pose, scale: float, light: float = -0.5) -> np.ndarray:
    """Draws one person on a transparent canvas, cropped to the person's bounding box.

    Args:
        look: The person's look.
        pose: The person's pose.
        scale: Pixels per body height.
        light: Where the light comes from: -1 from the left to 1 from the right.

    Returns:
        uint8 (h, w, 4), BGR premultiplied by the alpha in the last channel.
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
        _draw_arm(canvas, look, bones, side, fill, holds_phone=pose.phone == SIDES[side])
    if look.bag == 'crossbody' and _bag_depth(look, bones) < 0:
        _draw_side_bag(canvas, look, bones)
    for side in sorted((0, 1), key=lambda s: bones.leg_depth[s]):
        _draw_leg(canvas, look, bones, side)
    _draw_hips(canvas, look, bones)
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
            _draw_arm(canvas, look, bones, side, fill, holds_phone=pose.phone == SIDES[side])
    return canvas.finish()


def _draw_leg(canvas: Canvas, look: Look, bones: Skeleton, side: int) -> None:
    hip, knee, ankle, toe = bones.legs[side]
    thigh_radius, knee_radius, ankle_radius = (r * look.girth for r in _TROUSERS.get(look.lower, _BARE_LEG))
    is_far = bones.leg_depth[side] < bones.leg_depth[1 - side] - 0.02
    brightness = 0.86 if is_far else 1.0
    shoe_colour = shade(look.shoe_colour, brightness)
    sole = (ankle[0], ankle[1] - 0.016)
    canvas.capsule(sole, toe, 0.022, 0.014, shoe_colour, core=0.6)
    bare = look.lower in ('shorts', 'skirt')
    shin = look.skin if bare or look.lower == 'long_skirt' else look.lower_colour
    shin_radii = (0.036 * look.girth, 0.023) if bare else (knee_radius, ankle_radius)
    canvas.capsule(knee, ankle, *shin_radii, shade(shin, brightness))
    if look.boots:
        canvas.capsule(_mix(knee, ankle, 0.5), sole, max(0.032, knee_radius * 0.8), 0.026, shoe_colour)
    thigh = look.skin if look.lower in ('skirt', 'long_skirt') else look.lower_colour
    canvas.capsule(hip, _mix(hip, knee, 0.95), thigh_radius, knee_radius, shade(thigh, brightness))
    # The stripe runs down the outer side. On the far leg it cannot be seen from the side.
    outward = SIDES[side] * bones.cos
    if look.side_stripe and (abs(outward) > 0.3 or not is_far):
        shift = 0.03 * outward * look.girth
        line = [(hip[0] + shift, hip[1]), (knee[0] + shift, knee[1])]
        if not bare:
            line.append((ankle[0] + shift * 0.8, ankle[1]))
        canvas.line(line, look.accent, 0.013)
    canvas.crease((knee[0] - 0.02, knee[1] + 0.008), (knee[0] + 0.02, knee[1] - 0.006), 0.006, 0.8)


def _draw_hips(canvas: Canvas, look: Look, bones: Skeleton) -> None:
    """Draws the skirt over the legs, or the hips of trousers."""
    hip = spread(0.082, 0.068, bones) * look.girth
    if look.lower in ('skirt', 'long_skirt'):
        hem = 0.31 if look.lower == 'skirt' else 0.1
        reach = skirt_reach(look, bones) * (0.92 if look.lower == 'skirt' else 1.0)
        middle = bones.knee_middle
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


def _draw_torso(canvas: Canvas, look: Look, bones: Skeleton, fill: Fill) -> None:
    width = _WIDTHS[look.upper] * look.girth
    shoulder = spread(0.112 * look.shoulders, 0.062, bones) * width
    chest = spread(0.104 * look.shoulders, 0.076, bones) * width
    waist = spread(0.09, 0.07, bones) * width * (0.9 if look.upper == 'dress' else 1.0)
    hem = spread(0.094, 0.076, bones) * width
    lean = 0.012 * bones.sin
    middle = 0.0
    if look.upper == 'coat':
        hem = max(hem, skirt_reach(look, bones) * 0.94)
        middle = bones.knee_middle
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
        dark = shade(look.upper_colour, 0.8)
        canvas.ellipse((-0.03 * bones.sin, 0.838), spread(0.062, 0.056, bones), 0.03, dark)
    if look.upper in ('shirt', 'coat') and bones.cos > -0.2:
        collar = shade(look.upper_colour, 1.15)
        x = 0.03 * bones.sin
        canvas.polygon([(x - 0.045, 0.85), (x, 0.815), (x + 0.045, 0.85)], collar)
        canvas.polygon([(x - 0.022, 0.855), (x, 0.825), (x + 0.022, 0.855)], look.skin)
    elif look.upper in ('tshirt', 'dress', 'vest') and bones.cos > -0.1:
        canvas.ellipse((0.03 * bones.sin, 0.842), 0.03, 0.02, look.skin)
    draw_logo(canvas, look, bones)
    for y, part in ((0.64, 0.5), (0.565, -0.3), (0.53, 0.6)):
        canvas.crease((part * waist, y), ((part - 0.5) * waist, y - 0.02), 0.006, 0.86)
    canvas.crease((middle - hem, look.hem + 0.004), (middle + hem, look.hem + 0.004), 0.01, 0.7)


def _draw_arm(canvas: Canvas, look: Look, bones: Skeleton, side: int, fill: Fill, holds_phone: bool) -> None:
    shoulder, elbow, hand = bones.arms[side]
    width = _WIDTHS[look.upper] * look.girth
    skin = look.skin
    canvas.ellipse(hand, 0.021, 0.025, skin)
    canvas.capsule(elbow, hand, 0.025 * look.girth, 0.018, skin)
    canvas.capsule(shoulder, elbow, 0.03 * look.girth, 0.026 * look.girth, skin)
    if look.sleeve > 0:
        # The lower sleeve comes first, so that the upper one covers it at the elbow.
        if look.sleeve > 0.55:
            end = _mix(elbow, hand, min(1.0, (look.sleeve - 0.5) * 2) * 0.94)
            canvas.capsule(elbow, end, 0.032 * width, 0.026 * width, fill)
        canvas.capsule(shoulder, _mix(shoulder, elbow, min(1.0, look.sleeve * 2)), 0.034 * width, 0.033 * width, fill)
    if look.bag == 'tote' and SIDES[side] == look.bag_side:
        _draw_tote(canvas, look, bones, hand)
    if holds_phone:
        phone = np.array([(-0.012, -0.02), (0.012, -0.02), (0.012, 0.025), (-0.012, 0.025)])
        canvas.polygon(phone + hand, (30, 30, 30))


def _draw_tote(canvas: Canvas, look: Look, bones: Skeleton, hand: Point) -> None:
    half = spread(0.03, 0.07, bones)
    x, y = hand[0], hand[1] - 0.05
    canvas.line([(x - half * 0.6, y), hand, (x + half * 0.6, y)], shade(look.bag_colour, 0.8), 0.008)
    canvas.polygon([(x - half * 0.9, y), (x + half * 0.9, y), (x + half, y - 0.115), (x - half, y - 0.115)], look.bag_colour)


def _bag_depth(look: Look, bones: Skeleton) -> float:
    """Returns the depth of a bag at the hip: > 0 is nearer to the viewer than the body."""
    return -look.bag_side * bones.sin


def _draw_side_bag(canvas: Canvas, look: Look, bones: Skeleton) -> None:
    x = 0.115 * look.bag_side * bones.cos * look.girth
    half = spread(0.036, 0.06, bones)
    canvas.polygon([(x - half, 0.545), (x + half, 0.545), (x + half * 0.95, 0.455), (x - half * 0.95, 0.455)], look.bag_colour)
    canvas.crease((x - half * 0.9, 0.515), (x + half * 0.9, 0.515), 0.006, 0.7)


def _draw_backpack(canvas: Canvas, look: Look, bones: Skeleton) -> None:
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
            shade(look.bag_colour, 1.2),
        )
        canvas.crease((x - half * 0.8, 0.74), (x + half * 0.8, 0.74), 0.006, 0.7)


def _draw_straps(canvas: Canvas, look: Look, bones: Skeleton) -> None:
    if look.bag == 'backpack' and bones.cos > -0.1:
        for side in (-1, 1):
            x = 0.062 * side * bones.cos * look.girth + 0.02 * bones.sin
            canvas.line([(x, 0.838), (x + 0.02 * bones.sin, 0.75), (x * 1.15 - 0.02 * bones.sin, 0.66)], look.bag_colour, 0.017)
    elif look.bag == 'crossbody':
        front = 1 if bones.cos > 0 else -1
        high = -0.06 * look.bag_side * bones.cos + 0.01 * front * bones.sin
        low = 0.1 * look.bag_side * bones.cos + 0.02 * front * bones.sin
        canvas.line([(high, 0.84), (low, 0.55)], shade(look.bag_colour, 0.9), 0.012)
