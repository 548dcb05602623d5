"""How well persons are found, whoever they are."""
from collections.abc import Sequence

import numpy as np

from .boxes import box_iou


def detection_scores(boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], gt_boxes: Sequence[np.ndarray],
                     labelled: Sequence[np.ndarray] | None = None, score_thr: float = 0.5,
                     iou_thr: float = 0.5) -> dict[str, float]:
    """Detection AP and recall as person search counts them.

    A detection is right if it and a ground-truth box are each other's best overlap, and that is at least iou_thr.
    AP is the average precision over all detections of score >= score_thr, times recall.

    Args:
        boxes: For each image its detections (N_i, 4), x1 y1 x2 y2.
        scores: (N_i,) each.
        gt_boxes: For each image its persons (M_i, 4).
        labelled: For each image a mask (M_i,): only these persons count, and images without any are left out.

    Returns:
        ``ap`` and ``recall``, fractions in 0..1; both 0 where there is nothing to find.

    Raises:
        ValueError: Lists of different lengths, or an image's arrays of different lengths.
    """
    lengths = {len(lists) for lists in (boxes, scores, gt_boxes, labelled) if lists is not None}
    if len(lengths) > 1:
        raise ValueError(f'expected one entry for each image in every list, got lists of {sorted(lengths)}')
    confidences, correct, num_persons = [np.zeros(0, np.float32)], [np.zeros(0, bool)], 0
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
        num_persons += len(persons)
        confidences.append(score[confident])
        correct.append(mutual_matches(box[confident], persons, iou_thr))
    correct = np.concatenate(correct)
    recall = float(correct.sum() / max(num_persons, 1))
    return {'ap': average_precision(correct, np.concatenate(confidences)) * recall, 'recall': recall}


def mutual_matches(boxes: np.ndarray, gt_boxes: np.ndarray, iou_thr: float) -> np.ndarray:
    """Mask (N,) of the detections (N, 4) that are the best of their own best ground-truth box (M, 4)."""
    if not len(boxes) or not len(gt_boxes):
        return np.zeros(len(boxes), dtype=bool)
    overlap = box_iou(boxes[:, None], gt_boxes[None])
    person, detection = overlap.argmax(axis=1), np.arange(len(boxes))
    return (overlap.argmax(axis=0)[person] == detection) & (overlap[detection, person] >= iou_thr)


def average_precision(correct: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve, in steps: sum of (recall_n - recall_{n-1}) x precision_n.

    One step for each distinct score, so that equal scores have no order; scikit-learn's average_precision_score
    defines it so. 0 where nothing is correct.

    Args:
        correct: (N,) bool.
        scores: (N,).
    """
    if not correct.any():
        return 0.0
    order = np.argsort(-scores, kind='stable')
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last place of each distinct score
    true_positives = np.cumsum(correct[order])[last]
    precision, recall = true_positives / (last + 1), true_positives / correct.sum()
    return float(np.sum(np.diff(recall, prepend=0) * precision))
