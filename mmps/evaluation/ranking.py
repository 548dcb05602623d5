"""From similarities to mAP and top-k.

G images, Q queries, T targets, N detections over all images, B queries in a block, D embedding size.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .candidates import Candidates, match_targets
from .protocol import SearchProtocol

BLOCK_BYTES = 64 << 20  # of the similarities (B, N) held at once


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
    """

    mAP: float
    topk: dict[int, float]
    ap: np.ndarray
    first_ranks: np.ndarray
    num_targets: np.ndarray
    num_found: np.ndarray
    target_ranks: np.ndarray
    target_detections: np.ndarray


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


def search_scores(protocol: SearchProtocol, boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray],
                  embeddings: Sequence[np.ndarray], query_embeddings: np.ndarray, score_thr: float = 0.5,
                  topk: Sequence[int] = (1, 5, 10), other_cameras: bool = False) -> SearchResult:
    """Scores a search by the field's rules (CUHK-SYSU's evaluation, as SeqNet has it).

    Every detection of score >= score_thr in a query's gallery is ranked by its dot product with the query. In an image
    that holds the target, the most similar detection that overlaps it enough is the one true positive; all else is
    negative. AP is the average precision over that ranking, times the recall of targets. Equal similarities rank in
    gallery order. A query without targets scores AP 0, as the field has it, and so does one whose targets are missed.

    Args:
        protocol: Queries, galleries and targets.
        boxes: For each of the G images its detections (N_i, 4), x1 y1 x2 y2 in original-image pixels.
        scores: (N_i,) each.
        embeddings: (N_i, D) each.
        query_embeddings: (Q, D).
        other_cameras: Leave out images, and targets, of the query's own camera.

    Returns:
        Fractions in 0..1. Memory beyond the inputs: a copy of the confident detections, and a few ``BLOCK_BYTES``.

    Raises:
        ValueError: Arrays that do not fit the protocol, or embeddings that are not finite.
    """
    query_embeddings = _query_embeddings(protocol, query_embeddings)
    candidates = Candidates.from_lists(protocol, boxes, scores, embeddings, query_embeddings.shape[1], score_thr)
    sought = protocol.sought(other_cameras)
    detections = np.full(protocol.num_targets, -1, dtype=np.int64)
    ranks = np.zeros(protocol.num_targets, dtype=np.int64)
    column_of = np.zeros(len(candidates), dtype=np.int64)  # detection -> its place in the gallery at hand
    for queries, similarities in similarity_blocks(candidates, query_embeddings, np.arange(protocol.num_queries)):
        targets = _targets_of(protocol, queries, sought)
        detections[targets] = _matches(protocol, candidates, similarities, queries, targets)
        targets = targets[detections[targets] >= 0]
        bounds = np.searchsorted(protocol.target_queries[targets], [*queries, queries[-1] + 1])
        # Galleries differ in length and order, so each query is ranked by itself; its detections are not looped over.
        for query, row, start, stop in zip(queries, similarities, bounds, bounds[1:], strict=False):
            if start == stop:
                continue
            found = targets[start:stop]
            columns, _ = candidates.of_images(protocol.gallery(query, other_cameras))
            column_of[columns] = np.arange(len(columns))
            ranks[found] = stable_ranks(row[columns], column_of[detections[found]])
    positions = np.where(detections >= 0, candidates.positions[detections], -1) if len(candidates) else detections
    return _summary(protocol, sought, ranks, positions, topk)


def top_detections(protocol: SearchProtocol, boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray],
                   embeddings: Sequence[np.ndarray], query_embeddings: np.ndarray, queries: Sequence[int], n: int = 10,
                   score_thr: float = 0.5, other_cameras: bool = False) -> list[RankedDetections]:
    """The n best detections of each of the given queries; the other arguments are those of :func:`search_scores`."""
    query_embeddings = _query_embeddings(protocol, query_embeddings)
    candidates = Candidates.from_lists(protocol, boxes, scores, embeddings, query_embeddings.shape[1], score_thr)
    sought, images, ranked = protocol.sought(other_cameras), candidates.images, {}
    for block, similarities in similarity_blocks(candidates, query_embeddings, np.unique(queries).astype(np.int64)):
        targets = _targets_of(protocol, block, sought)
        matched = _matches(protocol, candidates, similarities, block, targets)
        for query, row in zip(block.tolist(), similarities, strict=True):
            columns, _ = candidates.of_images(protocol.gallery(query, other_cameras))
            best = columns[np.argsort(-row[columns], kind='stable')[:n]]
            correct = np.isin(best, matched[protocol.target_queries[targets] == query])
            ranked[query] = RankedDetections(images[best], candidates.positions[best], candidates.boxes[best],
                                             row[best], correct)
    return [ranked[int(query)] for query in queries]


def similarity_blocks(candidates: Candidates, query_embeddings: np.ndarray,
                      queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields some of the queries (B,) and their similarities (B, N) at a time, so that memory does not grow with Q."""
    size = max(1, BLOCK_BYTES // (4 * max(1, len(candidates))))
    for start in range(0, len(queries), size):
        block = queries[start:start + size]
        yield block, query_embeddings[block] @ candidates.embeddings.T


def stable_ranks(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Ranks (k,), from 1, that a stable sort of values (n,), largest first, gives the elements at positions (k,).

    The values are sorted without their indices, which is several times faster; only ties need to look back.
    """
    ordered, sought = np.sort(values), values[positions]
    upper = np.searchsorted(ordered, sought, 'right')
    tied = upper - np.searchsorted(ordered, sought, 'left') > 1
    ranks = len(values) - upper + 1
    for i in np.flatnonzero(tied):
        ranks[i] += np.count_nonzero(values[:positions[i]] == sought[i])
    return ranks


def _query_embeddings(protocol: SearchProtocol, embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != protocol.num_queries:
        raise ValueError(f'query_embeddings: expected shape ({protocol.num_queries}, D), got {embeddings.shape}')
    for query in np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[:1]:
        raise ValueError(f'{protocol.describe(query)}: its embedding is not finite')
    return embeddings


def _targets_of(protocol: SearchProtocol, queries: np.ndarray, sought: np.ndarray) -> np.ndarray:
    """The targets that a block of queries may find."""
    return np.flatnonzero(sought & ~protocol.repeated & np.isin(protocol.target_queries, queries))


def _matches(protocol: SearchProtocol, candidates: Candidates, similarities: np.ndarray, queries: np.ndarray,
             targets: np.ndarray) -> np.ndarray:
    rows = np.searchsorted(queries, protocol.target_queries[targets])
    return match_targets(candidates, similarities, rows, protocol.target_images[targets],
                         protocol.target_boxes[targets])


def _summary(protocol: SearchProtocol, sought: np.ndarray, ranks: np.ndarray, positions: np.ndarray,
             topk: Sequence[int]) -> SearchResult:
    num_targets = np.bincount(protocol.target_queries[sought], minlength=protocol.num_queries)
    found = np.flatnonzero(ranks)
    found = found[np.lexsort((ranks[found], protocol.target_queries[found]))]
    queries = protocol.target_queries[found]
    num_found = np.bincount(queries, minlength=protocol.num_queries)
    first = np.cumsum(num_found) - num_found
    precision = (np.arange(len(found)) - first[queries] + 1) / ranks[found]
    # average precision x recall = (sum of precisions / found) x (found / targets)
    ap = np.bincount(queries, precision, protocol.num_queries) / np.maximum(num_targets, 1)
    first_ranks = np.zeros(protocol.num_queries, dtype=np.int64)
    first_ranks[num_found > 0] = ranks[found[first[num_found > 0]]]
    hits = {int(k): float(np.mean((first_ranks > 0) & (first_ranks <= k))) for k in topk}
    return SearchResult(float(ap.mean()), hits, ap, first_ranks, num_targets, num_found, ranks, positions)
