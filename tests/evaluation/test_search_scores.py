import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmps.evaluation import (
    CBGM,
    Candidates,
    NumPyProduct,
    Search,
    SearchProtocol,
    TorchProduct,
    candidates,
    ranking,
    score_searches,
    search_scores,
    similarity,
    similarity_histograms,
    stable_ranks,
    top_detections,
)

# Few boxes, whole-number embeddings and few scores: overlaps, touching boxes, equal similarities and misses are common.
BOXES = [
    (0, 0, 40, 80),
    (4, 0, 44, 80),
    (20, 0, 60, 80),
    (40, 0, 80, 80),
    (100, 0, 108, 12),
    (104, 0, 112, 12),
    (300, 300, 340, 380),
]
BOX = st.sampled_from(BOXES)
VECTOR = st.tuples(st.integers(-1, 1), st.integers(-1, 1))
DETECTION = st.tuples(BOX, st.sampled_from([0.4, 0.5, 0.9]), VECTOR)


def overlap(a, b):
    width, height = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def brute_force(detections, vector, gallery):
    """Returns AP and first rank of one query, given its gallery as (image, target box or None)."""
    listed = [(image, box) for image, box in gallery if box is not None]
    targets = dict(reversed(listed))  # the first box in an image is the one that stays
    images = dict.fromkeys(image for image, _ in gallery)
    ranked = [(np.dot(vector, v), image, box) for image in images for box, score, v in detections[image] if score >= 0.5]
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
    return [
        [np.array([d[i] for d in image], np.float32).reshape(len(image), *shape) for image in detections]
        for i, shape in enumerate(((4,), (), (2,)))
    ]


def assert_same(protocol, detections, vectors, galleries, cameras='all'):
    result = search_scores(protocol, *columns(detections), np.array(vectors), cameras=cameras)
    expected = [brute_force(detections, vector, gallery) for vector, gallery in zip(vectors, galleries, strict=True)]
    np.testing.assert_allclose(result.ap, [ap for ap, _ in expected], atol=1e-12)
    np.testing.assert_array_equal(result.first_ranks, [first for _, first in expected])
    assert result.mAP == pytest.approx(np.mean([ap for ap, _ in expected]))
    assert result.topk[1] == np.mean([first == 1 for _, first in expected])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_scores_of_listed_galleries_equal_a_plain_loop(data):
    detections = data.draw(st.lists(st.lists(DETECTION, max_size=4), min_size=1, max_size=4))
    entry = st.tuples(st.integers(0, len(detections) - 1), st.none() | BOX)
    queries = data.draw(
        st.lists(st.tuples(st.integers(0, len(detections) - 1), VECTOR, st.lists(entry, max_size=5)), min_size=1, max_size=3)
    )
    images, vectors, galleries = map(list, zip(*queries, strict=True))
    names = [f'{index}.jpg' for index in range(len(detections))]
    protocol = SearchProtocol.from_galleries(
        names,
        None,
        [names[i] for i in images],
        np.zeros((len(queries), 4)),
        [-1] * len(queries),
        [[(names[i], box) for i, box in gallery] for gallery in galleries],
    )
    assert_same(protocol, detections, vectors, galleries)


@given(st.data(), st.sampled_from(['all', 'other', 0, 1]))
@settings(max_examples=200, deadline=None)
def test_scores_of_identity_protocols_equal_a_plain_loop(data, searched):
    detections = data.draw(st.lists(st.lists(DETECTION, max_size=3), min_size=1, max_size=4))
    count = len(detections)
    person = st.tuples(BOX, st.integers(-1, 1))
    persons = data.draw(st.lists(st.lists(person, max_size=3), min_size=count, max_size=count))
    cameras = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    assume(searched in ('all', 'other', *cameras))
    query = st.tuples(st.integers(0, count - 1), VECTOR, st.integers(0, 1))
    queries = data.draw(st.lists(query, min_size=1, max_size=3))
    names = [f'{index}.jpg' for index in range(count)]
    protocol = SearchProtocol.from_identities(
        names,
        cameras,
        [[box for box, _ in image] for image in persons],
        [[identity for _, identity in image] for image in persons],
        [names[image] for image, _, _ in queries],
        np.zeros((len(queries), 4)),
        [identity for _, _, identity in queries],
    )
    galleries = [
        [
            (image, next((box for box, owner in persons[image] if owner == identity), None))
            for image in range(count)
            if image != own and {'all': True, 'other': cameras[image] != cameras[own]}.get(searched, cameras[image] == searched)
        ]
        for own, _, identity in queries
    ]
    assert_same(protocol, detections, [vector for _, vector, _ in queries], galleries, searched)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_stable_ranks_equal_a_stable_sort(values, data):
    positions = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=12))  # counted, and sorted
    order = sorted(range(len(values)), key=lambda i: -values[i])
    expected = [order.index(position) + 1 for position in positions]
    values = np.array(values)
    ranks = stable_ranks(values.copy(), values[positions], lambda i: values[: positions[i]])
    assert ranks.tolist() == expected


def search(scene, **changes):
    arguments = {name: scene[name] for name in ('protocol', 'boxes', 'scores', 'embeddings', 'query_embeddings')}
    return search_scores(**{**arguments, **changes})


def test_a_perfect_model_scores_one(scene):
    result = search(scene)
    assert result.mAP == 1 and result.topk == {1: 1, 5: 1, 10: 1}
    assert result.target_ranks.tolist() == [1, 1] and result.target_detections.tolist() == [0, 0]
    assert result.target_similarities.tolist() == [1, 1]


@pytest.mark.parametrize('cbgm', [None, CBGM(2, 2)])
def test_blocks_of_queries_and_chunks_of_images_do_not_change_the_result(scene, monkeypatch, cbgm):
    whole = search(scene, cbgm=cbgm)
    monkeypatch.setattr(similarity, 'BLOCK_BYTES', 1)
    monkeypatch.setattr(candidates, 'HELD_BYTES', 0)
    monkeypatch.setattr(candidates, 'CHUNK_BYTES', 1)
    monkeypatch.setattr(candidates, 'PAIRS', 1)
    monkeypatch.setattr(ranking, 'REVISED_BYTES', 1)
    small = search(scene, cbgm=cbgm)
    for name in ('ap', 'target_ranks', 'target_detections', 'target_similarities'):
        np.testing.assert_array_equal(getattr(small, name), getattr(whole, name))


def test_several_searches_score_the_same_as_each_alone_in_any_query_order(scene):
    everything = scene['protocol']
    swapped, one = everything.subset([1, 0]), everything.subset([1])
    pool = Candidates.from_lists(everything, scene['boxes'], scene['scores'], scene['embeddings'], 3)
    scene['query_embeddings'][1] = [0.6, 0, 0.8]
    results = score_searches(
        {
            'all': Search(everything),
            'swapped': Search(swapped, np.array([1, 0])),
            'one': Search(one, np.array([1])),
            'other': Search(everything, cameras='other'),
        },
        pool,
        scene['query_embeddings'],
    )
    np.testing.assert_array_equal(results['all'].ap, search(scene).ap)
    np.testing.assert_array_equal(results['other'].ap, search(scene, cameras='other').ap)
    assert results['swapped'].ap.tolist() == results['all'].ap[::-1].tolist()
    assert results['one'].ap.tolist() == results['all'].ap[1:].tolist() != [1]


def test_torch_computes_the_same_similarities(scene):
    rng = np.random.default_rng(0)
    embeddings = [rng.normal(size=array.shape).astype(np.float32) for array in scene['embeddings']]
    pool = Candidates.from_lists(scene['protocol'], scene['boxes'], scene['scores'], embeddings, 3)
    blocks = [
        next(iter(similarity.SimilarityBlocks(pool, scene['query_embeddings'], np.arange(2), product)))[1]
        for product in (NumPyProduct(), TorchProduct('cpu'))
    ]
    np.testing.assert_allclose(*blocks, rtol=1e-6)
    results = [
        score_searches({'': Search(scene['protocol'])}, pool, scene['query_embeddings'], product=product)['']
        for product in (NumPyProduct(), TorchProduct('cpu'))
    ]
    np.testing.assert_array_equal(results[0].target_ranks, results[1].target_ranks)


@pytest.mark.parametrize('device', ['cuda:99', 'nonsense'])
def test_an_unavailable_device_is_named(device):
    with pytest.raises(ValueError, match=f"device: PyTorch cannot use '{device}' here"):
        TorchProduct(device)


def test_histograms_count_every_searched_detection_once(scene):
    pool = Candidates.from_lists(scene['protocol'], scene['boxes'], scene['scores'], scene['embeddings'], 3)
    edges, matches, others = similarity_histograms(
        Search(scene['protocol']), search(scene), pool, scene['query_embeddings'], bins=4
    )
    # Of three detections in other images a query finds one (similarity 1); the others have similarity 0.
    assert edges.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert matches.tolist() == [0, 0, 0, 2] and others.tolist() == [0, 0, 4, 0]


def test_a_query_whose_targets_are_all_of_its_own_camera_scores_zero_across_cameras(scene):
    result = search(scene, cameras='other')
    assert result.ap.tolist() == [1, 0] and result.num_targets.tolist() == [1, 0]


@pytest.mark.filterwarnings('error')
def test_no_detection_anywhere_scores_zero(scene):
    empty = [np.zeros((0, 4))] * 3, [np.zeros(0)] * 3, [np.zeros((0, 3))] * 3
    result = search_scores(scene['protocol'], *empty, scene['query_embeddings'])
    assert result.mAP == 0 and result.topk == {1: 0, 5: 0, 10: 0}
    assert result.target_detections.tolist() == [-1, -1]
    best = top_detections(scene['protocol'], *empty, scene['query_embeddings'], queries=[0])
    assert len(best[0].images) == 0


def test_positions_are_indices_into_the_given_list_not_the_confident_one(scene):
    scene['scores'][2][:] = 0.9
    for name, unsure in (('boxes', [5, 5, 9, 9]), ('scores', 0.1), ('embeddings', [0, 1, 0])):
        scene[name][2] = np.concatenate([np.array([unsure], np.float32), scene[name][2]])
    assert search(scene).target_detections.tolist() == [0, 1]


def test_top_detections_are_the_most_similar_and_mark_true_positives(scene):
    arguments = (scene['boxes'], scene['scores'], scene['embeddings'], scene['query_embeddings'])
    second, first = top_detections(scene['protocol'], *arguments, queries=[1, 0], n=2)
    assert first.images.tolist() == [1, 2] and first.correct.tolist() == [True, False]
    assert second.images.tolist() == [2, 1] and second.correct.tolist() == [True, False]
    assert second.similarities.tolist() == [1, 0] and second.boxes[0].tolist() == [60, 0, 90, 60]
    assert second.positions.tolist() == [0, 0]


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('query_embeddings', np.zeros((3, 3)), r'query_embeddings: expected shape \(2, D\), got \(3, 3\)'),
        ('query_embeddings', np.full((2, 3), np.nan), r"query 0 \(image 'a'\): its embedding is not finite"),
        ('query_embeddings', np.full((2, 3), 1e20), r"query 0 \(image 'a'\): its embedding is not finite, or too large"),
        ('scores', [np.ones(2)], 'scores: expected one array for each of the 3 images, got 1'),
        ('scores', [np.ones(2), np.ones(2), np.ones(2)], r"boxes of image 'b': expected shape \(2, 4\), got \(1, 4\)"),
        (
            'embeddings',
            [np.ones((2, 3)), np.ones((1, 5)), np.ones((2, 3))],
            r"embeddings of image 'b': expected shape \(1, 3\), got \(1, 5\)",
        ),
        ('embeddings', [np.ones((2, 3)), np.full((1, 3), np.inf), np.ones((2, 3))], "image 'b': its embeddings are not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_named(scene, name, value, message):
    with pytest.raises(ValueError, match=message):
        search(scene, **{name: value})
