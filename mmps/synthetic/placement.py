"""Where people and furniture stand, so that everybody who is drawn can also be found.

All lengths are in scene heights. A figure does not fill its box, so both what hides and what is hidden is taken to be
the middle of the box.
"""

import math

import numpy as np

from .camera import FARTHEST, NEAREST
from .furniture import Item
from .seeds import CAMERA, stream, weighted

ROWS, COLUMNS = 14, 6  # sample points on a person
SEEN = 0.5  # at least this part of them is in the image and not hidden
_CORE = 0.64  # of a box's width
_TRIES = 24
_FIXED = {'pole': 4, 'bin': 3, 'bench': 3, 'planter': 3, 'bollard': 2, 'hydrant': 1}
_LOOSE = {'bike': 4, 'sign': 3, 'bin': 1, 'planter': 1}


class Visibility:
    """Keeps, for everybody placed so far, which of their sample points can be seen.

    Args:
        aspect (float): Scene width in scene heights.
    """

    def __init__(self, aspect):
        self.aspect = aspect
        self.placed = []  # (depth, box, solid box, points or None for furniture)

    def try_place(self, depth, box, is_person=True, force=False):
        """Place something unless it would be hidden, or hide somebody.

        Args:
            depth (float): Larger is nearer.
            box (tuple): left, top, right, bottom.
            is_person (bool): Furniture may be hidden.
            force (bool): Place it whatever it hides.

        Returns:
            float: The part seen of whoever is seen least, 0 to 1; it was placed if this is at least `SEEN`.
        """
        left, top, right, bottom = box
        middle, half = (left + right) / 2, (right - left) / 2 * (_CORE if is_person else 0.9)
        solid = (middle - half, top, middle + half, bottom)
        points, least = None, 1.0
        if is_person:
            points = np.ones((ROWS, COLUMNS), bool)
            _hide_outside(points, solid, self.aspect)
            for other, _, cover, _ in self.placed:
                if other > depth:
                    _hide(points, solid, cover)
            least = np.count_nonzero(points) / points.size
        changed = []
        for k, (other, _, covered, seen) in enumerate(self.placed):
            if other <= depth and seen is not None:
                after = seen.copy()
                _hide(after, covered, solid)
                least = min(least, np.count_nonzero(after) / after.size)
                changed.append((k, after))
        if least >= SEEN or force:
            for k, after in changed:
                self.placed[k] = (*self.placed[k][:3], after)
            self.placed.append((depth, box, solid, points))
        return least


def _cells(low, high, start, stop, count):
    """Indices of the `count` cell centres of [start, stop] that lie in [low, high]."""
    step = (stop - start) / count
    return max(0, math.ceil((low - start) / step - 0.5)), max(0, math.floor((high - start) / step - 0.5) + 1)


def _hide(points, box, cover):
    x0, x1 = _cells(cover[0], cover[2], box[0], box[2], COLUMNS)
    y0, y1 = _cells(cover[1], cover[3], box[1], box[3], ROWS)
    points[y0:y1, x0:x1] = False


def _hide_outside(points, box, aspect):
    x0, x1 = _cells(0, aspect, box[0], box[2], COLUMNS)
    y0, y1 = _cells(0, 1, box[1], box[3], ROWS)
    points[:, :x0] = False
    points[:, x1:] = False
    points[:y0] = False
    points[y1:] = False


def camera_furniture(seed, camera, aspect):
    """What stands before a camera in every scene: a list of Item."""
    rng = stream(seed, CAMERA, camera.index, 2)
    items = []
    for _ in range(rng.randrange(1, 4)):
        kind = weighted(rng, _FIXED)
        items.append(Item(kind, rng.uniform(0, aspect), rng.uniform(FARTHEST, 0.52), rng.randrange(24)))
    return items


def scene_furniture(rng, aspect):
    """What happens to stand in one scene: a list of Item, often empty."""
    count = int(rng.random() < 0.35) + int(rng.random() < 0.1)
    return [
        Item(weighted(rng, _LOOSE), rng.uniform(0, aspect), rng.uniform(FARTHEST, 0.5), rng.randrange(24)) for _ in range(count)
    ]


def person_box(rng, camera, stature, ratio, aspect):
    """A random place to stand.

    Args:
        rng (random.Random): Where the randomness comes from.
        camera (Camera): Gives the ground.
        stature (float): The person's height, 1 = average.
        ratio (float): Box width in box heights.
        aspect (float): Scene width.

    Returns:
        tuple: depth, (left, top, right, bottom).
    """
    # Near people are rarer: they stand on less ground.
    depth = FARTHEST + (NEAREST - FARTHEST) * rng.random() ** 1.35
    tall = min(max(depth * stature, FARTHEST), NEAREST)
    foot, width = camera.foot(depth), tall * ratio
    x = rng.uniform(0.1 * width, aspect - 0.1 * width)
    return depth, (x - width / 2, foot - tall, x + width / 2, foot)


def place_person(rng, visibility, camera, stature, ratio, must):
    """Find a place for one person.

    Args:
        rng (random.Random): Where the randomness comes from.
        visibility (Visibility): Who stands where already; gets the new person.
        camera (Camera): Gives the ground.
        stature (float): The person's height, 1 = average.
        ratio (float): Box width in box heights.
        must (bool): Take the best place if no place is good; a labelled person cannot stay away.

    Returns:
        tuple or None: depth, (left, top, right, bottom).
    """
    best, best_seen = None, -1.0
    for _ in range(_TRIES if must else _TRIES // 3):
        depth, box = person_box(rng, camera, stature, ratio, visibility.aspect)
        seen = visibility.try_place(depth, box)
        if seen >= SEEN:
            return depth, box
        if seen > best_seen:
            best, best_seen = (depth, box), seen
    if not must:
        return None
    visibility.try_place(*best, force=True)
    return best
