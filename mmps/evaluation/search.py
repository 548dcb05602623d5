"""What a search is, and what comes of it.

Q queries, T targets.
"""

from dataclasses import dataclass

import numpy as np

from .context import CBGM
from .protocol import SearchProtocol


@dataclass(frozen=True, eq=False)
class Search:
    """One way to search a set of predictions: whose galleries and targets, seen by which cameras, with which context.

    Attributes:
        protocol: Queries, galleries and targets.
        rows (Q,): The row of the query embeddings that each of the protocol's queries has; ``None``: row q for query q.
        cameras: 'all'; 'other': without the images, and targets, of the query's own camera; or the number of the one
            camera whose images, and targets, are searched.
        cbgm: Re-rank with the people around the query (:class:`CBGM`), or ``None``.
    """

    protocol: SearchProtocol
    rows: np.ndarray | None = None
    cameras: str | int = 'all'
    cbgm: CBGM | None = None


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Search scores, whole and by query.

    Attributes:
        mAP: Mean of ``ap``.
        topk: For each k, the fraction of queries with a true positive among their first k detections.
        ap (Q,): Average precision x recall of each query; 0 without a true positive.
        first_ranks (Q,): Rank, from 1, of each query's first true positive; 0 where there is none.
        num_targets (Q,), num_found (Q,): Targets of each query, and those found.
        target_ranks (T,): Rank, from 1, of the detection that finds each of the protocol's targets; 0 = not found.
        target_detections (T,): Its index in its image's list of detections; -1 = not found.
        target_similarities (T,): Its similarity to the query; NaN = not found.
    """

    mAP: float
    topk: dict[int, float]
    ap: np.ndarray
    first_ranks: np.ndarray
    num_targets: np.ndarray
    num_found: np.ndarray
    target_ranks: np.ndarray
    target_detections: np.ndarray
    target_similarities: np.ndarray


@dataclass(frozen=True, eq=False)
class RankedDetections:
    """The n best detections of a query, the most similar first.

    Attributes:
        images (n,): Index of the image of each.
        positions (n,): Its index in that image's list of detections.
        boxes (n, 4): x1 y1 x2 y2 in original-image pixels.
        similarities (n,): Dot products with the query's embedding.
        correct (n,): Whether it is a true positive.
    """

    images: np.ndarray
    positions: np.ndarray
    boxes: np.ndarray
    similarities: np.ndarray
    correct: np.ndarray
