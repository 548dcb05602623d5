"""Explains why a query failed: the ranks of its targets, and who was ranked first.

Q queries, T targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .boxes import box_iou
from .predictions import Predictions
from .protocol import SearchProtocol
from .ranking import top_detections
from .search import SearchResult

SAME_PERSON = 0.5  # least IoU at which a detection shows an annotated person


@dataclass(frozen=True, eq=False)
class TargetFate:
    """The result for one target.

    Attributes:
        image: Index of its image.
        box (4,): x1 y1 x2 y2 in original-image pixels.
        rank: Rank, from 1, of the detection that finds it. 0 = not detected: no detection in its image overlaps it enough,
            or the same query has an earlier target in the same image.
    """

    image: int
    box: np.ndarray
    rank: int

    def __str__(self) -> str:
        return f'rank {self.rank}' if self.rank else 'not detected'


@dataclass(frozen=True, eq=False)
class Explanation:
    """The result for one query, explained.

    Attributes:
        query: Its index.
        ap: Its average precision x recall, 0..1.
        targets: Its targets that count.
        first: Who is ranked first: 'the person sought', 'another person', 'an unlabelled person', 'no person' (nobody is
            annotated there), 'unknown' (wrong, and there are no annotations) or 'nothing' (an empty gallery).
        first_person_id: The annotated id of 'another person', else ``None``.
        reason: Why the AP is what it is, in one line.
    """

    query: int
    ap: float
    targets: tuple[TargetFate, ...]
    first: str
    first_person_id: int | None
    reason: str


def worst_queries(result: SearchResult, n: int) -> np.ndarray:
    """Returns up to n queries with targets, the lowest AP first. Ties keep their order."""
    queries = np.flatnonzero(result.num_targets)
    return queries[np.argsort(result.ap[queries], kind='stable')[:n]]


def target_fates(
    protocol: SearchProtocol, result: SearchResult, query: int, cameras: str | int = 'all'
) -> tuple[TargetFate, ...]:
    """Returns the result for each target of a query that counts, in the protocol's order."""
    rows = slice(*np.searchsorted(protocol.target_queries, [query, query + 1]))
    return tuple(
        TargetFate(int(image), box, int(rank))
        for image, box, rank, counts in zip(
            protocol.target_images[rows],
            protocol.target_boxes[rows],
            result.target_ranks[rows],
            protocol.sought(cameras)[rows],
            strict=True,
        )
        if counts
    )


def explain(
    protocol: SearchProtocol,
    predictions: Predictions,
    result: SearchResult,
    queries: Sequence[int] | np.ndarray,
    ranked_below: int = 10,
    score_thr: float = 0.5,
    cameras: str | int = 'all',
) -> list[Explanation]:
    """Explains the AP of each of the given queries.

    The reason is the first of these that holds: no target was detected; the best target is ranked below ``ranked_below``;
    a wrong result is ranked first; some other targets are missed or ranked late.

    Args:
        predictions: Their ``gt_boxes`` and ``gt_person_ids``, if given, tell who is ranked first.
        result: The scores of these predictions, without re-ranking.
        ranked_below: The rank for the second reason.
        score_thr, cameras: The values with which the result was scored.
    """
    ranked = top_detections(
        protocol,
        predictions.boxes,
        predictions.scores,
        predictions.embeddings,
        predictions.query_embeddings,
        queries,
        1,
        score_thr,
        cameras,
    )
    explanations = []
    for query, top in zip(queries, ranked, strict=True):
        targets = target_fates(protocol, result, query, cameras)
        first, person_id = 'nothing', None
        if len(top.images):
            first, person_id = _who(
                predictions, int(top.images[0]), top.boxes[0], bool(top.correct[0]), int(protocol.query_person_ids[query])
            )
        explanations.append(
            Explanation(
                int(query), float(result.ap[query]), targets, first, person_id, _reason(targets, first, person_id, ranked_below)
            )
        )
    return explanations


def _who(predictions: Predictions, image: int, box: np.ndarray, correct: bool, sought: int) -> tuple[str, int | None]:
    """Returns whom a detection shows and, for another person, the id."""
    if correct:
        return 'the person sought', None
    if predictions.gt_boxes is None or predictions.gt_person_ids is None:
        return 'unknown', None
    overlaps = box_iou(box, predictions.gt_boxes[image])
    if not (overlaps >= SAME_PERSON).any():
        return 'no person', None
    person_id = int(predictions.gt_person_ids[image][overlaps.argmax()])
    if person_id < 0:
        return 'an unlabelled person', None
    # The same person may still be a wrong result: the protocol may name another target in that image, or none.
    return ('the person sought', None) if person_id == sought else ('another person', person_id)


def _reason(targets: Sequence[TargetFate], first: str, person_id: int | None, ranked_below: int) -> str:
    ranks = [target.rank for target in targets if target.rank]
    if not targets:
        return 'no target'
    if not ranks:
        return 'target not detected' + (f' in any of {len(targets)} images' if len(targets) > 1 else '')
    if min(ranks) > ranked_below:
        return f'ranked below {ranked_below}: best at rank {min(ranks)}'
    if min(ranks) > 1:
        if first == 'unknown':
            return 'wrong result first'
        if first == 'the person sought':
            return 'the person sought first, but in a box that is no target'
        return f'wrong person first: {first}' + ('' if person_id is None else f' (id {person_id})')
    if len(ranks) < len(targets):
        return f'right person first; {len(targets) - len(ranks)} of {len(targets)} targets not detected'
    return 'right person first' + (f'; last target at rank {max(ranks)}' if len(ranks) > 1 else '')
