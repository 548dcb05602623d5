"""How a person stands in one sighting: view, step, and the joints on the picture plane.

Lengths are in body heights. A body point has a lateral (to the person's left), a forward and an upward coordinate. A
picture point has x to the right and y up from the ground. Its depth grows towards the viewer: what has more covers what
has less. At yaw 0 the person faces the viewer, at pi / 2 walks to the right, at pi shows the back.
"""

import math
import random
from dataclasses import dataclass

from .drawing import Point
from .look import Look

SIDES = (1, -1)  # the person's left and right: the order of arms and legs, and the sign of lateral coordinates
HIP, SHOULDER, THIGH, SHIN, UPPER_ARM, FOREARM = 0.51, 0.802, 0.245, 0.222, 0.158, 0.15
FOOT = 0.085
HEAD_Y, HEAD_R = 0.922, 0.062
PITCH = 0.11  # the camera looks down a little: a point that is 1 nearer to the viewer lies this much lower in the picture


@dataclass(frozen=True)
class Pose:
    """One sighting's pose. Angles in radians."""

    yaw: float
    phase: float  # of the walking cycle
    stride: float  # largest angle of a leg from the vertical
    elbow: float  # bend of the elbows
    phone: int  # the hand that is raised and holds a phone: 1 left, -1 right, 0 none
    arms: tuple[tuple[float, float], ...] | None = None  # (swing, bend) of the left and the right arm; None = as they walk
    sit: float = 0.0  # angle of the thighs of a person who sits; 0 = stands or walks
    pitch: float = PITCH
    carried: str = ''  # what the person holds, pushes or rides, in styles that have it


@dataclass(frozen=True)
class Skeleton:
    """Joints on the picture plane, as (x, y). Legs, arms and their depths are in the order of `SIDES`."""

    legs: tuple[tuple[Point, ...], ...]  # two of (hip, knee, ankle, toe)
    arms: tuple[tuple[Point, ...], ...]  # two of (shoulder, elbow, hand)
    leg_depth: tuple[float, ...]
    arm_depth: tuple[float, ...]
    cos: float  # of the yaw; a frontal view has > 0
    sin: float
    base: float = 0.0  # y of the ground: 0, but for a person who sits

    @property
    def knee_middle(self) -> float:
        """x between the knees."""
        return sum(leg[1][0] for leg in self.legs) / 2


def draw_pose(rng: random.Random, look: Look) -> Pose:
    """Returns a random pose: mostly walking, in one of eight directions. A hand that carries a bag stays down."""
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


def skeleton(pose: Pose, girth: float = 1.0, shoulders: float = 1.0) -> Skeleton:
    """Returns the joints of a body in a pose. The lower foot touches y = 0, but for the thickness of the sole.

    Args:
        pose: The pose.
        girth: Body width, 1 = average.
        shoulders: Shoulder width, 1 = average.
    """
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)

    def project(lateral: float, forward: float, up: float) -> Point:
        return lateral * cos + forward * sin, up - pose.pitch * (forward * cos - lateral * sin)

    legs: list[tuple[Point, ...]] = []
    arms: list[tuple[Point, ...]] = []
    leg_depth, arm_depth = [], []
    for side in SIDES:
        cycle = pose.phase + (0 if side > 0 else math.pi)
        swing = pose.stride * math.sin(cycle)
        # A leg bends while it swings forwards, so that the foot clears the ground.
        bend = 0.06 + 1.7 * pose.stride * max(0.0, math.cos(cycle)) ** 1.5
        if pose.sit:
            swing = bend = pose.sit
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
        elif pose.arms is not None:
            swing, bend = pose.arms[SIDES.index(side)]
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
    if pose.sit:
        return Skeleton(tuple(legs), tuple(arms), tuple(leg_depth), tuple(arm_depth), cos, sin, base=ground)
    legs, arms = ([tuple((x, y - ground) for x, y in limb) for limb in limbs] for limbs in (legs, arms))
    return Skeleton(tuple(legs), tuple(arms), tuple(leg_depth), tuple(arm_depth), cos, sin)


def stature(pose: Pose) -> float:
    """Returns the height of a body in this pose, relative to the same body upright."""
    if not pose.sit:
        return 1.0
    top = HEAD_Y + HEAD_R * 1.25
    return (top - skeleton(pose).base) / top


def spread(width: float, depth: float, bones: Skeleton) -> float:
    """Returns the half width, in the picture, of a body part with half width `width` and half depth `depth`."""
    return math.hypot(width * bones.cos, depth * bones.sin)


def aspect(look: Look, pose: Pose) -> float:
    """Returns width / height of a person's bounding box, estimated from the joints: the drawing differs by a few percent."""
    bones = skeleton(pose, look.girth, look.shoulders)
    thick = 0.034 * look.girth
    left: list[float] = []
    right: list[float] = []

    def cover(x: float, radius: float) -> None:
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
    return (max(right) - min(left)) / (top - bones.base + 0.01)


def skirt_reach(look: Look, bones: Skeleton) -> float:
    """Returns half the width of a skirt's or a coat's hem, which follows the knees."""
    knees = [leg[1][0] for leg in bones.legs]
    return max(spread(0.115, 0.09, bones) * look.girth, (max(knees) - min(knees)) / 2 + 0.045)


def bag_reach(look: Look, bones: Skeleton) -> list[tuple[float, float]]:
    """Returns (x, half width) of the bag in the picture; an empty list without a bag."""
    if look.bag == 'backpack':
        return [(-0.105 * bones.sin * look.girth, spread(0.085, 0.05, bones))]
    if look.bag == 'crossbody':
        return [(0.115 * look.bag_side * bones.cos * look.girth, spread(0.05, 0.062, bones))]
    if look.bag == 'tote':
        hand = bones.arms[SIDES.index(look.bag_side)][2]
        return [(hand[0], spread(0.035, 0.075, bones))]
    return []
