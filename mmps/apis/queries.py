"""Whom a search looks for: images with boxes, turned into embeddings.

D is the embedding size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample

from .detections import sightings_of, to_numpy
from .sightings import Sighting
from .video import Frame, Sampling, is_video, read_frames

Image = str | np.ndarray
Detect = Callable[[Sequence[Frame], Sequence | None], Iterator[tuple[Frame, DetDataSample]]]


@dataclass(frozen=True, eq=False)
class Query:
    """A person who is searched.

    Attributes:
        image: uint8 (H, W, 3), BGR.
        about: Plain values: ``image``, ``frame``, ``bbox`` and ``score``; for a person on several images ``images``, ``frames``
            and ``bboxes``.
        embedding: (D,), unit length.
        scene: Everybody who is detected in the image, with embeddings.
    """

    image: np.ndarray
    about: dict[str, Any]
    embedding: np.ndarray
    scene: tuple[Sighting, ...]


def read_queries(
    detect: Detect, images: Image | Sequence[Image], bboxes: Sequence | None, at: float | None = None
) -> Iterator[Query]:
    """Yields a query for each box (x, y, width, height) of each image, or for everybody who is detected.

    Args:
        detect: Embeds boxes, and detects persons.
        images: One or several, as paths or uint8 (H, W, 3) BGR. Of a video the first frame counts.
        bboxes: For one image its boxes, for several the boxes of each. None = everybody.
        at: The images are videos, and the first frame from this second on counts.

    Raises:
        ValueError: The boxes do not fit the images, or ``at`` was given for what is no video.
        UnreadableSourceError: An image cannot be read, or a video ends before ``at``.
    """
    if isinstance(images, str | Path | np.ndarray):
        images, bboxes = [images], None if bboxes is None else [bboxes]
    if bboxes is not None and len(bboxes) != len(images):
        raise ValueError(f'bboxes: expected the boxes of {len(images)} images, got {len(bboxes)}')
    frames = [
        Frame(f'array {number}', 0, 0.0, image) if isinstance(image, np.ndarray) else _read_image(str(image), at)
        for number, image in enumerate(images)
    ]
    for frame, boxes in zip(frames, bboxes or (), strict=bboxes is not None):
        check_boxes(boxes, frame)
    for number, (frame, sample) in enumerate(detect(frames, bboxes)):
        scene = tuple(sightings_of(frame, sample, '', 0.0))
        if bboxes is None:
            for each in scene:
                assert each.embedding is not None
                about = dict(image=frame.source, frame=frame.number, bbox=list(each.bbox), score=each.score)
                yield Query(frame.image, about, each.embedding, scene)
        elif len(bboxes[number]):
            for box, embedding in zip(bboxes[number], to_numpy(sample.query_instances.embeddings), strict=True):
                about = dict(image=frame.source, frame=frame.number, bbox=[float(value) for value in box], score=None)
                yield Query(frame.image, about, embedding, scene)


def _read_image(name: str, at: float | None) -> Frame:
    if at is not None and not is_video(name):
        raise ValueError(f'at: expected a video, got {name}')
    return next(read_frames(name, sampling=Sampling(since=at)))


def check_boxes(boxes: Sequence[Sequence[float]], frame: Frame) -> None:
    """Checks boxes: x, y, width, height in pixels of the frame.

    Raises:
        ValueError: A box has no size, or its centre is not in the picture.
    """
    height, width = frame.image.shape[:2]
    for x, y, w, h in boxes:
        if not (w > 0 and h > 0 and 0 <= x + w / 2 <= width and 0 <= y + h / 2 <= height):
            raise ValueError(
                f'{frame.source}: expected a box x, y, width, height in {width} x {height} pixels, got {x:g} {y:g} {w:g} {h:g}'
            )


def one_person(queries: Sequence[Query]) -> Query:
    """Returns one query for several that show the same person: their mean embedding, and everybody around."""
    mean = np.mean([each.embedding for each in queries], axis=0)
    plurals = dict(image='images', frame='frames', bbox='bboxes')
    about = {plural: [each.about[name] for each in queries] for name, plural in plurals.items()}
    scene = tuple(dict.fromkeys(person for each in queries for person in each.scene))
    return Query(queries[0].image, about, mean / np.linalg.norm(mean), scene)
