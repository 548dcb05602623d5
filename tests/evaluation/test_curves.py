import numpy as np
import pytest

from mmps.evaluation import SearchProtocol, SearchResult
from mmps.evaluation.curves import precision_recall


def scored(ranks):
    """Makes a protocol and a result from the ranks of each query's targets; 0 = not found."""
    counts = np.array([len(of_query) for of_query in ranks])
    queries = np.repeat(np.arange(len(ranks)), counts)
    flat = np.concatenate([np.array(of_query, dtype=np.int64) for of_query in ranks])
    places = 1 + np.arange(len(flat)) - (np.cumsum(counts) - counts)[queries]
    box = np.array([[0, 0, 10, 20]], np.float32)
    protocol = SearchProtocol(
        [str(i) for i in range(counts.max(initial=0) + 1)],
        np.zeros(counts.max(initial=0) + 1, int),
        np.zeros(len(ranks), int),
        box.repeat(len(ranks), 0),
        np.arange(len(ranks)),
        queries,
        places,
        box.repeat(len(flat), 0).reshape(-1, 4),
    )
    found = np.bincount(queries[flat > 0], minlength=len(ranks))
    nothing = np.zeros(len(flat))
    return protocol, SearchResult(0, {}, np.zeros(len(ranks)), found, counts, found, flat, flat - 1, nothing)


def by_definition(ranks, points):
    """Returns for each recall the mean over queries of the best precision at that recall or a larger one."""
    curve = []
    for step in range(points):
        values = []
        for of_query in filter(len, ranks):
            found = sorted(rank for rank in of_query if rank)
            reached = [(i + 1) / rank for i, rank in enumerate(found) if (i + 1) * (points - 1) >= step * len(of_query)]
            values.append(max(reached, default=0))
        curve.append(np.mean(values))
    return curve


def test_the_curve_is_the_best_precision_at_each_recall_or_a_larger_one():
    recalls, precisions = precision_recall(*scored([[4, 1, 0]]), points=7)
    np.testing.assert_allclose(recalls, np.arange(7) / 6)
    np.testing.assert_allclose(precisions, [1, 1, 1, 0.5, 0.5, 0, 0])


def test_later_targets_raise_the_precision_at_smaller_recalls():
    assert precision_recall(*scored([[5, 6, 7, 8]]), points=3)[1].tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize('points', [2, 11, 101])
def test_the_mean_over_queries_equals_a_plain_loop(points):
    random = np.random.default_rng(points)
    ranks = [random.permutation(60)[:count] for count in [1, 0, 7, 40, 3, 1, 12, 50]]
    np.testing.assert_allclose(precision_recall(*scored(ranks), points)[1], by_definition(ranks, points))


def test_recalls_are_exact_where_floats_would_round():
    ranks = [np.arange(1, 101) * 2]  # 7 / 100 of 100 targets is a little more than 7 in floating point
    ranks[0][7:] *= 10
    precisions = precision_recall(*scored(ranks))[1]
    assert precisions[7] == 0.5 and precisions[8] < 0.1


def test_a_perfect_search_has_precision_1_everywhere():
    assert (precision_recall(*scored([[1], [2, 1, 3]]))[1] == 1).all()


def test_queries_without_targets_do_not_count():
    np.testing.assert_array_equal(precision_recall(*scored([[2], []]))[1], precision_recall(*scored([[2]]))[1])


@pytest.mark.parametrize('ranks', [[[]], [[0, 0], []]], ids=['no targets', 'none found'])
def test_precision_is_0_if_nothing_is_found(ranks):
    recalls, precisions = precision_recall(*scored(ranks), points=5)
    assert recalls.tolist() == [0, 0.25, 0.5, 0.75, 1] and not precisions.any()


def test_a_curve_of_one_point_is_refused():
    with pytest.raises(ValueError, match='points: expected 2 or more, got 1'):
        precision_recall(*scored([[1]]), points=1)
