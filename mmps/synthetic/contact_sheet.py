"""A contact sheet: every row one identity, every column one of its sightings, so that a human can look."""

import cv2
import numpy as np

from .plan import TEST
from .plan import plan as make_plan
from .scene import Studio, encode, render_scene

_CELL = (200, 100)  # height and width of a sighting, in pixels


def contact_sheet(layout, size, seed=0, rows=10, columns=8, split=TEST):
    """Draw a contact sheet.

    Args:
        layout (str): 'cuhk-sysu' or 'prw'.
        size (str or Size): A name of `SIZES`, or your own.
        seed (int): Not negative.
        rows (int): Identities.
        columns (int): At most so many sightings of each, from as many cameras as there are.
        split (int): 0 training identities, 1 test identities.

    Returns:
        np.ndarray: uint8 (up to rows * 200, up to columns * 100, 3), BGR, as the JPEG files show them.
    """
    planned = make_plan(layout, size, seed)
    studio = Studio(planned.size, seed)
    lines, shown = [], planned.sightings(split)[:rows]
    columns = min(columns, max(map(len, shown)))
    for found in shown:
        cells = [_crop(scene, person, studio) for scene, person in _across_cameras(found)[:columns]]
        cells += [np.full((*_CELL, 3), 255, np.uint8)] * (columns - len(cells))
        lines.append(np.hstack(cells))
    return np.vstack(lines)


def _across_cameras(found):
    """The sightings, in turn from each camera."""
    seen, turns = {}, []
    for scene, person in found:
        turn = seen[scene.camera] = seen.get(scene.camera, -1) + 1
        turns.append((turn, scene.camera, scene.index, scene, person))
    return [entry[3:] for entry in sorted(turns, key=lambda entry: entry[:3])]


def _crop(scene, person, studio):
    image = render_scene(scene, studio)
    image = cv2.imdecode(np.frombuffer(encode(image, studio.get(scene.camera)[0]), np.uint8), cv2.IMREAD_COLOR)
    x, y, w, h = person.box
    crop = image[y : y + h, x : x + w]
    scale = min((_CELL[0] - 4) / h, (_CELL[1] - 4) / w)
    crop = cv2.resize(crop, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_CUBIC)
    cell = np.full((*_CELL, 3), 255, np.uint8)
    top, left = (_CELL[0] - crop.shape[0]) // 2, (_CELL[1] - crop.shape[1]) // 2
    cell[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return cell
