"""Draws a planned scene."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from .camera import Camera
from .plan import Scene, look_of
from .seeds import RENDER, stream
from .size import Size
from .styles import get_style

_KEPT = 8  # cameras whose places stay in memory


@dataclass
class Studio:
    """Makes and keeps what all scenes of a camera share. Each camera's share is made when it is first needed."""

    size: Size
    seed: int
    style: str = 'varied'
    _shared: dict[int, tuple[Camera, np.ndarray, np.ndarray]] = field(default_factory=dict)

    def get(self, index: int) -> tuple[Camera, np.ndarray, np.ndarray]:
        """Returns camera, empty place and noise of a camera index."""
        if index not in self._shared:
            if len(self._shared) >= _KEPT:
                self._shared.pop(next(iter(self._shared)))
            style = get_style(self.style)
            camera = style.make_camera(self.seed, index)
            self._shared[index] = camera, *style.draw_place(self.seed, camera, self.size.height, self.size.width)
        return self._shared[index]


def render_scene(scene: Scene, studio: Studio, owner: np.ndarray | None = None) -> np.ndarray:
    """Draws one scene.

    Args:
        scene: A scene of a plan.
        studio: The studio of the same data set.
        owner: If given, int (H, W). It is set to 1 + the position in `scene.persons` where a pixel shows that person, and
            to 0 in the box of furniture that is in front. Other pixels are not changed.

    Returns:
        uint8 (H, W, 3), BGR.
    """
    style = get_style(studio.style)
    camera, place, noise = studio.get(scene.camera)
    rng = stream(studio.seed, RENDER, scene.index)
    image = place.copy()
    sun = style.light(image, camera, rng)
    # Far things first, so that nearer ones cover them; furniture comes before people of the same depth.
    people = [(person.depth, k) for k, person in enumerate(scene.persons)]
    furniture = [(item.height, k - len(scene.furniture)) for k, item in enumerate(scene.furniture)]
    for _, k in sorted(people + furniture):
        if k < 0:
            item = scene.furniture[k]
            style.draw_item(image, item, camera)
            if owner is not None:
                left, top, right, bottom = (max(0, round(v * studio.size.height)) for v in item.box(camera))
                owner[top:bottom, left:right] = 0
        else:
            person = scene.persons[k]
            look = look_of(studio.seed, scene, person, studio.style)
            shown, alpha = style.draw_person(image, person.figure, person.depth, look, person.pose, camera, sun, rng)
            if owner is not None:
                owner[shown][alpha > 127] = k + 1
    return style.expose(image, camera, rng, noise)


def render_jpeg(scene: Scene, studio: Studio) -> bytes:
    """Draws one scene and encodes it as JPEG, at the camera's quality."""
    quality = studio.get(scene.camera)[0].quality
    done, data = cv2.imencode('.jpg', render_scene(scene, studio), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError('OpenCV cannot encode JPEG')
    return data.tobytes()
