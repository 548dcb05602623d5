"""A search with context in a gallery equals that of the scorer (CBGM)."""

import numpy as np
import pytest

from mmps.apis.context import as_candidates, search_in_context
from mmps.apis.gallery import Gallery
from mmps.apis.sightings import Sighting, Where
from mmps.evaluation import CBGM, SearchProtocol
from mmps.evaluation.ranking import search_scores

DIMS, PERSONS, FRAMES = 16, 12, 40


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope='module')
def scenes():
    """Fifty scenes with the numbers of a few persons each, who look slightly different every time, and their sightings.

    The first forty are frames of four videos, the other ten are photographs of queries.
    """
    generator = np.random.default_rng(0)
    people = unit(generator.standard_normal((PERSONS, DIMS)))
    scenes = []
    for number in range(FRAMES + 10):
        present = generator.permutation(PERSONS)[: generator.integers(0, 6)]
        sightings = [
            Sighting(
                *(f'{number // 10}.mp4', number % 10, number % 10 / 5, '', (100.0 * place, 10.0, 50.0, 100.0)),
                float(np.float32(generator.uniform(0.5, 1))),
                unit(people[person] + 0.25 * generator.standard_normal(DIMS)),
            )
            for place, person in enumerate(present)
        ]
        scenes.append((present, sightings))
    return scenes


@pytest.fixture(scope='module')
def gallery(scenes, tmp_path_factory):
    with Gallery(tmp_path_factory.mktemp('context') / 'gallery.db', 'model', DIMS) as gallery:
        for source in range(FRAMES // 10):
            gallery.begin(f'{source}.mp4')
            people = [each for _, sightings in scenes[10 * source : 10 * source + 10] for each in sightings]
            gallery.add(f'{source}.mp4', people, 10, complete=True)
        yield gallery


@pytest.fixture(scope='module')
def protocol(scenes):
    """Everybody in the photographs is searched in the frames of the videos."""
    queries = [(image, place) for image in range(FRAMES, FRAMES + 10) for place in range(len(scenes[image][0]))]
    targets = [
        (number, image, int(np.flatnonzero(scenes[image][0] == scenes[own][0][place])[0]))
        for number, (own, place) in enumerate(queries)
        for image in range(FRAMES)
        if scenes[own][0][place] in scenes[image][0]
    ]
    return SearchProtocol(
        [str(number) for number in range(len(scenes))],
        np.zeros(len(scenes), int),
        [image for image, _ in queries],
        [corners(scenes[image][1][place]) for image, place in queries],
        [-1] * len(queries),
        [query for query, *_ in targets],
        [image for _, image, _ in targets],
        [corners(scenes[image][1][place]) for _, image, place in targets],
        [np.arange(FRAMES)] * len(queries),
    )


def corners(sighting):
    x, y, width, height = sighting.bbox
    return [x, y, x + width, y + height]


@pytest.mark.parametrize('cbgm', [CBGM(), CBGM(30, 4), CBGM(3, 1), CBGM(5, 9)])
def test_a_search_with_context_ranks_as_the_scorer_does(gallery, scenes, protocol, cbgm):
    boxes = [np.array([corners(each) for each in sightings]).reshape(-1, 4) for _, sightings in scenes]
    scores = [np.array([each.score for each in sightings]) for _, sightings in scenes]
    embeddings = [np.array([each.embedding for each in sightings]).reshape(-1, DIMS) for _, sightings in scenes]
    # A given box is never quite a detected one. With equal embeddings the matching would have two equal solutions.
    queries = np.array([each.embedding for _, sightings in scenes[FRAMES:] for each in sightings])
    asked = unit(queries + 0.05 * np.random.default_rng(1).standard_normal(queries.shape))
    expected = search_scores(protocol, boxes, scores, embeddings, asked, cbgm=cbgm)
    plain = search_scores(protocol, boxes, scores, embeddings, asked)
    assert (np.any(expected.target_similarities != plain.target_similarities)) == (cbgm.k2 > 1)
    for number, query in enumerate(asked):
        scene = scenes[protocol.query_images[number]][1]
        matches = search_in_context(gallery, query, scene, cbgm, topk=500)
        assert len(matches) == len(gallery)
        places = {(each.sighting.source, each.sighting.frame, each.sighting.bbox): rank for rank, each in enumerate(matches)}
        for target in np.flatnonzero(protocol.target_queries == number):
            image = protocol.target_images[target]
            found = scenes[image][1][expected.target_detections[target]]
            rank = places[found.source, found.frame, found.bbox]
            assert matches[rank].similarity == pytest.approx(expected.target_similarities[target], abs=1e-6)
            # Two persons who are matched in a frame may have the same similarity.
            ties = sum(abs(each.similarity - matches[rank].similarity) < 1e-6 for each in matches)
            assert abs(rank + 1 - expected.target_ranks[target]) < ties


def test_filters_and_limits_hold_with_context(gallery, scenes):
    scene = next(sightings for _, sightings in scenes if len(sightings) > 2)
    query = scene[0].embedding
    matches = search_in_context(gallery, query, scene, CBGM(), 10, 0.5, Where(sources=['1.mp4'], since=0.5))
    assert matches and all(each.similarity >= 0.5 and each.sighting.source == '1.mp4' for each in matches)
    assert all(each.sighting.time >= 0.5 for each in matches)
    assert search_in_context(gallery, query, scene, CBGM(), where=Where(cameras=['nowhere'])) == []


def test_a_query_whom_the_model_does_not_detect_has_a_search_too(gallery, scenes):
    query = scenes[0][1][0].embedding if scenes[0][1] else scenes[1][1][0].embedding
    plain = gallery.search(query[None], 5)[0]
    assert [each.sighting for each in search_in_context(gallery, query, [], CBGM(), 5)] == [each.sighting for each in plain]
    assert len(as_candidates([[]], DIMS)) == 0
