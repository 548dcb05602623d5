"""Holds every image's confident detections, from which a search chooses, and matches them to targets.

G images, N confident detections over all images, T targets, D embedding size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .boxes import box_area, box_iou, joined_ranges
from .protocol import SearchProtocol

HELD_BYTES = 512 << 20  # embeddings up to this size are all copied and kept
PAIRS = 1 << 20  # number of (target, detection) pairs compared at once; each takes about 150 bytes
CHUNK_BYTES = 128 << 20  # larger embeddings are copied in chunks of this size


@dataclass(frozen=True, eq=False)
class Candidates:
    """The confident detections of all images, image after image, in the given order.

    Attributes:
        boxes (N, 4): x1 y1 x2 y2 in original-image pixels.
        scores (N,): Confidences.
        positions (N,): Index of each detection in its image's given list.
        offsets (G + 1,): Image g's detections are rows ``offsets[g]`` to ``offsets[g + 1]``.
        counts (G,): Number of detections of each image, confident or not.
        given: For each image the embeddings of all its detections, not copied, because a large gallery would not fit into
            memory twice.
        held (N, D): A copy of the confident ones, float32, or ``None`` if it would be too large.
        dim: D.
    """

    boxes: np.ndarray
    scores: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray
    given: Sequence[np.ndarray]
    held: np.ndarray | None
    dim: int

    @classmethod
    def from_lists(
        cls,
        protocol: SearchProtocol,
        boxes: Sequence[np.ndarray],
        scores: Sequence[np.ndarray],
        embeddings: Sequence[np.ndarray],
        dim: int,
        score_thr: float = 0.5,
    ) -> 'Candidates':
        """Collects the detections of score >= score_thr.

        Args:
            boxes: For each of the protocol's G images (N_i, 4).
            scores: (N_i,) each.
            embeddings: (N_i, dim) each.

        Raises:
            ValueError: Wrong list lengths or array shapes, or embeddings that are not finite or so large that their
                products are not finite.
        """
        images = protocol.images
        for kind, lists in (('boxes', boxes), ('scores', scores), ('embeddings', embeddings)):
            if len(lists) != len(images):
                raise ValueError(f'{kind}: expected one array for each of the {len(images)} images, got {len(lists)}')
        counts = np.array([len(score) for score in scores])
        for kind, lists, width in (('boxes', boxes, (4,)), ('scores', scores, ()), ('embeddings', embeddings, (dim,))):
            for image, (array, count) in enumerate(zip(lists, counts.tolist(), strict=True)):
                if np.shape(array) != (count, *width) and (count or len(array)):
                    raise ValueError(
                        f'{kind} of image {images[image]!r}: expected shape {(count, *width)}, got {np.shape(array)}'
                    )
        starts, confidences = np.cumsum(counts) - counts, end_to_end(scores)
        confident = np.flatnonzero(confidences >= score_thr)
        owners = np.repeat(np.arange(len(counts)), counts)[confident]
        offsets = np.searchsorted(owners, np.arange(len(counts) + 1))
        whole = cls(
            end_to_end(boxes, 4)[confident],
            confidences[confident],
            confident - starts[owners],
            offsets,
            counts,
            embeddings,
            None,
            dim,
        )
        if len(confident) * dim * 4 <= HELD_BYTES:
            whole = replace(whole, held=np.empty((len(confident), dim), np.float32))
        for rows, chunk in whole.chunks(whole.held):
            for row in np.flatnonzero(~multipliable(chunk))[:1]:
                raise ValueError(f'image {images[owners[rows.start + row]]!r}: its embeddings are not finite, or too large')
        return whole

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def images(self) -> np.ndarray:
        """Index (N,) of each detection's image."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def of_images(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows (n,) of the detections of images (g,), in that order, and for each its index in ``images``."""
        return joined_ranges(self.offsets[images], self.offsets[images + 1] - self.offsets[images])

    def embeddings_of(self, images: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the embeddings (n, D) of the detections of the given images, in that order."""
        if self.held is not None:
            return self.held[self.of_images(np.asarray(images))[0]]
        return end_to_end([self._copy(image, image + 1) for image in images], self.dim)

    def chunks(self, out: np.ndarray | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Copies the embeddings chunk by chunk.

        Args:
            out (N, D): The destination. With ``None``, each chunk overwrites the one before.

        Yields:
            A slice of the N rows, and their embeddings (n, D), float32.
        """
        ends, first = np.cumsum(self.counts * (self.dim * 4)), 0
        # Buffers are reused, because allocating new memory would cost as much as the copies.
        memory = np.empty((2 if out is None else 1, 0, self.dim), np.float32)
        while first < len(ends):
            start = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, start + CHUNK_BYTES, 'right')))
            rows = slice(int(self.offsets[first]), int(self.offsets[last]))
            if memory.shape[1] < (longest := int(self.counts[first:last].sum())):
                memory = np.empty((len(memory), longest, self.dim), np.float32)
            piece = memory[1, : rows.stop - rows.start] if out is None else out[rows]
            yield rows, self._copy(first, last, memory[0], piece)
            first = last

    def _copy(self, first: int, last: int, memory: np.ndarray | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """Returns embeddings (n, D) of images ``first`` to ``last - 1``. ``memory`` is a buffer for all, confident or not."""
        counts, rows = self.counts[first:last], slice(self.offsets[first], self.offsets[last])
        kept = self.positions[rows] + np.repeat(np.cumsum(counts) - counts, np.diff(self.offsets[first : last + 1]))
        joined = end_to_end(self.given[first:last], self.dim, out=None if memory is None else memory[: counts.sum()])
        return np.take(joined, kept, axis=0, out=out, mode='clip')  # mode 'raise' would use a second buffer


def end_to_end(arrays: Sequence[np.ndarray], *width: int, out: np.ndarray | None = None) -> np.ndarray:
    """Concatenates arrays of shape (n_i, *width) as float32. Empty arrays may have any shape."""
    kept = [array for array in arrays if len(array)]
    if not kept:
        return np.zeros((0, *width), np.float32)
    if out is None:
        return np.concatenate(kept, casting='same_kind', dtype=np.float32)
    return np.concatenate(kept, casting='same_kind', out=out)


def multipliable(embeddings: np.ndarray) -> np.ndarray:
    """Returns a mask (N,) of embeddings (N, D) whose squared length is finite. Products of any two of them are finite, too."""
    return np.isfinite(np.einsum('nd,nd->n', embeddings, embeddings))


def overlap_threshold(boxes: np.ndarray) -> np.ndarray:
    """Returns the IoU (...) that a detection needs to find a target with box (..., 4): min(0.5, wh / ((w + 10)(h + 10))).

    Small targets get a lower threshold, because a few pixels change their IoU more. The rule is from CUHK-SYSU's evaluation.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.minimum(0.5, box_area(boxes) / ((width + 10) * (height + 10)))


def match_targets(
    candidates: Candidates, similarities: np.ndarray, rows: np.ndarray, images: np.ndarray, boxes: np.ndarray
) -> np.ndarray:
    """Finds the true positive of each target: the most similar detection in its image that overlaps it enough.

    Of equally similar detections the first counts.

    Args:
        similarities: (B, N), of a block of queries to all detections.
        rows: (T,), the row of ``similarities`` for each target's query.
        images: (T,), each target's image.
        boxes: (T, 4), each target's box.

    Returns:
        Index (T,) of the detection, or -1 if none overlaps the target enough.
    """
    counts = np.cumsum(candidates.offsets[images + 1] - candidates.offsets[images])
    if len(images) > 1 and counts[-1] > PAIRS:
        half = min(max(1, int(np.searchsorted(counts, counts[-1] / 2))), len(images) - 1)
        return np.concatenate(
            [
                match_targets(candidates, similarities, rows[part], images[part], boxes[part])
                for part in (slice(half), slice(half, None))
            ]
        )
    detections, targets = candidates.of_images(images)
    overlaps = box_iou(candidates.boxes[detections], boxes[targets]) >= overlap_threshold(boxes)[targets]
    detections, targets = detections[overlaps], targets[overlaps]
    order = np.lexsort((-similarities[rows[targets], detections], targets))
    found, best = np.unique(targets[order], return_index=True)
    matched = np.full(len(images), -1, dtype=np.int64)
    matched[found] = detections[order][best]
    return matched
