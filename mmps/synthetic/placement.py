"""Chooses where people and furniture stand, so that everybody who is drawn can also be found.

All lengths are in scene heights; a box is (left, top, right, bottom). A figure does not fill its box. So only the middle
part of a box, its core, counts as hiding others and as being hidden.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .camera import FARTHEST, Camera
from .furniture import Item
from .seeds import CAMERA, stream, weighted_choice

Box = tuple[float, float, float, float]

_ROWS, _COLUMNS = 14, 6  # sample points on a person
_PERSON_CORE, _FURNITURE_CORE = 0.64, 0.9  # width of the core, relative to the box
# Kinds of furniture that stay with a camera, and kinds that come and go; with weights.
_FIXED = {'pole': 4, 'bin': 3, 'bench': 3, 'planter': 3, 'bollard': 2, 'hydrant': 1}
_LOOSE = {'bike': 4, 'sign': 3, 'bin': 1, 'planter': 1}


@dataclass(slots=True)
class _Placed:
    """A person or piece of furniture that has a place. Furniture has no sample points."""

    depth: float
    core: Box
    visible: np.ndarray | None  # bool (_ROWS, _COLUMNS)


class Visibility:
    """Records which sample points of everybody placed so far can be seen.

    Args:
        aspect: Scene width in scene heights.
        least: Share of a person's sample points that must be in the image and not hidden.
    """

    def __init__(self, aspect: float, least: float):
        self.aspect = aspect
        self.least = least
        self.placed: list[_Placed] = []

    def try_place(self, depth: float, box: Box, is_person: bool = True, force: bool = False) -> float:
        """Places a person or furniture, unless somebody would then be hidden.

        Args:
            depth: Larger is nearer.
            box: Box of the person or furniture.
            is_person: False for furniture, which may be hidden.
            force: Places it even if somebody is then hidden.

        Returns:
            Visible share, 0 to 1, of the person who is seen least. Without `force`, nothing is placed if it is below `least`.
        """
        left, top, right, bottom = box
        middle, half = (left + right) / 2, (right - left) / 2 * (_PERSON_CORE if is_person else _FURNITURE_CORE)
        core = (middle - half, top, middle + half, bottom)
        visible, least = None, 1.0
        if is_person:
            visible = np.ones((_ROWS, _COLUMNS), bool)
            _hide_outside(visible, core, self.aspect)
            for other in self.placed:
                if other.depth > depth:
                    _hide(visible, core, other.core)
            least = _share(visible)
        changed = []
        for other in self.placed:
            if other.depth <= depth and other.visible is not None:
                still_visible = other.visible.copy()
                _hide(still_visible, other.core, core)
                least = min(least, _share(still_visible))
                changed.append((other, still_visible))
        if least >= self.least or force:
            for other, still_visible in changed:
                other.visible = still_visible
            self.placed.append(_Placed(depth, core, visible))
        return least


def _share(points: np.ndarray) -> float:
    return np.count_nonzero(points) / points.size


def _covered_cells(low: float, high: float, start: float, stop: float, count: int) -> tuple[int, int]:
    """Divides [start, stop] into `count` cells. Returns the range of cells whose centres lie in [low, high]."""
    step = (stop - start) / count
    return max(0, math.ceil((low - start) / step - 0.5)), max(0, math.floor((high - start) / step - 0.5) + 1)


def _hide(points: np.ndarray, box: Box, cover: Box) -> None:
    """Marks the sample points of `box` that `cover` covers as hidden."""
    x0, x1 = _covered_cells(cover[0], cover[2], box[0], box[2], _COLUMNS)
    y0, y1 = _covered_cells(cover[1], cover[3], box[1], box[3], _ROWS)
    points[y0:y1, x0:x1] = False


def _hide_outside(points: np.ndarray, box: Box, aspect: float) -> None:
    """Marks the sample points of `box` that lie outside the scene as hidden."""
    x0, x1 = _covered_cells(0, aspect, box[0], box[2], _COLUMNS)
    y0, y1 = _covered_cells(0, 1, box[1], box[3], _ROWS)
    points[:, :x0] = False
    points[:, x1:] = False
    points[:y0] = False
    points[y1:] = False


def camera_furniture(seed: int, camera: Camera, aspect: float) -> list[Item]:
    """Returns the furniture that every scene of a camera shows."""
    rng = stream(seed, CAMERA, camera.index, 2)
    return [_random_item(rng, _FIXED, aspect, nearest=0.52) for _ in range(rng.randrange(1, 4))]


def scene_furniture(rng: random.Random, aspect: float) -> list[Item]:
    """Returns the furniture of one scene alone: none, one or two pieces."""
    count = int(rng.random() < 0.35) + int(rng.random() < 0.1)
    return [_random_item(rng, _LOOSE, aspect, nearest=0.5) for _ in range(count)]


def _random_item(rng: random.Random, weights: dict[str, int], aspect: float, nearest: float) -> Item:
    return Item(weighted_choice(rng, weights), rng.uniform(0, aspect), rng.uniform(FARTHEST, nearest), rng.randrange(24))


def _random_place(
    rng: random.Random, camera: Camera, stature: float, ratio: Callable[[float], float], visibility: 'Visibility'
) -> tuple[float, Box]:
    """Returns depth and box of a random place to stand; arguments as in `place_person`."""
    people = [other for other in visibility.placed if other.visible is not None] if camera.sociable else []
    if people and rng.random() < camera.sociable:
        friend = rng.choice(people)
        depth = min(max(friend.depth * rng.uniform(0.93, 1.07), camera.far), camera.near)
        x = (friend.core[0] + friend.core[2]) / 2 + rng.choice((-1, 1)) * rng.uniform(0.2, 0.6) * depth
    else:
        depth, x = camera.random_depth(rng), None
    height = min(max(depth * stature, camera.shortest), camera.near)
    foot, width = camera.foot(depth), height * ratio(depth)
    if x is None:
        x = rng.uniform(0.1 * width, visibility.aspect - 0.1 * width)
    return depth, (x - width / 2, foot - height, x + width / 2, foot)


def place_person(
    rng: random.Random, visibility: Visibility, camera: Camera, stature: float, ratio: Callable[[float], float], required: bool
) -> tuple[float, Box] | None:
    """Finds a place for one person, at which nobody is hidden too much.

    Args:
        rng: Source of randomness.
        visibility: Who stands where already. The new person is added to it.
        camera: Tells where the ground is.
        stature: The person's height, 1 = average.
        ratio: Returns the width of the person's box, relative to its height, at a depth.
        required: Takes the best of the places tried if none is good. Labelled people must be in their scenes.

    Returns:
        Depth and box, or None if there is no good place and the person is not required.
    """
    tried = []
    for _ in range(camera.tries if required else camera.tries // 3):
        depth, box = _random_place(rng, camera, stature, ratio, visibility)
        share = visibility.try_place(depth, box)
        if share >= visibility.least:
            return depth, box
        tried.append((share, depth, box))
    if not required:
        return None
    _, depth, box = max(tried, key=lambda place: place[0])
    visibility.try_place(depth, box, force=True)
    return depth, box
