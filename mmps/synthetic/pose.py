"""How a person stands in one sighting: the view, the step, and where the joints fall on the picture plane.

Lengths are in body heights. A body point has a lateral (the person's left), a forward and an upward coordinate; a
picture point has x to the right and y upwards from the ground, and a depth towards the viewer that orders what covers
what. At yaw 0 the person faces the viewer, at pi / 2 walks to the right, at pi shows the back.
"""

import math
from dataclasses import dataclass

HIP, SHOULDER, THIGH, SHIN, UPPER_ARM, FOREARM = 0.51, 0.802, 0.245, 0.222, 0.158, 0.15
FOOT = 0.085
HEAD_Y, HEAD_R = 0.922, 0.062
PITCH = 0.11  # how far a step towards the viewer drops on the picture: the camera looks down a little


@dataclass(frozen=True)
class Pose:
    """One sighting's pose. Angles in radians."""

    yaw: float
    phase: float  # of the walking cycle
    stride: float  # largest swing of a leg from the vertical
    elbow: float  # how much the arms bend
    phone: int  # +1 the left hand is raised to the chest, -1 the right one, 0 neither


@dataclass(frozen=True)
class Skeleton:
    """Joints on the picture plane: (x, y) tuples. Sides are (left, right) of the person."""

    legs: tuple  # two of (hip, knee, ankle, toe)
    arms: tuple  # two of (shoulder, elbow, hand)
    leg_depth: tuple
    arm_depth: tuple
    cos: float  # of the yaw: > 0 is a frontal view
    sin: float


def draw_pose(rng, look):
    """A random pose: mostly walking along, across, or slantwise. A hand that carries a bag stays down."""
    yaw = rng.choice((0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75)) * math.pi + rng.gauss(0, 0.2)
    standing = rng.random() < 0.15
    phone = rng.choice((-1, 1)) if rng.random() < 0.15 else 0
    if look.bag == 'tote' and phone == look.bag_side:
        phone = -phone
    return Pose(
        yaw=yaw % (2 * math.pi),
        phase=rng.uniform(0, 2 * math.pi),
        stride=rng.uniform(0.02, 0.08) if standing else rng.uniform(0.24, 0.46),
        elbow=rng.uniform(0.15, 0.6),
        phone=phone,
    )


def skeleton(pose, girth=1.0, shoulders=1.0):
    """Joints of a posed body.

    Args:
        pose (Pose): The pose.
        girth (float): Body width, 1 = average.
        shoulders (float): Shoulder width, 1 = average.

    Returns:
        Skeleton: Its lower foot touches y = 0 (give or take the sole).
    """
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)

    def project(lateral, forward, up):
        return lateral * cos + forward * sin, up - PITCH * (forward * cos - lateral * sin)

    legs, arms, leg_depth, arm_depth = [], [], [], []
    for side in (1, -1):
        cycle = pose.phase + (0 if side > 0 else math.pi)
        swing = pose.stride * math.sin(cycle)
        # A leg bends while it swings forwards, so that the foot clears the ground.
        bend = 0.06 + 1.7 * pose.stride * max(0.0, math.cos(cycle)) ** 1.5
        lateral = side * 0.046 * girth
        knee_f, knee_y = THIGH * math.sin(swing), HIP - THIGH * math.cos(swing)
        ankle_f = knee_f + SHIN * math.sin(swing - bend)
        ankle_y = knee_y - SHIN * math.cos(swing - bend)
        tilt = 0.75 * (swing - bend * 0.8)
        toe_f, toe_y = ankle_f + FOOT * math.cos(tilt), ankle_y - 0.018 + FOOT * math.sin(tilt)
        inner = lateral * 0.8
        legs.append(
            (
                project(lateral, 0, HIP),
                project(lateral, knee_f, knee_y),
                project(inner, ankle_f, ankle_y),
                project(inner * 1.25, toe_f, toe_y),
            )
        )
        leg_depth.append((knee_f + ankle_f) * cos - 2 * lateral * sin)

        swing = -0.85 * pose.stride * math.sin(cycle)
        bend = pose.elbow + 0.4 * max(0.0, swing)
        if side == pose.phone:
            swing, bend = 0.2, 2.0
        lateral = side * 0.103 * girth * shoulders
        elbow_f, elbow_y = UPPER_ARM * math.sin(swing), SHOULDER - UPPER_ARM * math.cos(swing)
        hand_f = elbow_f + FOREARM * math.sin(swing + bend)
        hand_y = elbow_y - FOREARM * math.cos(swing + bend)
        arms.append(
            (
                project(lateral, 0, SHOULDER),
                project(lateral + side * 0.021, elbow_f, elbow_y),
                project(lateral + side * 0.02, hand_f, hand_y),
            )
        )
        arm_depth.append(elbow_f * cos - lateral * sin + 0.5 * hand_f * cos)
    ground = min(min(leg[2][1] - 0.03, leg[3][1] - 0.012) for leg in legs)
    lift = [tuple((x, y - ground) for x, y in leg) for leg in legs]
    hang = [tuple((x, y - ground) for x, y in arm) for arm in arms]
    return Skeleton(tuple(lift), tuple(hang), tuple(leg_depth), tuple(arm_depth), cos, sin)


def spread(width, depth, bones):
    """Half the picture width of something `width` across and `depth` thick (both halves) at the body's yaw."""
    return math.hypot(width * bones.cos, depth * bones.sin)


def aspect(look, pose):
    """Width of a person's bounding box, in box heights, from the joints alone (the drawing agrees to a few percent)."""
    bones = skeleton(pose, look.girth, look.shoulders)
    thick = 0.034 * look.girth
    left, right = [], []

    def cover(x, radius):
        left.append(x - radius)
        right.append(x + radius)

    for leg in bones.legs:
        cover(leg[1][0], thick * 1.1)
        cover(leg[2][0], 0.03)
        cover(leg[3][0], 0.016)
    for arm in bones.arms:
        cover(arm[0][0], thick)
        cover(arm[1][0], thick * 0.95)
        cover(arm[2][0], 0.024)
    cover(0, spread(0.105, 0.075, bones) * look.girth)
    if look.lower in ('skirt', 'long_skirt') or look.upper == 'coat':
        cover(0, skirt_reach(look, bones))
    for x, radius in bag_reach(look, bones):
        cover(x, radius)
    top = HEAD_Y + HEAD_R * 1.25
    return (max(right) - min(left)) / (top + 0.01)


def skirt_reach(look, bones):
    """Half the width of a skirt's or a coat's hem: it follows the knees."""
    knees = [leg[1][0] for leg in bones.legs]
    return max(spread(0.115, 0.09, bones) * look.girth, (max(knees) - min(knees)) / 2 + 0.045)


def bag_reach(look, bones):
    """(x, half width) of what a bag covers; empty without one."""
    if look.bag == 'backpack':
        return [(-0.105 * bones.sin * look.girth, spread(0.085, 0.05, bones))]
    if look.bag == 'crossbody':
        return [(0.115 * look.bag_side * bones.cos * look.girth, spread(0.05, 0.062, bones))]
    if look.bag == 'tote':
        hand = bones.arms[0 if look.bag_side > 0 else 1][2]
        return [(hand[0], spread(0.035, 0.075, bones))]
    return []
