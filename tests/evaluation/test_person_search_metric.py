import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmps.evaluation import CBGM, PersonSearchMetric, SearchProtocol, detection_scores, load_predictions, search_scores
from mmps.registry import METRICS


@pytest.fixture
def samples(scene):
    return samples_of(scene)


def samples_of(scene):
    """Returns the scene's data samples in the form that a metric gets from MMEngine's evaluator."""
    samples = []
    for index, (boxes, person_ids) in enumerate(zip(scene['boxes'], scene['person_ids'], strict=True)):
        sample = DetDataSample(metainfo={'img_id': index})
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(boxes + 1),
            scores=torch.tensor(scene['scores'][index]),
            labels=torch.zeros(len(boxes), dtype=torch.long),
            embeddings=torch.tensor(scene['embeddings'][index]),
        )
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes), person_ids=torch.tensor(person_ids))
        if index == 0:
            sample.query_instances = InstanceData(
                bboxes=torch.tensor(boxes),
                query_ids=torch.tensor([1, 0]),
                embeddings=torch.tensor(scene['query_embeddings'][[1, 0]]),
            )
        samples.append(sample.to_dict())
    return samples


def evaluate(scene, samples, **options):
    metric = METRICS.build({'type': 'PersonSearchMetric', **options})
    metric.dataset_meta = {name: scene[name] for name in ('protocol', 'cbgm') if name in scene}
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples)), metric


def test_the_metric_equals_search_scores_and_detection_scores(scene, samples):
    samples[2]['pred_instances']['embeddings'] = samples[2]['pred_instances']['embeddings'].flip(0)
    scene['embeddings'][2] = scene['embeddings'][2][::-1]
    scores, metric = evaluate(scene, samples)
    boxes = [array + 1 for array in scene['boxes']]
    search = search_scores(scene['protocol'], boxes, scene['scores'], scene['embeddings'], scene['query_embeddings'])
    everyone = detection_scores(boxes, scene['scores'], scene['boxes'])
    labelled = detection_scores(boxes, scene['scores'], scene['boxes'], [ids >= 0 for ids in scene['person_ids']])
    assert 0 < search.mAP < 1
    assert scores == {
        'search/mAP': search.mAP,
        **{f'search/top-{k}': search.topk[k] for k in (1, 5, 10)},
        'search/det_AP': everyone['ap'],
        'search/det_recall': everyone['recall'],
        'search/det_AP_labelled': labelled['ap'],
        'search/det_recall_labelled': labelled['recall'],
    }
    np.testing.assert_array_equal(metric.search.ap, search.ap)


def test_order_and_repetition_of_samples_do_not_matter(scene, samples):
    assert evaluate(scene, [samples[i] for i in (2, 0, 1, 0, 2)])[0] == evaluate(scene, samples)[0]


def test_no_memory_of_a_data_worker_is_kept(samples):
    """Each kept tensor keeps a file handle open. With many images the process would run out of handles."""
    metric = METRICS.build({'type': 'PersonSearchMetric'})
    metric.process(None, [samples[0]])
    tensors = [value for name in ('pred_instances', 'gt_instances', 'query_instances') for value in samples[0][name].values()]
    kept = [value for value in metric.results[0].values() if isinstance(value, np.ndarray)]
    assert len(kept) >= 6 and not any(np.shares_memory(array, tensor.numpy()) for array in kept for tensor in tensors)


def test_half_precision_and_box_classes_are_accepted(scene, samples):
    from mmdet.structures.bbox import HorizontalBoxes

    plain = evaluate(scene, samples)[0]
    for sample in samples:
        sample['pred_instances']['embeddings'] = sample['pred_instances']['embeddings'].bfloat16()
        sample['gt_instances']['bboxes'] = HorizontalBoxes(sample['gt_instances']['bboxes'])
    assert evaluate(scene, samples)[0] == plain


def test_no_detection_scores_zero_without_warnings(scene, samples):
    for sample in samples:
        sample['pred_instances'] = {name: value[:0] for name, value in sample['pred_instances'].items()}
    with warnings.catch_warnings():
        warnings.simplefilter('error', RuntimeWarning)
        scores, _ = evaluate(scene, samples)
    assert set(scores.values()) == {0}


def test_detections_below_the_threshold_are_written_but_neither_searched_nor_counted(scene, samples):
    samples[1]['pred_instances']['scores'][:] = 0.3
    scores, metric = evaluate(scene, samples)
    assert len(metric.predictions.boxes[1]) == 1 and scores['search/mAP'] == 0.5 and scores['search/det_recall'] == 0.8
    assert evaluate(scene, samples, score_thr=0.2)[0]['search/mAP'] == 1


def test_the_written_predictions_score_the_same(scene, samples, tmp_path):
    scores, _ = evaluate(scene, samples, outfile=str(tmp_path / 'predictions.npz'), cameras='other')
    loaded = load_predictions(tmp_path / 'predictions.npz').for_protocol(scene['protocol'])
    again = search_scores(
        scene['protocol'], loaded.boxes, loaded.scores, loaded.embeddings, loaded.query_embeddings, cameras='other'
    )
    assert again.mAP == scores['search/mAP'] == 0.5
    assert [ids.tolist() for ids in loaded.gt_person_ids] == [[0, 1], [0], [1, -1]]
    assert loaded.query_images == ('a', 'a') and loaded.gt_embeddings is None


def test_the_search_of_each_query_is_written_for_comparisons(scene, samples, tmp_path):
    _, metric = evaluate(scene, samples, query_file=str(tmp_path / 'test/queries.npz'))
    written = np.load(tmp_path / 'test/queries.npz')
    assert written['ap'].dtype == np.float32
    np.testing.assert_allclose(written['ap'], metric.search.ap)
    np.testing.assert_array_equal(written['first_ranks'], metric.search.first_ranks)


def test_cbgm_is_scored_in_addition_to_the_plain_search(scene, samples):
    plain, _ = evaluate(scene, samples)
    scores, metric = evaluate(scene, samples, cbgm={'k1': 2, 'k2': 2})
    boxes = [array + 1 for array in scene['boxes']]
    expected = search_scores(
        scene['protocol'], boxes, scene['scores'], scene['embeddings'], scene['query_embeddings'], cbgm=CBGM(2, 2)
    )
    assert scores['search/cbgm_mAP'] == expected.mAP and scores['search/cbgm_top-1'] == expected.topk[1]
    assert plain.items() < scores.items() and metric.search.mAP == plain['search/mAP']
    with pytest.raises(ValueError, match=r'expected cbgm=dict\(k1=..., k2=...\)'):
        evaluate(scene, samples, cbgm=True)
    scene['cbgm'] = {'k1': 2, 'k2': 2}
    assert evaluate(scene, samples, cbgm=True)[0] == scores


def test_the_full_set_adds_the_images_that_the_galleries_leave_out(scene, tmp_path):
    scene['embeddings'][2][:] = np.eye(3)[[1, 0]]  # in c somebody looks more like person 0 than in b
    scene['embeddings'][1][:] = [0.8, 0.0, 0.6]
    samples = samples_of(scene)
    everywhere = search_scores(
        scene['protocol'], scene['boxes'], scene['scores'], scene['embeddings'], scene['query_embeddings']
    )
    scene['protocol'] = replace(scene['protocol'], galleries=(np.array([1]), np.array([2])))
    plain, _ = evaluate(scene, samples)
    assert 'search/full_set_mAP' not in plain
    scores, metric = evaluate(scene, samples, full_set=True, query_file=str(tmp_path / 'queries.npz'))
    assert scores['search/mAP'] == plain['search/mAP'] == 1 > scores['search/full_set_mAP'] == everywhere.mAP
    written = np.load(tmp_path / 'queries.npz')
    np.testing.assert_allclose(written['full_set_ap'], everywhere.ap)
    np.testing.assert_allclose(written['ap'], metric.search.ap)


def test_the_upper_bound_searches_the_annotated_boxes(scene, samples, tmp_path):
    for sample, embeddings in zip(samples, scene['embeddings'], strict=True):
        sample['gt_instances']['embeddings'] = torch.tensor(embeddings)
    samples[1]['pred_instances']['scores'][:] = 0.3
    scores, _ = evaluate(scene, samples, upper_bound=True, outfile=str(tmp_path / 'predictions.npz'))
    assert scores['search/mAP'] == 0.5 and scores['search/upper_bound_mAP'] == 1 == scores['search/upper_bound_top-1']
    np.testing.assert_array_equal(load_predictions(tmp_path / 'predictions.npz').gt_embeddings[2], scene['embeddings'][2])
    del samples[0]['gt_instances']['embeddings']
    with pytest.raises(ValueError, match=r'image 0: its data sample has no gt_instances\.embeddings'):
        evaluate(scene, samples, upper_bound=True)


def score_on_rank(rank, store, results, scene, shares):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=len(shares))
    scores, _ = evaluate(scene, shares[rank], collect_dir=str(results / 'collected'))
    torch.save(scores, results / f'{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.parametrize(
    'parts',
    [
        pytest.param(([0, 1], [2, 0]), id='padded with a repeated image'),
        pytest.param(([2], [0, 1]), id='uneven', marks=pytest.mark.soak),
        pytest.param(([2, 1, 0], []), id='a rank without images', marks=pytest.mark.soak),
    ],
)
def test_two_processes_score_the_same_as_one(scene, samples, tmp_path, parts):
    shares = [[samples[index] for index in part] for part in parts]
    mp.spawn(score_on_rank, (tmp_path / 'store', tmp_path, scene, shares), nprocs=2)
    expected, _ = evaluate(scene, samples)
    assert torch.load(tmp_path / '0.pt') == torch.load(tmp_path / '1.pt') == expected


def score_on_four_and_three(rank, folder, scene, shares):
    for world in (4, 3):
        if rank < world:
            score_on_rank(rank, folder / f'store-{world}', folder / str(world), scene, shares[world])


@pytest.mark.soak
def test_four_and_three_processes_score_sixteen_images_the_same_as_one(tmp_path):
    """Distributes images as MMEngine's sampler does: the first images are repeated, so that all ranks have equally many."""
    random = np.random.default_rng(0)
    person_ids = [np.array([0, 1]), *(random.permutation(8)[: random.integers(2, 6)] - 1 for _ in range(15))]
    boxes = [np.array([[50 * i, 0, 50 * i + 40, 80] for i in range(len(ids))], np.float32) for ids in person_ids]
    embeddings = [
        0.4 * random.standard_normal((len(ids), 7)).astype(np.float32) + np.eye(7, dtype=np.float32)[ids] for ids in person_ids
    ]
    names = tuple(f'{image:02}' for image in range(16))
    scene = {
        'protocol': SearchProtocol.from_identities(names, None, boxes, person_ids, names[:1] * 2, boxes[0], person_ids[0]),
        'boxes': boxes,
        'person_ids': person_ids,
        'embeddings': embeddings,
        'query_embeddings': embeddings[0],
        'scores': [random.uniform(0.4, 1, len(ids)).astype(np.float32) for ids in person_ids],
    }
    samples = samples_of(scene)
    shares = {
        world: [[samples[(rank + world * turn) % 16] for turn in range(-(-16 // world))] for rank in range(world)]
        for world in (4, 3)
    }
    for world in shares:
        (tmp_path / str(world)).mkdir()
    mp.spawn(score_on_four_and_three, (tmp_path, scene, shares), nprocs=4)
    expected, _ = evaluate(scene, samples)
    assert 0 < expected['search/mAP'] < 1 and 0 < expected['search/det_AP'] < 1
    for world in shares:
        assert all(torch.load(tmp_path / f'{world}/{rank}.pt') == expected for rank in range(world))


def test_a_failed_evaluation_leaves_the_metric_ready_for_the_next(scene, samples):
    metric = PersonSearchMetric()
    metric.dataset_meta = {'protocol': scene['protocol']}
    with pytest.raises(ValueError, match='was not predicted'):
        metric.evaluate(0)
    metric.process(None, samples)
    assert metric.evaluate(3) == evaluate(scene, samples)[0]


def test_a_misspelt_choice_of_cameras_is_refused_before_the_test():
    with pytest.raises(ValueError, match="cameras: expected 'all', 'other' or a camera's number, got 'Other'"):
        PersonSearchMetric(cameras='Other')


def test_the_error_about_a_missing_protocol_says_where_to_put_it(scene, samples):
    metric = PersonSearchMetric()
    metric.process(None, samples)
    with pytest.raises(ValueError, match=r"put a SearchProtocol into the metainfo of the test data set, as 'protocol'"):
        metric.evaluate(3)


def without_query(samples):
    del samples[0]['query_instances']


def without_embeddings(samples):
    del samples[1]['pred_instances']['embeddings']


def with_a_lost_embedding(samples):
    samples[0]['query_instances']['embeddings'] = samples[0]['query_instances']['embeddings'][:1]


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda samples: samples.pop(1), r"image 'b' \(img_id 1\) was not predicted"),
        (lambda samples: samples[1].update(img_id=7), "img_id 7 is not one of the protocol's 3 images"),
        (without_query, r"query 0 \(image 'a'\) got no embedding"),
        (without_embeddings, r'image 1: its data sample has no pred_instances.embeddings'),
        (with_a_lost_embedding, 'image 0: 2 queries, but 1 query embeddings'),
    ],
)
def test_a_missing_prediction_is_named(scene, samples, spoil, message):
    samples = copy.deepcopy(samples)
    spoil(samples)
    with pytest.raises(ValueError, match=message):
        evaluate(scene, samples)


def test_detections_of_ignored_boxes_count_neither_as_right_nor_as_wrong(scene, samples):
    """People whom nobody was meant to find: a detection of them is no false alarm, but one of a person still counts."""
    extra, beside = torch.tensor([[400.0, 400, 440, 500]]), samples[0]['gt_instances']['bboxes'][:1] + 3
    found = samples[0]['pred_instances']
    expected = evaluate(scene, copy.deepcopy(samples))[0]
    samples[0]['pred_instances'] = InstanceData(
        bboxes=torch.cat([found['bboxes'], extra]),
        scores=torch.cat([found['scores'], torch.ones(1)]),
        embeddings=torch.cat([found['embeddings'], found['embeddings'][:1]]),
    )
    worse = evaluate(scene, copy.deepcopy(samples))[0]
    assert worse['search/det_AP'] < expected['search/det_AP']
    samples[0]['ignored_instances'] = InstanceData(bboxes=torch.cat([extra + 2, beside]))
    assert evaluate(scene, samples)[0] == expected
