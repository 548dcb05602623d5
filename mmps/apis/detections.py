"""From a model's detections to sightings, with images prepared in advance."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from mmdet.structures import DetDataSample

from .sightings import Sighting
from .video import Frame

AnyItem = TypeVar('AnyItem')
AnyResult = TypeVar('AnyResult')


def run_ahead(
    function: Callable[[AnyItem], AnyResult], items: Iterable[AnyItem], threads: int, ahead: int
) -> Iterator[AnyResult]:
    """Yields function(item) in order. Threads compute up to ``ahead`` results in advance."""
    with ThreadPoolExecutor(threads) as pool:
        items = iter(items)
        waiting = deque(pool.submit(function, item) for item in islice(items, ahead))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))


def sightings_of(frame: Frame, sample: DetDataSample, camera: str, time: float) -> list[Sighting]:
    """Returns the persons that were detected in a frame."""
    persons = sample.pred_instances
    corners, scores, embeddings = map(to_numpy, (persons.bboxes, persons.scores, persons.embeddings))
    return [
        Sighting(frame.source, frame.number, time, camera, (x1, y1, x2 - x1, y2 - y1), score, embedding)
        for (x1, y1, x2, y2), score, embedding in zip(corners.tolist(), scores.tolist(), embeddings, strict=True)
    ]


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
