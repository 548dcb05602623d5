"""An exported model: persons in images, and embeddings of given boxes.

Shapes: N persons of an image, Q given boxes, D embedding size. Boxes are x1 y1 x2 y2 in pixels of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .about import INPUTS, About
from .backends import open_backend
from .images import as_colour, check_boxes, resize, stack, target_size

Boxes = np.ndarray | Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as the model takes it: resized, the scale (x, y) by which it was, and the given boxes (Q, 4) in its pixels."""

    image: np.ndarray
    scale: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True, eq=False)
class Persons:
    """The persons that were found in an image, by decreasing score.

    Attributes:
        boxes: (N, 4).
        scores: (N,), 0 to 1.
        embeddings: (N, D). The dot product of two is their similarity.
        given_embeddings: (Q, D), of the given boxes, unit length.
    """

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray
    given_embeddings: np.ndarray


class PersonSearchModel:
    """A model that ``mmps export`` wrote.

    ::

        model = PersonSearchModel('student.onnx')
        (query,) = model.embed(cv2.imread('query.jpg'), [[40, 60, 120, 260]])
        (persons,) = model([cv2.imread('street.jpg')])
        print(persons.boxes[(persons.embeddings @ query).argmax()])

    Args:
        path: The file.
        backend: 'onnxruntime' or 'openvino'.
        score_thr: Persons of a lower confidence are left out. Default: as the file says.
        height: Shorter side to which images are resized, in pixels. Default: as in the model's test.
        threads: Threads of an operator; 0 = one a core.
        **options: Of the back end, such as ``providers`` of ONNX Runtime.

    Raises:
        FileNotFoundError: There is no file.
        ImportError: The back end is not installed.
        ModelFileError: The file is no exported model, or cannot be run here. One line.
        ValueError: ``height`` for a model of a fixed size, or an argument is out of range.
    """

    def __init__(
        self,
        path: str | Path,
        backend: str = 'onnxruntime',
        score_thr: float | None = None,
        height: int | None = None,
        threads: int = 0,
        **options: Any,
    ) -> None:
        self.backend = open_backend(backend, str(path), threads, options)
        self.about = About.from_text(self.backend.text, str(path))
        self.about.check_shapes(self.backend.shapes, str(path))
        if height is not None and self.about.size is not None:
            raise ValueError(f'height: {path} takes images of {self.about.size[1]} x {self.about.size[0]} pixels only')
        if height is not None and height < 1:
            raise ValueError(f'height: expected 1 or more, got {height}')
        self.scale = self.about.scale if height is None else (8 * height, height)
        self.score_thr = self.about.score_thr if score_thr is None else score_thr

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[Boxes] | None = None) -> list[Persons]:
        """Finds the persons of images, and embeds given boxes, in one pass.

        Args:
            images: uint8 (H, W, 3), BGR, as OpenCV reads them. They may differ in size.
            boxes: For each image the boxes (Q, 4) to embed.

        Raises:
            ImageError: An image or a box is none. One line.
            ValueError: The numbers of images and of sets of boxes differ.
        """
        if boxes is not None and len(boxes) != len(images):
            raise ValueError(f'boxes: expected those of {len(images)} images, got {len(boxes)}')
        return self.run([self.prepare(image, () if boxes is None else boxes[i]) for i, image in enumerate(images)])

    def embed(self, image: np.ndarray, boxes: Boxes) -> np.ndarray:
        """Returns the embeddings (Q, D) of boxes (Q, 4) of an image."""
        (persons,) = self([image], [boxes])
        return persons.given_embeddings

    def prepare(self, image: np.ndarray, boxes: Boxes = ()) -> Prepared:
        """Resizes an image for :meth:`run`. It may be called in other threads."""
        image = as_colour(image)
        size = target_size((image.shape[0], image.shape[1]), self.scale, self.about.size)
        scale = np.array([size[1] / image.shape[1], size[0] / image.shape[0]], np.float32)
        return Prepared(resize(image, size), scale, check_boxes(boxes) * np.tile(scale, 2))

    def run(self, batch: Sequence[Prepared]) -> list[Persons]:
        """Runs the model on prepared images."""
        if not batch:
            return []
        outputs = self.backend.run(self.inputs(batch))
        return [self._persons(each, *of_image) for each, *of_image in zip(batch, *outputs, strict=True)]

    def inputs(self, batch: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """Returns the graph's inputs for prepared images."""
        inputs = (
            stack([each.image for each in batch], self.about.divisor, self.about.size),
            np.array([each.image.shape[:2] for each in batch], np.int64),
            pad_boxes([each.boxes for each in batch]),
        )
        return dict(zip(INPUTS, inputs, strict=True))

    def _persons(
        self,
        image: Prepared,
        boxes: np.ndarray,
        scores: np.ndarray,
        embeddings: np.ndarray,
        count: int,
        given: np.ndarray,
    ) -> Persons:
        kept = np.flatnonzero(scores[: int(count)] >= self.score_thr)
        return Persons(boxes[kept] / np.tile(image.scale, 2), scores[kept], embeddings[kept], given[: len(image.boxes)].copy())


def pad_boxes(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks sets of boxes (Q_i, 4), padded to the same number, at least one: runtimes do not all take empty inputs."""
    padded = np.tile(np.array([0, 0, 8, 8], np.float32), (len(boxes), max(1, *map(len, boxes)), 1))
    for of_image, given in zip(padded, boxes, strict=True):
        of_image[: len(given)] = given
    return padded
