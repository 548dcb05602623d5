"""What a search chooses from: every image's detections, flattened, and which of them a query may find.

G images, N detections over all images, T targets, D embedding size.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .boxes import box_area, box_iou, joined_ranges
from .protocol import SearchProtocol


@dataclass(frozen=True, eq=False)
class Candidates:
    """The confident detections of all images, image after image, in their given order.

    Attributes:
        boxes (N, 4): x1 y1 x2 y2 in original-image pixels.
        scores (N,): Confidences.
        embeddings (N, D): float32.
        positions (N,): Index of each detection in its image's list, as it was given.
        offsets (G + 1,): Image g's detections are rows ``offsets[g]`` to ``offsets[g + 1]``.
    """

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, protocol: SearchProtocol, boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray],
                   embeddings: Sequence[np.ndarray], dim: int, score_thr: float = 0.5) -> 'Candidates':
        """Keeps the detections of score >= score_thr.

        Args:
            boxes: For each of the protocol's G images (N_i, 4).
            scores: (N_i,) each.
            embeddings: (N_i, dim) each.

        Raises:
            ValueError: Lists of another length, arrays of another shape, or embeddings that are not finite.
        """
        images = protocol.images
        for kind, lists in (('boxes', boxes), ('scores', scores), ('embeddings', embeddings)):
            if len(lists) != len(images):
                raise ValueError(f'{kind}: expected one array for each of the {len(images)} images, got {len(lists)}')
        kept = []
        for image, arrays in enumerate(zip(boxes, scores, embeddings, strict=True)):
            box, score, embedding = (np.asarray(array, dtype=np.float32) for array in arrays)
            if not (len(box) or len(score) or len(embedding)):
                kept.append((np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, dim), np.float32),
                             np.zeros(0, np.int64)))
                continue
            count = len(score)
            for kind, array, shape in (('boxes', box, (count, 4)), ('scores', score, (count,)),
                                       ('embeddings', embedding, (count, dim))):
                if array.shape != shape:
                    raise ValueError(f'{kind} of image {images[image]!r}: expected shape {shape}, got {array.shape}')
            confident = np.flatnonzero(score >= score_thr)
            if not np.isfinite(embedding[confident]).all():
                raise ValueError(f'image {images[image]!r}: its embeddings are not finite')
            kept.append((box[confident], score[confident], embedding[confident], confident))
        offsets = np.cumsum([0, *(len(positions) for *_, positions in kept)])
        return cls(*(np.concatenate(arrays) for arrays in zip(*kept, strict=True)), offsets)

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def images(self) -> np.ndarray:
        """The image (N,) of each detection."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def of_images(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) of the detections of the given images (g,), in that order, and the index (n,) into ``images``."""
        return joined_ranges(self.offsets[images], self.offsets[images + 1] - self.offsets[images])


def overlap_threshold(boxes: np.ndarray) -> np.ndarray:
    """The IoU (...) from which a detection finds a target of boxes (..., 4): min(0.5, wh / ((w + 10)(h + 10))).

    Small targets get a lower one, as a few pixels cost them more (the field's rule, from CUHK-SYSU's evaluation).
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.minimum(0.5, box_area(boxes) / ((width + 10) * (height + 10)))


def match_targets(candidates: Candidates, similarities: np.ndarray, rows: np.ndarray, images: np.ndarray,
                  boxes: np.ndarray) -> np.ndarray:
    """The one true positive of each target: its image's most similar detection among those that overlap it enough.

    Equal similarities go to the detection given first.

    Args:
        similarities: (B, N), of a block of queries to all detections.
        rows: (T,), the row of ``similarities`` that holds the target's query.
        images: (T,), the target's image.
        boxes: (T, 4), the target's box.

    Returns:
        The detection (T,), or -1 where none overlaps the target enough.
    """
    detections, targets = candidates.of_images(images)
    overlaps = box_iou(candidates.boxes[detections], boxes[targets]) >= overlap_threshold(boxes)[targets]
    detections, targets = detections[overlaps], targets[overlaps]
    order = np.lexsort((-similarities[rows[targets], detections], targets))
    found, best = np.unique(targets[order], return_index=True)
    matched = np.full(len(images), -1, dtype=np.int64)
    matched[found] = detections[order][best]
    return matched
