import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps.evaluation import SearchProtocol, ranking, search_scores, stable_ranks, top_detections

# Few boxes, whole-number embeddings and few scores: overlaps, equal similarities and misses are common.
BOXES = [(0, 0, 40, 80), (4, 0, 44, 80), (20, 0, 60, 80), (100, 0, 108, 12), (104, 0, 112, 12), (300, 300, 340, 380)]
BOX = st.sampled_from(BOXES)
VECTOR = st.tuples(st.integers(-1, 1), st.integers(-1, 1))
DETECTION = st.tuples(BOX, st.sampled_from([0.4, 0.5, 0.9]), VECTOR)


def overlap(a, b):
    width, height = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def brute_force(detections, vector, gallery):
    """AP and first rank of one query, from its gallery's (image, target box or None)."""
    listed = [(image, box) for image, box in gallery if box is not None]
    targets = dict(reversed(listed))  # the first box in an image is the one that stays
    images = dict.fromkeys(image for image, _ in gallery)
    ranked = [(np.dot(vector, v), image, box) for image in images
              for box, score, v in detections[image] if score >= 0.5]
    hits = []
    for rank, (_, image, box) in enumerate(sorted(ranked, key=lambda entry: -entry[0]), 1):
        target = targets.get(image)
        if target is not None:
            w, h = target[2] - target[0], target[3] - target[1]
            if overlap(box, target) >= min(0.5, w * h / ((w + 10) * (h + 10))):
                hits.append(rank)
                targets[image] = None
    return sum(k / rank for k, rank in enumerate(hits, 1)) / max(len(listed), 1), hits[0] if hits else 0


def columns(detections):
    return [[np.array([d[i] for d in image], np.float32).reshape(len(image), *shape) for image in detections]
            for i, shape in enumerate(((4,), (), (2,)))]


def assert_same(protocol, detections, vectors, galleries, other_cameras=False):
    result = search_scores(protocol, *columns(detections), np.array(vectors), other_cameras=other_cameras)
    expected = [brute_force(detections, vector, gallery) for vector, gallery in zip(vectors, galleries, strict=True)]
    np.testing.assert_allclose(result.ap, [ap for ap, _ in expected], atol=1e-12)
    np.testing.assert_array_equal(result.first_ranks, [first for _, first in expected])
    assert result.mAP == pytest.approx(np.mean([ap for ap, _ in expected]))
    assert result.topk[1] == np.mean([first == 1 for _, first in expected])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_listed_galleries_score_as_a_plain_loop_scores_them(data):
    detections = data.draw(st.lists(st.lists(DETECTION, max_size=4), min_size=1, max_size=4))
    entry = st.tuples(st.integers(0, len(detections) - 1), st.none() | BOX)
    queries = data.draw(st.lists(st.tuples(st.integers(0, len(detections) - 1), VECTOR, st.lists(entry, max_size=5)),
                                 min_size=1, max_size=3))
    images, vectors, galleries = map(list, zip(*queries, strict=True))
    names = [f'{index}.jpg' for index in range(len(detections))]
    protocol = SearchProtocol.from_galleries(
        names, None, [names[i] for i in images], np.zeros((len(queries), 4)), [-1] * len(queries),
        [[(names[i], box) for i, box in gallery] for gallery in galleries])
    assert_same(protocol, detections, vectors, galleries)


@given(st.data(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_identities_score_as_a_plain_loop_scores_them(data, other_cameras):
    detections = data.draw(st.lists(st.lists(DETECTION, max_size=3), min_size=1, max_size=4))
    count = len(detections)
    person = st.tuples(BOX, st.integers(-1, 1))
    persons = data.draw(st.lists(st.lists(person, max_size=3), min_size=count, max_size=count))
    cameras = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    query = st.tuples(st.integers(0, count - 1), VECTOR, st.integers(0, 1))
    queries = data.draw(st.lists(query, min_size=1, max_size=3))
    names = [f'{index}.jpg' for index in range(count)]
    protocol = SearchProtocol.from_identities(
        names, cameras, [[box for box, _ in image] for image in persons],
        [[identity for _, identity in image] for image in persons], [names[image] for image, _, _ in queries],
        np.zeros((len(queries), 4)), [identity for _, _, identity in queries])
    galleries = [[(image, next((box for box, owner in persons[image] if owner == identity), None))
                  for image in range(count)
                  if image != own and not (other_cameras and cameras[image] == cameras[own])]
                 for own, _, identity in queries]
    assert_same(protocol, detections, [vector for _, vector, _ in queries], galleries, other_cameras)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_stable_ranks_are_those_of_a_stable_sort(values, data):
    positions = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=4))
    order = sorted(range(len(values)), key=lambda i: -values[i])
    expected = [order.index(position) + 1 for position in positions]
    assert stable_ranks(np.array(values), np.array(positions, dtype=int)).tolist() == expected


def search(scene, **changes):
    arguments = {name: scene[name] for name in ('protocol', 'boxes', 'scores', 'embeddings', 'query_embeddings')}
    return search_scores(**{**arguments, **changes})


def test_a_perfect_model_scores_one(scene):
    result = search(scene)
    assert result.mAP == 1 and result.topk == {1: 1, 5: 1, 10: 1}
    assert result.target_ranks.tolist() == [1, 1] and result.target_detections.tolist() == [0, 0]


def test_blocks_of_queries_do_not_change_the_result(scene, monkeypatch):
    whole = search(scene)
    monkeypatch.setattr(ranking, 'BLOCK_BYTES', 1)
    assert search(scene).ap.tolist() == whole.ap.tolist()


def test_a_query_whose_targets_are_all_of_its_own_camera_scores_zero_across_cameras(scene):
    result = search(scene, other_cameras=True)
    assert result.ap.tolist() == [1, 0] and result.num_targets.tolist() == [1, 0]


@pytest.mark.filterwarnings('error')
def test_no_detection_anywhere_scores_zero(scene):
    empty = [np.zeros((0, 4))] * 3, [np.zeros(0)] * 3, [np.zeros((0, 3))] * 3
    result = search_scores(scene['protocol'], *empty, scene['query_embeddings'])
    assert result.mAP == 0 and result.topk == {1: 0, 5: 0, 10: 0}
    assert result.target_detections.tolist() == [-1, -1]
    best = top_detections(scene['protocol'], *empty, scene['query_embeddings'], queries=[0])
    assert len(best[0].images) == 0


def test_positions_count_in_the_list_that_was_given_not_in_the_confident_ones(scene):
    scene['scores'][2][:] = 0.9
    for name, unsure in (('boxes', [5, 5, 9, 9]), ('scores', 0.1), ('embeddings', [0, 1, 0])):
        scene[name][2] = np.concatenate([np.array([unsure], np.float32), scene[name][2]])
    assert search(scene).target_detections.tolist() == [0, 1]


def test_top_detections_are_the_most_similar_and_say_which_are_right(scene):
    arguments = (scene['boxes'], scene['scores'], scene['embeddings'], scene['query_embeddings'])
    second, first = top_detections(scene['protocol'], *arguments, queries=[1, 0], n=2)
    assert first.images.tolist() == [1, 2] and first.correct.tolist() == [True, False]
    assert second.images.tolist() == [2, 1] and second.correct.tolist() == [True, False]
    assert second.similarities.tolist() == [1, 0] and second.boxes[0].tolist() == [60, 0, 90, 60]
    assert second.positions.tolist() == [0, 0]


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('query_embeddings', np.zeros((3, 3)), r'query_embeddings: expected shape \(2, D\), got \(3, 3\)'),
    ('query_embeddings', np.full((2, 3), np.nan), r"query 0 \(image 'a'\): its embedding is not finite"),
    ('scores', [np.ones(2)], 'scores: expected one array for each of the 3 images, got 1'),
    ('scores', [np.ones(2), np.ones(2), np.ones(2)], r"boxes of image 'b': expected shape \(2, 4\), got \(1, 4\)"),
    ('embeddings', [np.ones((2, 3)), np.ones((1, 5)), np.ones((2, 3))],
     r"embeddings of image 'b': expected shape \(1, 3\), got \(1, 5\)"),
    ('embeddings', [np.ones((2, 3)), np.full((1, 3), np.inf), np.ones((2, 3))],
     "image 'b': its embeddings are not finite"),
])
def test_arrays_that_do_not_fit_are_named(scene, name, value, message):
    with pytest.raises(ValueError, match=message):
        search(scene, **{name: value})
