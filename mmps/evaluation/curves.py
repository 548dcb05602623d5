"""How precision falls with recall.

Q queries, T targets, F the most targets that any query finds.
"""

import numpy as np

from .protocol import SearchProtocol
from .search import SearchResult


def precision_recall(protocol: SearchProtocol, result: SearchResult, points: int = 101) -> tuple[np.ndarray, np.ndarray]:
    """Mean precision over the queries that have targets, at evenly spaced recalls.

    A query that finds its i-th target at rank r_i has there the precision i / r_i and the recall i / targets. Its
    precision at a recall is the best that it has at that recall or a larger one, 0 where it never gets so far. So the
    curve falls, and stays below 1 at recall 0 if some query's first result is wrong.

    Args:
        points: How many recalls, from 0 to 1.

    Returns:
        Recalls (points,) and mean precisions (points,), fractions in 0..1; no precision but 0 where no query has targets.

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
    # The first i with i / targets >= step / (points - 1), in whole numbers: fractions would be off by one at times.
    needed = np.maximum(-(-steps * result.num_targets[queries, None] // (points - 1)), 1)
    reached = np.minimum(needed, best.shape[1]) - 1  # the last column is 0: beyond what any query finds
    return steps / (points - 1), np.take_along_axis(best, reached, axis=1).mean(axis=0)


def _best_precisions(protocol: SearchProtocol, result: SearchResult) -> np.ndarray:
    """(Q, F + 1): the best precision of each query from its i-th found target on; 0 beyond its last."""
    found = np.flatnonzero(result.target_ranks)
    found = found[np.lexsort((result.target_ranks[found], protocol.target_queries[found]))]
    queries = protocol.target_queries[found]
    counts = np.bincount(queries, minlength=protocol.num_queries)
    place = np.arange(len(found)) - (np.cumsum(counts) - counts)[queries]
    precisions = np.zeros((protocol.num_queries, counts.max() + 1))
    precisions[queries, place] = (place + 1) / result.target_ranks[found]
    return np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
