"""Decides who stands where in every scene, without drawing: the annotations follow from the plan alone."""

from dataclasses import dataclass

from .camera import make_camera
from .look import identity_look, passer_look
from .placement import Visibility, camera_furniture, place_person, scene_furniture
from .pose import Pose, aspect, draw_pose
from .seeds import QUERY, SCENE, SPLIT, stream
from .size import Size, get_size

LAYOUTS = ('cuhk-sysu', 'prw')
LABELLED = 2 / 3  # of the people
TRAIN, TEST = 0, 1


@dataclass(frozen=True)
class Person:
    """One sighting.

    Args:
        person_id (int): 0..ids-1 within the split, -1 for a passer-by.
        slot (int): Which passer-by of the scene it is, for its look.
        pose (Pose): How the person stands.
        depth (float): Height of an average person at this place in scene heights; larger is nearer.
        figure (tuple[int]): x, y, w, h of the whole figure in pixels; may reach out of the scene.
        box (tuple[int]): x, y, w, h of the part inside the scene.
    """

    person_id: int
    slot: int
    pose: Pose
    depth: float
    figure: tuple
    box: tuple


@dataclass(frozen=True)
class Scene:
    """One image: people from the farthest to the nearest."""

    index: int
    name: str
    split: int
    camera: int
    persons: tuple
    furniture: tuple


@dataclass(frozen=True)
class Plan:
    """A whole data set before it is drawn.

    Args:
        size (Size): Its counts.
        layout (str): 'cuhk-sysu' or 'prw'.
        seed (int): Its seed.
        scenes (list[Scene]): Training scenes, then test scenes.
        queries (list[tuple]): (index of the scene, index of the person in it).
    """

    size: Size
    layout: str
    seed: int
    scenes: list
    queries: list

    def split(self, split):
        """The scenes of a split, in order."""
        count = self.size.train_scenes
        return self.scenes[:count] if split == TRAIN else self.scenes[count:]

    def sightings(self, split):
        """For every identity of a split a list of (scene, person), in the order of the scenes."""
        ids = self.size.train_ids if split == TRAIN else self.size.test_ids
        found = [[] for _ in range(ids)]
        for scene in self.split(split):
            for person in scene.persons:
                if person.person_id >= 0:
                    found[person.person_id].append((scene, person))
        return found

    def look(self, scene, person):
        """The look of a person of a scene."""
        return look_of(self.seed, scene, person)


def look_of(seed, scene, person):
    """The look of a person of a scene, from the data set's seed."""
    if person.person_id < 0:
        return passer_look(seed, scene.index, person.slot)
    return identity_look(seed, scene.split, person.person_id)


def plan(layout, size, seed=0):
    """Plan a data set.

    Args:
        layout (str): 'cuhk-sysu' or 'prw'; decides the names of the images only.
        size (str or Size): A name of `SIZES`, or your own.
        seed (int): Not negative. The same seed gives the same plan.

    Returns:
        Plan: The plan.
    """
    size = get_size(size)
    if layout not in LAYOUTS:
        raise ValueError(f'layout must be one of {", ".join(LAYOUTS)}, got {layout!r}')
    if seed < 0:
        raise ValueError(f'seed must not be negative, got {seed}')
    cameras = [make_camera(seed, index) for index in range(size.cameras)]
    fixed = [camera_furniture(seed, camera, size.width / size.height) for camera in cameras]
    total = size.train_scenes + size.test_scenes
    numbers = list(range(1, total + 1))
    stream(seed, SPLIT, 2).shuffle(numbers)
    scenes = []
    for split, count, ids in ((TRAIN, size.train_scenes, size.train_ids), (TEST, size.test_scenes, size.test_ids)):
        cast = _cast(stream(seed, SPLIT, split), size, count, ids)
        looks = [identity_look(seed, split, person_id) for person_id in range(ids)]
        for order, (members, passers) in enumerate(cast):
            index = len(scenes)
            camera = index % size.cameras
            name = (
                f's{numbers[index]}.jpg'
                if layout == 'cuhk-sysu'
                else f'c{camera + 1}s{split + 1}_{order // size.cameras * 25 + 1:06d}.jpg'
            )
            scenes.append(_stage(seed, size, index, name, split, cameras[camera], fixed[camera], looks, members, passers))
    draft = Plan(size, layout, seed, scenes, [])
    return Plan(size, layout, seed, scenes, _choose_queries(draft))


def _cast(rng, size, scenes, ids):
    """Who appears in which scene: a list of (person ids, number of passers-by).

    Every identity appears equally often, give or take one. Some walk in company: they come together more often than
    chance, so that the company says something about who it is.
    """
    crowd = [rng.randint(*size.persons) for _ in range(scenes)]
    labelled = [min(ids, int(LABELLED * count + rng.random())) for count in crowd]
    if sum(labelled) < 2 * ids:
        raise ValueError(
            f'size {size.name}: {scenes} scenes show {sum(labelled)} labelled persons, too few to see '
            f'each of {ids} identities twice'
        )
    groups, start = [], 0
    while start < ids:
        end = min(ids, start + rng.choice((1, 1, 1, 2, 2, 3)))
        groups.append(list(range(start, end)))
        start = end
    queue = []
    while len(queue) < sum(labelled) + ids:
        rng.shuffle(groups)
        queue.extend(person for group in groups for person in group)
    cast, start = [], 0
    for count, wanted in zip(crowd, labelled, strict=True):
        # Where two rounds meet, the same identity can come up twice: the next other one takes its place.
        for k in range(start, start + wanted):
            if queue[k] in queue[start:k]:
                other = next(m for m in range(k + 1, len(queue)) if queue[m] not in queue[start:k])
                queue[k], queue[other] = queue[other], queue[k]
        cast.append((queue[start : start + wanted], count - wanted))
        start += wanted
    return cast


def _stage(seed, size, index, name, split, camera, fixed, looks, members, passers):
    """Place the people and the furniture of one scene."""
    rng = stream(seed, SCENE, index)
    wide = size.width / size.height
    visibility = Visibility(wide)
    furniture = []
    for item in (*fixed, *scene_furniture(rng, wide)):
        visibility.try_place(item.height, item.box(camera), is_person=False, force=True)
        furniture.append(item)
    persons = []
    for slot, person_id in enumerate([*members, *[-1] * passers]):
        look = passer_look(seed, index, slot) if person_id < 0 else looks[person_id]
        pose = draw_pose(rng, look)
        place = place_person(rng, visibility, camera, look.height, aspect(look, pose), must=person_id >= 0)
        if place is not None:
            figure, box = _to_pixels(place[1], size)
            persons.append(Person(person_id, slot, pose, place[0], figure, box))
    persons.sort(key=lambda person: person.depth)
    return Scene(index, name, split, camera.index, tuple(persons), tuple(furniture))


def _to_pixels(box, size):
    """Whole figure and visible part, both int (x, y, w, h), from (left, top, right, bottom) in scene heights."""
    left, top, right, bottom = (round(v * size.height) for v in box)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(size.width, right), min(size.height, bottom)
    return (left, top, right - left, bottom - top), (x0, y0, x1 - x0, y1 - y0)


def _choose_queries(draft):
    """One sighting of every test identity in turn, then a second one, until there are enough."""
    rng = stream(draft.seed, QUERY)
    sightings = draft.sightings(TEST)
    for found in sightings:
        rng.shuffle(found)
    order = list(range(len(sightings)))
    rng.shuffle(order)
    queries, turn = [], 0
    while len(queries) < draft.size.queries and any(turn < len(found) for found in sightings):
        for person_id in order:
            if turn < len(sightings[person_id]):
                scene, person = sightings[person_id][turn]
                queries.append((scene.index, scene.persons.index(person)))
        turn += 1
    return queries[: draft.size.queries]
