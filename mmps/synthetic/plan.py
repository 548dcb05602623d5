"""Plans who stands where in every scene, without drawing. The annotations follow from the plan alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .camera import Camera
from .furniture import Item
from .look import Look
from .placement import Box, Visibility, place_person
from .pose import Pose, stature
from .seeds import IDENTITY, QUERY, SCENE, SPLIT, UNLABELLED, stream
from .size import Size, get_size
from .style import Style
from .styles import get_style

PixelBox = tuple[int, int, int, int]  # x, y, w, h

LAYOUTS = ('cuhk-sysu', 'prw')
LABELLED = 2 / 3  # share of the people that has an identity
TRAIN, TEST = 0, 1


@dataclass(frozen=True)
class Person:
    """One sighting of a person.

    Args:
        person_id: 0..ids-1 within the split, -1 for an unlabelled person.
        slot: Position at which the scene's plan lists the person; decides the look of an unlabelled person.
        pose: How the person stands.
        depth: Height of an average person at this place, in scene heights; larger is nearer.
        figure: x, y, w, h of the whole figure, in pixels; may reach out of the scene.
        box: x, y, w, h of the part inside the scene, in pixels.
    """

    person_id: int
    slot: int
    pose: Pose
    depth: float
    figure: PixelBox
    box: PixelBox


@dataclass(frozen=True)
class Scene:
    """One image. Its people are sorted from the farthest to the nearest."""

    index: int
    name: str
    split: int
    camera: int
    persons: tuple[Person, ...]
    furniture: tuple[Item, ...]


@dataclass(frozen=True)
class Plan:
    """A whole data set before it is drawn.

    Args:
        size: Its counts.
        layout: 'cuhk-sysu' or 'prw'.
        seed: Its seed.
        style: How it is drawn: 'varied' or 'classic'.
        scenes: Training scenes, then test scenes.
        queries: (index of the scene, position of the person in its `persons`).
    """

    size: Size
    layout: str
    seed: int
    style: str
    scenes: list[Scene]
    queries: list[tuple[int, int]]

    def split(self, split: int) -> list[Scene]:
        """Returns the scenes of a split, in order."""
        count = self.size.train_scenes
        return self.scenes[:count] if split == TRAIN else self.scenes[count:]

    def sightings(self, split: int) -> list[list[tuple[Scene, Person]]]:
        """Returns, for each identity of a split, its sightings in the order of the scenes."""
        num_ids = self.size.train_ids if split == TRAIN else self.size.test_ids
        found: list[list[tuple[Scene, Person]]] = [[] for _ in range(num_ids)]
        for scene in self.split(split):
            for person in scene.persons:
                if person.person_id >= 0:
                    found[person.person_id].append((scene, person))
        return found


def look_of(seed: int, scene: Scene, person: Person, style: str) -> Look:
    """Returns the look of a person of a scene, from the data set's seed and style."""
    draw_look = get_style(style).draw_look
    if person.person_id < 0:
        return draw_look(stream(seed, UNLABELLED, scene.index, person.slot))
    return draw_look(stream(seed, IDENTITY, scene.split, person.person_id))


def plan(layout: str, size: str | Size, seed: int = 0, style: str = 'varied') -> Plan:
    """Plans a data set. The same arguments give the same plan.

    Args:
        layout: 'cuhk-sysu' or 'prw'; decides nothing but the names of the images.
        size: A name in `SIZES`, or a Size.
        seed: Not negative.
        style: 'varied' or 'classic'.

    Raises:
        ValueError: If an argument is not one of these, or the size has too few scenes to show each identity twice.
    """
    size = get_size(size)
    if layout not in LAYOUTS:
        raise ValueError(f'layout must be one of {", ".join(LAYOUTS)}, got {layout!r}')
    if seed < 0:
        raise ValueError(f'seed must not be negative, got {seed}')
    drawn = get_style(style)
    if size.cameras > 6 and layout == 'prw':
        raise ValueError(f"size {size.name}: PRW's layout has at most 6 cameras, got {size.cameras}")
    cameras = [drawn.make_camera(seed, index) for index in range(size.cameras)]
    fixed = [drawn.camera_furniture(seed, camera, size.width / size.height) for camera in cameras]
    numbers = list(range(1, size.train_scenes + size.test_scenes + 1))
    stream(seed, SPLIT, 2).shuffle(numbers)
    scenes: list[Scene] = []
    for split, count, num_ids in ((TRAIN, size.train_scenes, size.train_ids), (TEST, size.test_scenes, size.test_ids)):
        looks = [drawn.draw_look(stream(seed, IDENTITY, split, person_id)) for person_id in range(num_ids)]
        people = _assign_people(stream(seed, SPLIT, split), size, count, num_ids)
        for order, (person_ids, num_unlabelled) in enumerate(people):
            index = len(scenes)
            camera = index % size.cameras
            name = (
                f's{numbers[index]}.jpg'
                if layout == 'cuhk-sysu'
                else f'c{camera + 1}s{split + 1}_{order // size.cameras * 25 + 1:06d}.jpg'
            )
            rng = stream(seed, SCENE, index)
            labelled = [(person_id, looks[person_id]) for person_id in person_ids]
            slots = range(len(person_ids), len(person_ids) + num_unlabelled)
            unlabelled = [(-1, drawn.draw_look(stream(seed, UNLABELLED, index, slot))) for slot in slots]
            persons, furniture = _place(rng, size, drawn, cameras[camera], fixed[camera], [*labelled, *unlabelled])
            scenes.append(Scene(index, name, split, camera, persons, furniture))
    unasked = Plan(size, layout, seed, style, scenes, [])
    return replace(unasked, queries=_choose_queries(unasked))


def _assign_people(rng: random.Random, size: Size, num_scenes: int, num_ids: int) -> list[tuple[list[int], int]]:
    """Decides who appears in which scene.

    Numbers of appearances of two identities differ by one at most. Some identities form groups that appear together more
    often than by chance, so that the people around a person help to recognise that person.

    Returns:
        For each scene, its person ids and its number of unlabelled people.
    """
    totals = [rng.randint(*size.persons) for _ in range(num_scenes)]
    labelled = [min(num_ids, int(LABELLED * total + rng.random())) for total in totals]
    if sum(labelled) < 2 * num_ids:
        raise ValueError(
            f'size {size.name}: {num_scenes} scenes show {sum(labelled)} labelled persons, too few to show '
            f'each of {num_ids} identities twice'
        )
    groups, start = [], 0
    while start < num_ids:
        end = min(num_ids, start + rng.choice((1, 1, 1, 2, 2, 3)))
        groups.append(list(range(start, end)))
        start = end
    queue: list[int] = []
    while len(queue) < sum(labelled) + num_ids:
        rng.shuffle(groups)
        queue.extend(person_id for group in groups for person_id in group)
    assigned, start = [], 0
    for total, count in zip(totals, labelled, strict=True):
        # Where two rounds of the queue meet, an identity can come up twice in a scene. It then swaps places with the
        # next identity that is not in the scene.
        for k in range(start, start + count):
            if queue[k] in queue[start:k]:
                other = next(m for m in range(k + 1, len(queue)) if queue[m] not in queue[start:k])
                queue[k], queue[other] = queue[other], queue[k]
        assigned.append((queue[start : start + count], total - count))
        start += count
    return assigned


def _place(
    rng: random.Random,
    size: Size,
    style: Style,
    camera: Camera,
    fixed: Sequence[Item],
    people: Sequence[tuple[int, Look]],
) -> tuple[tuple[Person, ...], tuple[Item, ...]]:
    """Places the furniture and the people, given as (person id, look), of one scene."""
    width = size.width / size.height
    visibility = Visibility(width, style.min_visible)
    furniture = (*fixed, *style.scene_furniture(rng, camera, width))
    for item in furniture:
        visibility.try_place(item.height, item.box(camera), is_person=False, force=True)
    persons = []
    for slot, (person_id, look) in enumerate(people):
        pose = style.draw_pose(rng, look)
        ratio = partial(style.ratio, look, pose, camera)
        place = place_person(rng, visibility, camera, look.height * stature(pose), ratio, required=person_id >= 0)
        if place is not None:
            depth, box = place
            persons.append(Person(person_id, slot, pose, depth, *_to_pixels(box, size)))
    return tuple(sorted(persons, key=lambda person: person.depth)), furniture


def _to_pixels(box: Box, size: Size) -> tuple[PixelBox, PixelBox]:
    """Returns the whole figure and the part inside the scene, from a box in scene heights."""
    left, top, right, bottom = (round(v * size.height) for v in box)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(size.width, right), min(size.height, bottom)
    return (left, top, right - left, bottom - top), (x0, y0, x1 - x0, y1 - y0)


def _choose_queries(plan: Plan) -> list[tuple[int, int]]:
    """Takes one sighting of every test identity in random order, then a second one of each, until there are enough."""
    rng = stream(plan.seed, QUERY)
    sightings = plan.sightings(TEST)
    for found in sightings:
        rng.shuffle(found)
    order = list(range(len(sightings)))
    rng.shuffle(order)
    queries: list[tuple[int, int]] = []
    turn = 0
    while len(queries) < plan.size.queries and any(turn < len(found) for found in sightings):
        for person_id in order:
            if turn < len(sightings[person_id]):
                scene, person = sightings[person_id][turn]
                queries.append((scene.index, scene.persons.index(person)))
        turn += 1
    return queries[: plan.size.queries]
