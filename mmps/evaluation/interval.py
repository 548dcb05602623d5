"""Estimates confidence intervals of scores."""

import numpy as np
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
