"""Matches joined to spans of time."""

import itertools

import numpy as np
import pytest

from mmps.apis.appearances import appearances, default_gap


def match(rank, since, until=None, source='a.mp4', camera='north'):
    until = since if until is None else until
    return dict(rank=rank, similarity=1 - rank / 100, source=source, camera=camera, time=since, since=since, until=until)


def test_matches_closer_than_the_gap_are_one_appearance():
    found = appearances([match(1, 7.0), match(2, 5.5), match(3, 4.0), match(4, 20.0)], gap=1.5)
    assert [(each['since'], each['until'], each['matches'], each['rank']) for each in found] == [(4, 7, 3, 1), (20, 20, 1, 4)]
    assert [each['similarity'] for each in found] == [0.99, 0.96]


def test_a_long_track_holds_the_short_ones_within_it():
    found = appearances([match(1, 0, 60), match(2, 10, 11), match(3, 61), match(4, 64.5, 70)], gap=2)
    assert [(each['since'], each['until']) for each in found] == [(0, 61), (64.5, 70)]


def test_each_camera_and_source_has_its_own_and_its_gap():
    found = appearances(
        [match(1, 0), match(2, 3), match(3, 0, source='b.mp4'), match(4, 3, source='b.mp4'), match(5, 0, camera='east')],
        gap={'a.mp4': 5.0, 'b.mp4': 2.0},
    )
    assert [(each['camera'], each['source'], each['matches']) for each in found] == [
        ('east', 'a.mp4', 1),
        ('north', 'a.mp4', 2),
        ('north', 'b.mp4', 1),
        ('north', 'b.mp4', 1),
    ]
    assert appearances([]) == []


@pytest.mark.parametrize('gap', [0.0, 0.7, 3.0])
def test_every_match_is_in_one_span_whatever_the_order(gap):
    times = np.random.default_rng(0).uniform(0, 60, 40)
    matches = [match(rank, float(time)) for rank, time in enumerate(times, 1)]
    found = appearances(matches, gap)
    assert sum(each['matches'] for each in found) == 40 and found == appearances(matches[::-1], gap)
    assert all(later['since'] - earlier['until'] > gap for earlier, later in itertools.pairwise(found))


def test_the_gap_grows_with_the_interval_between_frames():
    assert default_gap(0.04) == 2 and default_gap(1.5) == 4.5
