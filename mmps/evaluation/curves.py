"""Computes precision-recall curves of a search.

Q queries, T targets, F the largest number of targets that a query finds.
"""

import numpy as np

from .protocol import SearchProtocol
from .search import SearchResult


def precision_recall(protocol: SearchProtocol, result: SearchResult, points: int = 101) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean precision at evenly spaced recalls, over the queries that have targets.

    A query that finds its i-th target at rank r_i has precision i / r_i at recall i / targets. Its precision at a given
    recall is the best precision at that recall or a larger one, or 0 if it never reaches that recall. So the curve never
    rises, and it starts below 1 if some query's first result is wrong.

    Args:
        points: Number of recalls, from 0 to 1.

    Returns:
        Recalls (points,) and mean precisions (points,), fractions in 0..1. If no query has targets, precisions are 0.

    Raises:
        ValueError: Fewer than 2 points.
    """
    if points < 2:
        raise ValueError(f'points: expected 2 or more, got {points}')
    steps = np.arange(points)
    queries = np.flatnonzero(result.num_targets)
    if not len(queries):
        return steps / (points - 1), np.zeros(points)
    best = _best_precisions(protocol, result)[queries]
    # The first i with i / targets >= step / (points - 1). Integers avoid rounding errors.
    needed = np.maximum(-(-steps * result.num_targets[queries, None] // (points - 1)), 1)
    reached = np.minimum(needed, best.shape[1]) - 1  # the last column is 0: no query finds so many
    return steps / (points - 1), np.take_along_axis(best, reached, axis=1).mean(axis=0)


def _best_precisions(protocol: SearchProtocol, result: SearchResult) -> np.ndarray:
    """Returns (Q, F + 1): each query's best precision from its i-th found target on, and 0 after its last one."""
    found = np.flatnonzero(result.target_ranks)
    found = found[np.lexsort((result.target_ranks[found], protocol.target_queries[found]))]
    queries = protocol.target_queries[found]
    counts = np.bincount(queries, minlength=protocol.num_queries)
    place = np.arange(len(found)) - (np.cumsum(counts) - counts)[queries]
    precisions = np.zeros((protocol.num_queries, counts.max() + 1))
    precisions[queries, place] = (place + 1) / result.target_ranks[found]
    return np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
