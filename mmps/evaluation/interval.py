"""Estimates confidence intervals of scores.

S seeds, Q queries, R resamples.
"""

from functools import cache

import numpy as np
from scipy.special import ndtri, stdtrit
from scipy.stats import bootstrap


def mean_interval(values: np.ndarray, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Returns the confidence interval of the mean over queries, by percentile bootstrap (Efron, 1979).

    Given the differences of two systems per query, it tells whether one is better (Smucker et al., CIKM 2007).

    Args:
        values: (Q,), one per query.

    Returns:
        Both ends of the interval. If all values are equal, both are that value.
    """
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=1000,
        confidence_level=confidence,
        method='percentile',
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def seed_query_interval(
    values: np.ndarray, confidence: float = 0.95, resamples: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Returns the confidence interval of the mean over seeds and queries, by a hierarchical bootstrap.

    A resample draws S seeds and Q queries, and averages over all their pairs. Given the differences of two methods per seed
    and query, the interval tells whether one is better for new seeds and new queries.

    - All seeds of a resample are asked the same queries (the pigeonhole bootstrap: Owen, 2007), because a query that is hard
      for one seed is hard for all. Queries drawn anew for each seed would average that out.
    - The deviations of the seeds from their mean are widened beforehand (expanded percentiles: Hesterberg, 2015), because
      percentiles of three or five values are too narrow.

    Without these two, the intervals of three seeds cover the truth as rarely as in two of three cases
    (``tests/evaluation/test_interval.py``).

    Args:
        values: (S, Q). With S = 1 the interval is over the queries alone.

    Returns:
        Both ends of the interval.
    """
    num_seeds, num_queries = values.shape
    if num_seeds > 1:
        tail = (1 - confidence) / 2
        widening = np.sqrt(num_seeds / (num_seeds - 1)) * stdtrit(num_seeds - 1, tail) / ndtri(tail)
        values = values + (widening - 1) * (values.mean(axis=1, keepdims=True) - values.mean())
    seed_shares = _resampled_shares(num_seeds, resamples, seed)
    query_shares = _resampled_shares(num_queries, resamples, seed + 1)
    means = np.einsum('rq,rq->r', seed_shares @ values, query_shares)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


@cache
def _resampled_shares(count: int, resamples: int, seed: int) -> np.ndarray:
    """Returns (R, count): the share of each item in each resample."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples) / count
