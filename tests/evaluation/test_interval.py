import numpy as np
import pytest

from mmps.evaluation import mean_interval, seed_query_interval


def test_the_interval_is_about_two_standard_errors_to_either_side():
    values = np.random.default_rng(0).normal(0.3, 0.2, 400)
    low, high = mean_interval(values)
    error = values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)
    assert mean_interval(values) == (low, high)  # the same resamples each time


def test_equal_values_give_an_empty_interval():
    assert mean_interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_seeds_and_queries_are_resampled_as_a_plain_loop_does():
    values = np.random.default_rng(1).normal(0.02, 0.2, (3, 40)) + np.array([[0.05], [0.0], [-0.02]])
    widening = np.sqrt(3 / 2) * 4.302653 / 1.959964  # the 97.5 % quantiles of t with two degrees of freedom and of the normal
    wide = np.array([row + (widening - 1) * (row.mean() - values.mean()) for row in values])
    rng, means = np.random.default_rng(2), []
    for _ in range(4000):
        queries = rng.integers(40, size=40)
        means.append(np.mean([wide[seed][queries].mean() for seed in rng.integers(3, size=3)]))
    low, high = seed_query_interval(values)
    assert (low, high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.04 * (high - low))
    assert seed_query_interval(values) == (low, high)


def test_a_single_seed_leaves_the_interval_over_queries():
    values = np.random.default_rng(0).normal(0.1, 0.2, 300)
    assert seed_query_interval(values[None]) == pytest.approx(mean_interval(values), abs=2e-3)


@pytest.mark.parametrize('num_seeds', [3, 5])
@pytest.mark.parametrize(
    'of_seed, of_query, rest', [(0.06, 0.1, 0.2), (0.02, 0.2, 0.25), (0.0, 0.3, 0.1)], ids=['seeds', 'both', 'queries']
)
def test_intervals_cover_the_truth_whether_seeds_or_queries_differ_more(num_seeds, of_seed, of_query, rest):
    """The standard deviations are those of a seed, of what all seeds have in common for a query, and of the rest."""
    rng, hits = np.random.default_rng(num_seeds), []
    for _ in range(200):
        gains = rng.normal(0, of_seed, (num_seeds, 1)) + rng.normal(0, of_query, 80) + rng.normal(0, rest, (num_seeds, 80))
        low, high = seed_query_interval(gains, resamples=500)
        hits.append(low <= 0 <= high)
    assert np.mean(hits) > 0.92  # 95 % but for the chance of 200 draws
