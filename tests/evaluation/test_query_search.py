"""A search with query-dependent detections has the rules of an ordinary one."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmps.evaluation import SearchProtocol, score_query_search, search_scores
from mmps.registry import METRICS


def case(seed, cameras=1, galleries=True, images=12, queries=15, dim=6):
    """Random persons with noisy detections and embeddings."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 200, (images, 8, 2)).astype(np.float32)
    boxes = [np.concatenate([each, each + np.array([40, 90])], axis=1).astype(np.float32) for each in corners]
    person_ids = [random.choice(10, 8, replace=False) for _ in range(images)]
    names = [f'{index}.jpg' for index in range(images)]
    taken = random.integers(cameras, size=images)
    owners, places = random.integers(images, size=queries), random.integers(8, size=queries)
    sought = np.array([person_ids[image][place] for image, place in zip(owners, places, strict=True)])
    of_queries = np.stack([boxes[image][place] for image, place in zip(owners, places, strict=True)])
    protocol = SearchProtocol.from_identities(names, taken, boxes, person_ids, [names[i] for i in owners], of_queries, sought)
    if galleries:
        listed = []
        for query in range(queries):
            targets = protocol.target_images[protocol.target_queries == query]
            others = random.choice(np.setdiff1d(np.arange(images), [owners[query]]), 4)
            listed.append(random.permutation(np.concatenate([targets, others])))
        protocol = SearchProtocol(
            *(getattr(protocol, name) for name in ('images', 'cameras', 'query_images', 'query_boxes', 'query_person_ids')),
            *(getattr(protocol, name) for name in ('target_queries', 'target_images', 'target_boxes')),
            listed,
        )
    prototypes = random.standard_normal((10, dim))
    embeddings = [(prototypes[ids] + 0.8 * random.standard_normal((8, dim))).astype(np.float32) for ids in person_ids]
    found = [(each + random.uniform(-25, 25, (8, 1))).astype(np.float32) for each in boxes]
    scores = [random.uniform(0.3, 1, 8).astype(np.float32) for _ in boxes]
    query_embeddings = (prototypes[sought] + 0.8 * random.standard_normal((queries, dim))).astype(np.float32)
    return protocol, found, scores, embeddings, query_embeddings


def as_pairs(protocol, boxes, scores, embeddings, query_embeddings, cameras='all'):
    """The detections of every pair, the pairs in random order."""
    pairs = [(query, image) for query in range(protocol.num_queries) for image in protocol.gallery(query, cameras)]
    rows = []
    for query, image in np.random.default_rng(0).permutation(pairs):
        kept = scores[image] >= 0.5
        similarities = (embeddings[image] @ query_embeddings[query])[kept]
        rows.append((np.full(kept.sum(), query), np.full(kept.sum(), image), boxes[image][kept], similarities))
    return [np.concatenate(arrays) for arrays in zip(*rows, strict=True)]


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(('cameras', 'galleries'), [('all', True), ('all', False), ('other', False)])
def test_query_independent_detections_score_as_in_an_ordinary_search(seed, cameras, galleries):
    protocol, *arrays = case(seed, cameras=1 + (cameras == 'other') * 2, galleries=galleries)
    expected = search_scores(protocol, *arrays, cameras=cameras)
    found = score_query_search(protocol, *as_pairs(protocol, *arrays, cameras), cameras=cameras)
    assert 0.05 < expected.mAP < 0.95
    assert (found.mAP, found.topk) == (expected.mAP, expected.topk)
    for name in ('ap', 'first_ranks', 'num_targets', 'num_found', 'target_ranks'):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_detections_of_one_query_do_not_count_for_another(scene):
    """The second query has no detections; the first has only its own."""
    scores = score_query_search(scene['protocol'], np.array([0]), np.array([1]), scene['boxes'][1], np.array([0.3], np.float32))
    assert scores.ap.tolist() == [1, 0] and scores.topk[1] == 0.5


@pytest.fixture
def metric(scene):
    metric = METRICS.build({'type': 'QuerySearchMetric'})
    metric.dataset_meta = {'protocol': scene['protocol']}
    for index, (boxes, person_ids) in enumerate(zip(scene['boxes'], scene['person_ids'], strict=True)):
        sample = DetDataSample(metainfo={'img_id': index})
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes), person_ids=torch.tensor(person_ids))
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(boxes),
            scores=torch.tensor(scene['scores'][index]),
            embeddings=torch.tensor(scene['embeddings'][index]),
        )
        if index == 0:
            sample.query_instances = InstanceData(
                query_ids=torch.tensor([0, 1]), embeddings=torch.tensor(scene['query_embeddings'])
            )
        metric.process(None, [sample.to_dict()])
    return metric


def pair(scene, image, similarities, score=0.9):
    scores = np.full(len(similarities), score, np.float32)
    return dict(bboxes=scene['boxes'][image], scores=scores, similarities=np.array(similarities, np.float32))


def test_the_metric_scores_both_searches(scene, metric):
    metric.process_pairs(1, [0, 1], [pair(scene, 1, [0.9]), pair(scene, 1, [0.9])])
    metric.process_pairs(2, [0, 1], [pair(scene, 2, [0.1, 0.2]), pair(scene, 2, [0.8, 0.1])])
    scores = metric.evaluate(3)
    assert scores['search/mAP'] == 1
    assert scores['search/query_mAP'] == 0.75  # the second query's target is its second detection
    assert (scores['search/query_top-1'], scores['search/query_top-5']) == (0.5, 1)


def test_unsure_and_repeated_detections_do_not_count(scene, metric):
    metric.process_pairs(1, [0, 1], [pair(scene, 1, [0.9]), pair(scene, 1, [0.9], score=0.4)])
    metric.process_pairs(2, [0, 1], [pair(scene, 2, [0.1, 0.2]), pair(scene, 2, [0.8, 0.1])])
    metric.process_pairs(1, [0, 1], [pair(scene, 1, [0.9]), pair(scene, 1, [0.9])])
    assert metric.evaluate(3)['search/query_mAP'] == 1


def test_a_pair_that_was_not_searched_is_named(scene, metric):
    metric.process_pairs(1, [0, 1], [pair(scene, 1, [0.9]), pair(scene, 1, [0.9])])
    metric.process_pairs(2, [0], [pair(scene, 2, [0.1, 0.2])])
    with pytest.raises(ValueError, match=r"^query 1 \(image 'a'\) was not searched in 'c': .*QuerySearchLoop"):
        metric.evaluate(3)
