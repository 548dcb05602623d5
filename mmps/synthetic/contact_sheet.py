"""Draws a contact sheet for a human to look at: each row shows one identity, each column one of its sightings."""

from collections.abc import Sequence

import cv2
import numpy as np

from .plan import TEST, Person, Scene
from .plan import plan as make_plan
from .scene import Studio, render_jpeg
from .size import Size

_CELL = (200, 100)  # height and width of a sighting, in pixels


def contact_sheet(
    layout: str, size: str | Size, seed: int = 0, rows: int = 10, columns: int = 8, split: int = TEST, style: str = 'varied'
) -> np.ndarray:
    """Draws a contact sheet, from the same JPEG data as the data set's files.

    Args:
        layout: 'cuhk-sysu' or 'prw'.
        size: A name in `SIZES`, or a Size.
        seed: Not negative.
        rows: Number of identities.
        columns: Most sightings per identity. They are taken from each camera in turn.
        split: 0 for training identities, 1 for test identities.
        style: 'varied' or 'classic'.

    Returns:
        uint8 (up to rows * 200, up to columns * 100, 3), BGR.
    """
    plan = make_plan(layout, size, seed, style)
    studio = Studio(plan.size, seed, style)
    lines, shown = [], plan.sightings(split)[:rows]
    columns = min(columns, max(map(len, shown)))
    for found in shown:
        cells = [_crop(scene, person, studio) for scene, person in _alternate_cameras(found)[:columns]]
        cells += [np.full((*_CELL, 3), 255, np.uint8)] * (columns - len(cells))
        lines.append(np.hstack(cells))
    return np.vstack(lines)


def _alternate_cameras(found: Sequence[tuple[Scene, Person]]) -> list[tuple[Scene, Person]]:
    """Sorts sightings such that the first of each camera come first, then the second of each, and so on."""
    counts: dict[int, int] = {}
    keyed = []
    for scene, person in found:
        turn = counts[scene.camera] = counts.get(scene.camera, -1) + 1
        keyed.append(((turn, scene.camera, scene.index), (scene, person)))
    return [sighting for _, sighting in sorted(keyed, key=lambda entry: entry[0])]


def _crop(scene: Scene, person: Person, studio: Studio) -> np.ndarray:
    """Returns a person on a white cell."""
    image = cv2.imdecode(np.frombuffer(render_jpeg(scene, studio), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None  # OpenCV returns None for broken data, and this data is its own
    x, y, w, h = person.box
    crop = image[y : y + h, x : x + w]
    scale = min((_CELL[0] - 4) / h, (_CELL[1] - 4) / w)
    crop = cv2.resize(crop, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_CUBIC)
    cell = np.full((*_CELL, 3), 255, np.uint8)
    top, left = (_CELL[0] - crop.shape[0]) // 2, (_CELL[1] - crop.shape[1]) // 2
    cell[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return cell
