"""Scores the detection of persons, whatever their identity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .boxes import box_iou


@dataclass(frozen=True, eq=False)
class DetectionMatches:
    """Matches of detections and persons over all images: N confident detections, M persons.

    Attributes:
        scores (N,): Confidences.
        heights (N,): Heights of the detections' boxes, in pixels.
        persons (N,): Index of the person matched to each detection (each is the other's best overlap); -1 = none.
        overlaps (N,): IoU of the match; 0 if there is none.
        person_heights (M,): Heights of the persons' boxes, in pixels.
    """

    scores: np.ndarray
    heights: np.ndarray
    persons: np.ndarray
    overlaps: np.ndarray
    person_heights: np.ndarray

    def at(self, iou_thr: float = 0.5, heights: tuple[float, float] | None = None) -> dict[str, float]:
        """Returns AP and recall. A match counts if its overlap is at least iou_thr.

        Args:
            heights: Only persons of heights in [low, high) count, in pixels. Detections of other persons are ignored. False
                detections count if their own height is in the range, as COCO does for areas.

        Returns:
            ``ap`` and ``recall``, fractions in 0..1, both 0 if there are no persons; and ``persons``, their number.
        """
        correct = (self.persons >= 0) & (self.overlaps >= iou_thr) & (self.overlaps > 0)
        # Without a range everything counts, even a false detection of height 0.
        wanted, counts = np.ones(len(self.person_heights), bool), np.ones(len(self.heights), bool)
        if heights is not None:
            low, high = heights
            wanted = (self.person_heights >= low) & (self.person_heights < high)
            counts = (self.heights >= low) & (self.heights < high)
            counts[correct] = wanted[self.persons[correct]]
        num_persons = int(np.count_nonzero(wanted))
        recall = int(np.count_nonzero(correct & counts)) / max(num_persons, 1)
        return {
            'ap': average_precision(correct[counts], self.scores[counts]) * recall,
            'recall': recall,
            'persons': num_persons,
        }


def match_detections(
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    gt_boxes: Sequence[np.ndarray],
    labelled: Sequence[np.ndarray] | None = None,
    score_thr: float = 0.5,
) -> DetectionMatches:
    """Matches the detections of score >= score_thr to persons. The arguments are as in :func:`detection_scores`."""
    lengths = {len(lists) for lists in (boxes, scores, gt_boxes, labelled) if lists is not None}
    if len(lengths) > 1:
        raise ValueError(f'expected one entry for each image in every list, got lists of {sorted(lengths)}')
    parts: list[tuple[np.ndarray, ...]] = [(np.zeros(0),) * 5]
    num_persons = 0
    for image in range(len(boxes)):
        persons = np.asarray(gt_boxes[image], dtype=np.float32).reshape(-1, 4)
        if labelled is not None:
            mask = np.asarray(labelled[image], dtype=bool)
            if len(mask) != len(persons):
                raise ValueError(f'labelled of image {image}: expected shape ({len(persons)},), got {mask.shape}')
            if not mask.any():
                continue
            persons = persons[mask]
        score = np.asarray(scores[image], dtype=np.float32)
        box = np.asarray(boxes[image], dtype=np.float32).reshape(-1, 4)
        if len(box) != len(score):
            raise ValueError(f'scores of image {image}: expected shape ({len(box)},), got {score.shape}')
        confident = score >= score_thr
        box = box[confident]
        person, overlap = _mutual_best(box, persons)
        person = np.where(person >= 0, person + num_persons, -1)
        parts.append((score[confident], box[:, 3] - box[:, 1], person, overlap, persons[:, 3] - persons[:, 1]))
        num_persons += len(persons)
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    joined[2] = joined[2].astype(np.int64)
    return DetectionMatches(*joined)


def detection_scores(
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    gt_boxes: Sequence[np.ndarray],
    labelled: Sequence[np.ndarray] | None = None,
    score_thr: float = 0.5,
    iou_thr: float = 0.5,
) -> dict[str, float]:
    """Returns detection AP and recall as usual in person search.

    A detection is correct if it and a ground-truth box are each other's best overlap, with an IoU of at least iou_thr.
    AP is the average precision over all detections of score >= score_thr, times recall.

    Args:
        boxes: For each image its detections (N_i, 4), x1 y1 x2 y2.
        scores: (N_i,) each.
        gt_boxes: For each image its persons (M_i, 4).
        labelled: For each image a mask (M_i,). Only these persons count, and images without any are left out.

    Returns:
        ``ap`` and ``recall``, fractions in 0..1; both 0 if there are no persons.

    Raises:
        ValueError: Lists of different lengths, or an image's arrays of different lengths.
    """
    found = match_detections(boxes, scores, gt_boxes, labelled, score_thr).at(iou_thr)
    return {name: found[name] for name in ('ap', 'recall')}


def _mutual_best(boxes: np.ndarray, gt_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each detection (N, 4) its mutually best person (N,) among (M, 4), or -1, and their IoU (N,), or 0."""
    if not len(boxes) or not len(gt_boxes):
        return np.full(len(boxes), -1), np.zeros(len(boxes))
    overlap = box_iou(boxes[:, None], gt_boxes[None])
    person, detection = overlap.argmax(axis=1), np.arange(len(boxes))
    best = overlap.argmax(axis=0)[person] == detection
    return np.where(best, person, -1), np.where(best, overlap[detection, person], 0)


def average_precision(correct: np.ndarray, scores: np.ndarray) -> float:
    """Returns the area under the precision-recall curve: sum of (recall_n - recall_{n-1}) x precision_n.

    There is one step for each distinct score, so the order of equal scores does not matter. This is the definition of
    scikit-learn's average_precision_score. It is 0 if no detection is correct.

    Args:
        correct: (N,) bool.
        scores: (N,).
    """
    if not correct.any():
        return 0.0
    order = np.argsort(-scores, kind='stable')
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # last index of each distinct score
    true_positives = np.cumsum(correct[order])[last]
    precision, recall = true_positives / (last + 1), true_positives / correct.sum()
    return float(np.sum(np.diff(recall, prepend=0) * precision))
