"""Scores a search in which every query has its own detections in every image, with the rules of an ordinary search.

G images, Q queries, N detections of all pairs of query and image, n of them of one query, T targets.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from .candidates import Candidates
from .protocol import SearchProtocol
from .ranking import score_searches
from .search import Search, SearchResult


def asked_pairs(protocol: SearchProtocol, cameras: str | int = 'all') -> np.ndarray:
    """Returns a mask (Q, G) of the pairs of query and gallery image."""
    asked = np.zeros((protocol.num_queries, len(protocol.images)), dtype=bool)
    for query in range(protocol.num_queries):
        asked[query, protocol.gallery(query, cameras)] = True
    return asked


def score_query_search(
    protocol: SearchProtocol,
    queries: np.ndarray,
    images: np.ndarray,
    boxes: np.ndarray,
    similarities: np.ndarray,
    topk: Sequence[int] = (1, 5, 10),
    cameras: str | int = 'all',
) -> SearchResult:
    """Ranks the detections of each query by similarity and scores them as :func:`score_searches` does.

    Each query is an ordinary search of its own, whose embeddings are the similarities, as vectors of one number.

    Args:
        queries, images: (N,), the pair of each detection. Detections of a pair are in the detector's order.
        boxes: (N, 4), x1 y1 x2 y2 in original-image pixels.
        similarities: (N,), float32.
        cameras: As in :class:`Search`.

    Returns:
        As from an ordinary search; ``target_detections`` count within the pair.
    """
    order = np.lexsort((images, queries))
    queries, images, boxes, similarities = queries[order], images[order], boxes[order], similarities[order]
    bounds = np.searchsorted(queries, np.arange(protocol.num_queries + 1))
    one, results = np.ones((1, 1), np.float32), []
    for query in range(protocol.num_queries):
        rows = slice(bounds[query], bounds[query + 1])
        ends = np.searchsorted(images[rows], np.arange(len(protocol.images) - 1), side='right')
        alone = protocol.subset([query])
        found, values = np.split(boxes[rows], ends), np.split(similarities[rows, None], ends)
        candidates = Candidates.from_lists(alone, found, [np.ones(len(each)) for each in found], values, 1)
        results.append(score_searches({'': Search(alone, cameras=cameras)}, candidates, one, topk)[''])
    joined = {
        field.name: np.concatenate([getattr(result, field.name) for result in results])
        for field in fields(SearchResult)
        if field.name not in ('mAP', 'topk')
    }
    hits = {k: float(np.mean([result.topk[k] for result in results])) for k in results[0].topk}
    return SearchResult(float(joined['ap'].mean()), hits, **joined)
