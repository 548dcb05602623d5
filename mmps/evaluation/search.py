"""Defines a search and its result.

Q queries, T targets.
"""

from dataclasses import dataclass

import numpy as np

from .context import CBGM
from .protocol import SearchProtocol


@dataclass(frozen=True, eq=False)
class Search:
    """The settings of a search: its protocol, cameras and context.

    Attributes:
        protocol: Queries, galleries and targets.
        rows (Q,): For each query of the protocol its row among the query embeddings. ``None``: row q for query q.
        cameras: 'all'; 'other' (without images and targets of the query's own camera); or the number of the only camera
            that is searched.
        cbgm: Settings to re-rank with the people around the query (:class:`CBGM`), or ``None``.
    """

    protocol: SearchProtocol
    rows: np.ndarray | None = None
    cameras: str | int = 'all'
    cbgm: CBGM | None = None


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Search scores, overall and per query.

    Attributes:
        mAP: Mean of ``ap``.
        topk: For each k, the fraction of queries with a true positive among their first k detections.
        ap (Q,): Average precision x recall of each query; 0 without a true positive.
        first_ranks (Q,): Rank, from 1, of each query's first true positive; 0 = none.
        num_targets (Q,), num_found (Q,): Number of each query's targets, and of those found.
        target_ranks (T,): Rank, from 1, of the detection that finds each target of the protocol; 0 = not found.
        target_detections (T,): Index of that detection in its image's list; -1 = not found.
        target_similarities (T,): Similarity of that detection to the query; NaN = not found.
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
        images (n,): Index of each detection's image.
        positions (n,): Its index in that image's list of detections.
        boxes (n, 4): x1 y1 x2 y2 in original-image pixels.
        similarities (n,): Dot products with the query's embedding.
        correct (n,): Whether the detection is a true positive.
    """

    images: np.ndarray
    positions: np.ndarray
    boxes: np.ndarray
    similarities: np.ndarray
    correct: np.ndarray
