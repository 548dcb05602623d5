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
from .video import Frame, read_frames

Image = str | np.ndarray
Detect = Callable[[Sequence[Frame], Sequence | None], Iterator[tuple[Frame, DetDataSample]]]


@dataclass(frozen=True, eq=False)
class Query:
    """A person who is searched.

    Attributes:
        image: uint8 (H, W, 3), BGR.
        about: Plain values: ``image``, ``bbox`` and ``score``; for a person on several images ``images`` and ``bboxes``.
        embedding: (D,), unit length.
        scene: Everybody who is detected in the image, with embeddings.
    """

    image: np.ndarray
    about: dict[str, Any]
    embedding: np.ndarray
    scene: tuple[Sighting, ...]


def read_queries(detect: Detect, images: Image | Sequence[Image], bboxes: Sequence | None) -> Iterator[Query]:
    """Yields a query for each box (x, y, width, height) of each image, or for everybody who is detected.

    Args:
        detect: Embeds boxes, and detects persons.
        images: One or several, as paths or uint8 (H, W, 3) BGR.
        bboxes: For one image its boxes, for several the boxes of each. None = everybody.

    Raises:
        ValueError: The boxes do not fit the images.
        UnreadableSourceError: An image cannot be read.
    """
    if isinstance(images, str | Path | np.ndarray):
        images, bboxes = [images], None if bboxes is None else [bboxes]
    if bboxes is not None and len(bboxes) != len(images):
        raise ValueError(f'bboxes: expected the boxes of {len(images)} images, got {len(bboxes)}')
    frames = [
        Frame(f'array {number}', 0, 0.0, image) if isinstance(image, np.ndarray) else next(read_frames(str(image)))
        for number, image in enumerate(images)
    ]
    for number, (frame, sample) in enumerate(detect(frames, bboxes)):
        scene = tuple(sightings_of(frame, sample, '', 0.0))
        if bboxes is None:
            for each in scene:
                assert each.embedding is not None
                about = dict(image=frame.source, bbox=list(each.bbox), score=each.score)
                yield Query(frame.image, about, each.embedding, scene)
        elif len(bboxes[number]):
            for box, embedding in zip(bboxes[number], to_numpy(sample.query_instances.embeddings), strict=True):
                about = dict(image=frame.source, bbox=[float(value) for value in box], score=None)
                yield Query(frame.image, about, embedding, scene)


def one_person(queries: Sequence[Query]) -> Query:
    """Returns one query for several that show the same person: their mean embedding, and everybody around."""
    mean = np.mean([each.embedding for each in queries], axis=0)
    about = dict(images=[each.about['image'] for each in queries], bboxes=[each.about['bbox'] for each in queries])
    scene = tuple(dict.fromkeys(person for each in queries for person in each.scene))
    return Query(queries[0].image, about, mean / np.linalg.norm(mean), scene)
