import copy
import warnings

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmps.evaluation import PersonSearchMetric, detection_scores, load_predictions, search_scores
from mmps.registry import METRICS


@pytest.fixture
def samples(scene):
    """The scene's data samples, as a model and MMEngine's evaluator hand them to a metric."""
    samples = []
    for index, (boxes, person_ids) in enumerate(zip(scene['boxes'], scene['person_ids'], strict=True)):
        sample = DetDataSample(metainfo={'img_id': index})
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(boxes + 1), scores=torch.tensor(scene['scores'][index]),
            labels=torch.zeros(len(boxes), dtype=torch.long), embeddings=torch.tensor(scene['embeddings'][index]))
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes), person_ids=torch.tensor(person_ids))
        if index == 0:
            sample.query_instances = InstanceData(
                bboxes=torch.tensor(boxes), query_ids=torch.tensor([1, 0]),
                embeddings=torch.tensor(scene['query_embeddings'][[1, 0]]))
        samples.append(sample.to_dict())
    return samples


def evaluate(scene, samples, **options):
    metric = METRICS.build({'type': 'PersonSearchMetric', **options})
    metric.dataset_meta = {'protocol': scene['protocol']}
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples)), metric


def test_scores_are_those_of_search_and_detection(scene, samples):
    samples[2]['pred_instances']['embeddings'] = samples[2]['pred_instances']['embeddings'].flip(0)
    scene['embeddings'][2] = scene['embeddings'][2][::-1]
    scores, metric = evaluate(scene, samples)
    boxes = [array + 1 for array in scene['boxes']]
    search = search_scores(scene['protocol'], boxes, scene['scores'], scene['embeddings'], scene['query_embeddings'])
    everyone = detection_scores(boxes, scene['scores'], scene['boxes'])
    labelled = detection_scores(boxes, scene['scores'], scene['boxes'], [ids >= 0 for ids in scene['person_ids']])
    assert 0 < search.mAP < 1
    assert scores == {
        'search/mAP': search.mAP, **{f'search/top-{k}': search.topk[k] for k in (1, 5, 10)},
        'search/det_AP': everyone['ap'], 'search/det_recall': everyone['recall'],
        'search/det_AP_labelled': labelled['ap'], 'search/det_recall_labelled': labelled['recall'],
    }
    np.testing.assert_array_equal(metric.search.ap, search.ap)


def test_order_and_repetition_of_samples_do_not_matter(scene, samples):
    assert evaluate(scene, [samples[i] for i in (2, 0, 1, 0, 2)])[0] == evaluate(scene, samples)[0]


def test_half_precision_and_box_classes_are_understood(scene, samples):
    from mmdet.structures.bbox import HorizontalBoxes
    plain = evaluate(scene, samples)[0]
    for sample in samples:
        sample['pred_instances']['embeddings'] = sample['pred_instances']['embeddings'].bfloat16()
        sample['gt_instances']['bboxes'] = HorizontalBoxes(sample['gt_instances']['bboxes'])
    assert evaluate(scene, samples)[0] == plain


def test_no_detection_at_all_scores_zero_quietly(scene, samples):
    for sample in samples:
        sample['pred_instances'] = {name: value[:0] for name, value in sample['pred_instances'].items()}
    with warnings.catch_warnings():
        warnings.simplefilter('error', RuntimeWarning)
        scores, _ = evaluate(scene, samples)
    assert set(scores.values()) == {0}


def test_detections_below_the_threshold_are_not_collected(scene, samples):
    samples[1]['pred_instances']['scores'][:] = 0.3
    assert len(evaluate(scene, samples)[1].predictions.boxes[1]) == 0
    assert len(evaluate(scene, samples, score_thr=0.2)[1].predictions.boxes[1]) == 1


def test_the_written_predictions_score_the_same(scene, samples, tmp_path):
    scores, _ = evaluate(scene, samples, outfile=str(tmp_path / 'predictions.npz'), other_cameras=True)
    loaded = load_predictions(tmp_path / 'predictions.npz')
    again = search_scores(scene['protocol'], loaded.boxes, loaded.scores, loaded.embeddings, loaded.query_embeddings,
                          other_cameras=True)
    assert again.mAP == scores['search/mAP'] == 0.5
    assert [ids.tolist() for ids in loaded.gt_person_ids] == [[0, 1], [0], [1, -1]]


def test_a_missing_protocol_says_where_to_put_it(scene, samples):
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


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda samples: samples.pop(1), r"image 'b' \(img_id 1\) was not predicted"),
    (lambda samples: samples[1].update(img_id=7), "img_id 7 is not one of the protocol's 3 images"),
    (without_query, r"query 0 \(image 'a'\) got no embedding"),
    (without_embeddings, r'image 1: its data sample has no pred_instances.embeddings'),
    (with_a_lost_embedding, 'image 0: 2 queries, but 1 query embeddings'),
])
def test_what_was_not_predicted_is_named(scene, samples, spoil, message):
    samples = copy.deepcopy(samples)
    spoil(samples)
    with pytest.raises(ValueError, match=message):
        evaluate(scene, samples)
