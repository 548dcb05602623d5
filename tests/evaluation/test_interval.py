import numpy as np
import pytest

from mmps.evaluation import mean_interval


def test_the_interval_is_about_two_standard_errors_to_either_side():
    values = np.random.default_rng(0).normal(0.3, 0.2, 400)
    low, high = mean_interval(values)
    error = values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)
    assert mean_interval(values) == (low, high)  # the same resamples each time


def test_equal_values_give_an_empty_interval():
    assert mean_interval(np.full(5, 0.25)) == (0.25, 0.25)
