"""A person in consecutive frames is one record, with the best view and the first and last time."""

import numpy as np
import pytest

from mmps.apis.sightings import Sighting
from mmps.apis.tracks import BEST, LOST_AFTER, Tracks

DIMS = 16


def person(number):
    """The embedding (D,) of a person."""
    return np.eye(DIMS, dtype=np.float32)[number]


def view(embedding, frame, x, score=0.9):
    embedding = np.asarray(embedding, np.float32) / np.linalg.norm(embedding)
    return Sighting('street.mp4', frame, frame / 10, 'north', (x, 50.0, 30.0, 80.0), score, embedding)


def follow(frames):
    """Returns the records of a whole video."""
    tracks = Tracks()
    return [record for each in frames for record in tracks.add(each)] + tracks.end()


def test_two_persons_who_walk_past_each_other_are_two_records():
    frames = [[view(person(0), n, 10.0 + 6 * n), view(person(1), n, 310.0 - 6 * n)] for n in range(50)]
    records = follow(frames)
    assert len(records) == 2
    for record, number in zip(sorted(records, key=lambda each: each.embedding[0]), (1, 0), strict=True):
        np.testing.assert_allclose(record.embedding, person(number), atol=1e-6)
        assert (record.since, record.until) == (0.0, 4.9)


def test_a_record_is_the_best_view_with_the_mean_of_the_best_few():
    scores = [0.6, 0.95, 0.7, 0.99, 0.8, 0.75, 0.65, 0.9]
    views = [view(person(0) + 0.1 * k * person(1), k, 10.0 + k, score) for k, score in enumerate(scores)]
    (record,) = follow([[each] for each in views])
    assert (record.frame, record.time, record.score, record.bbox[0]) == (3, 0.3, 0.99, 13.0)
    assert (record.since, record.until) == (0.0, 0.7)
    best = np.mean([views[k].embedding for k in np.argsort(scores)[::-1][:BEST]], axis=0)
    np.testing.assert_allclose(record.embedding, best / np.linalg.norm(best), atol=1e-6)
    assert np.linalg.norm(record.embedding) == pytest.approx(1)


def test_a_track_outlives_a_short_gap_and_ends_after_a_long_one():
    def seen(n):
        return [view(person(0), n, 10.0)] if n < 10 or 15 <= n < 20 or n >= 20 + 2 * LOST_AFTER else []

    tracks, ended = Tracks(), {}
    for n in range(60):
        for record in tracks.add(seen(n)):
            ended[n] = record
    assert [(n, each.since, each.until) for n, each in ended.items()] == [(20 + LOST_AFTER, 0.0, 1.9)]
    assert tracks and [each.since for each in tracks.end()] == [(20 + 2 * LOST_AFTER) / 10] and not tracks


def test_nobody_is_lost_who_is_seen_once():
    records = follow([[], [view(person(0), 1, 10.0), view(person(1), 1, 200.0)], [], [view(person(2), 3, 400.0)]])
    assert sorted((each.frame, each.since, each.until) for each in records) == [(1, 0.1, 0.1), (1, 0.1, 0.1), (3, 0.3, 0.3)]


def test_somebody_else_in_the_same_place_is_another_record():
    frames = [[view(person(0), n, 10.0)] for n in range(10)] + [[]] + [[view(person(1), n, 10.0)] for n in range(11, 20)]
    assert sorted((each.since, each.until) for each in follow(frames)) == [(0.0, 0.9), (1.1, 1.9)]
