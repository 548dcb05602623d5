from dataclasses import replace

import numpy as np
import pytest

from mmps.evaluation import Predictions, SearchProtocol, search_scores
from mmps.evaluation.failures import explain, worst_queries

TARGET, ELSEWHERE, BESIDE = [0, 0, 40, 80], [100, 0, 140, 80], [200, 0, 240, 80]


@pytest.fixture
def failure():
    """failure(detections, targets, persons, ...) explains the only query, of person 3 in image 'query'.

    Every further image has detections (box, similarity to the query), perhaps a target at TARGET, and annotated persons
    (box, id).
    """

    def explained(detections, targets, persons=None, cameras=None, searched='all', ranked_below=10):
        count = len(detections) + 1
        boxes, embeddings = [np.zeros((0, 4), np.float32)], [np.zeros((0, 2), np.float32)]
        for listed in detections:
            similarities = np.array([similarity for _, similarity in listed], np.float32)
            boxes.append(np.array([box for box, _ in listed], np.float32).reshape(-1, 4))
            embeddings.append(np.stack([similarities, np.sqrt(1 - similarities**2)], axis=1))
        images = ['query', *(f'gallery{i}' for i in range(1, count))]
        box = np.array([TARGET], np.float32)
        protocol = SearchProtocol(
            images,
            np.zeros(count, int) if cameras is None else cameras,
            [0],
            box,
            [3],
            np.zeros(len(targets), int),
            targets,
            box.repeat(len(targets), 0),
        )
        scores = [np.ones(len(array), np.float32) for array in boxes]
        query = np.array([[1, 0]], np.float32)
        annotated = persons or [[] for _ in detections]
        predictions = Predictions(
            images=tuple(images),
            boxes=boxes,
            scores=scores,
            embeddings=embeddings,
            query_embeddings=query,
            gt_boxes=[box, *(np.array([b for b, _ in held], np.float32).reshape(-1, 4) for held in annotated)],
            gt_person_ids=[np.array([3]), *(np.array([i for _, i in held], np.int64) for held in annotated)],
        )
        if persons is None:
            predictions = replace(predictions, gt_boxes=None, gt_person_ids=None)
        result = search_scores(protocol, boxes, scores, embeddings, query, cameras=searched)
        (why,) = explain(protocol, predictions, result, [0], ranked_below, cameras=searched)
        assert why.ap == result.ap[0]
        return why

    return explained


def test_a_target_that_no_detection_overlaps_is_not_detected(failure):
    why = failure([[(ELSEWHERE, 0.9)]], [1], [[(TARGET, 3), (ELSEWHERE, 5)]])
    assert why.reason == 'target not detected' and why.ap == 0
    assert [str(target) for target in why.targets] == ['not detected']
    assert (why.first, why.first_person_id) == ('another person', 5)


def test_without_detections_nothing_is_first(failure):
    why = failure([[], []], [1, 2], [[], []])
    assert (why.reason, why.first) == ('target not detected in any of 2 images', 'nothing')


def test_a_best_target_below_the_tenth_rank_is_reported_with_its_rank(failure):
    wrong = [(ELSEWHERE, 0.95 - 0.01 * i) for i in range(11)]
    why = failure([[*wrong, (TARGET, 0.5)], [(TARGET, 0.4)]], [1, 2], [[], []])
    assert why.reason == 'ranked below 10: best at rank 12'
    assert [str(target) for target in why.targets] == ['rank 12', 'rank 13']
    assert failure([[*wrong, (TARGET, 0.5)]], [1], [[]], ranked_below=12).reason == 'wrong person first: no person'


@pytest.mark.parametrize(
    'persons, first, person_id, reason',
    [
        ([(ELSEWHERE, 7)], 'another person', 7, 'wrong person first: another person (id 7)'),
        ([(ELSEWHERE, -1)], 'an unlabelled person', None, 'wrong person first: an unlabelled person'),
        ([(BESIDE, 7)], 'no person', None, 'wrong person first: no person'),
        ([([100, 0, 140, 38], 7)], 'no person', None, 'wrong person first: no person'),  # IoU 0.475
        ([([100, 0, 140, 50], 7), ([100, 0, 140, 70], 9)], 'another person', 9, 'wrong person first: another person (id 9)'),
        ([(ELSEWHERE, 3)], 'the person sought', None, 'the person sought first, but in a box that is no target'),
    ],
    ids=['another', 'unlabelled', 'nobody', 'too little overlap', 'the one overlapped most', 'not a target'],
)
def test_the_first_result_is_named_by_its_annotation(failure, persons, first, person_id, reason):
    why = failure([[(TARGET, 0.5), (ELSEWHERE, 0.9)]], [1], [[(TARGET, 3), *persons]])
    assert (why.first, why.first_person_id, why.reason) == (first, person_id, reason)


def test_without_annotations_a_wrong_first_result_is_unknown(failure):
    why = failure([[(TARGET, 0.5), (ELSEWHERE, 0.9)]], [1])
    assert (why.first, why.reason) == ('unknown', 'wrong result first')


def test_after_a_right_first_result_the_reason_is_the_other_targets(failure):
    detections = [[(TARGET, 0.9)], [(ELSEWHERE, 0.5)], [(TARGET, 0.3)]]
    persons = [[(TARGET, 3)], [(TARGET, 3)], [(TARGET, 3)]]
    why = failure(detections, [1, 2, 3], persons)
    assert why.first == 'the person sought' and why.reason == 'right person first; 1 of 3 targets not detected'
    assert [str(target) for target in why.targets] == ['rank 1', 'not detected', 'rank 3']
    assert failure(detections, [1, 3], persons).reason == 'right person first; last target at rank 3'
    assert failure(detections[:1], [1], persons[:1]).reason == 'right person first'


def test_targets_that_are_not_searched_do_not_count(failure):
    detections = [[(TARGET, 0.9)], [(TARGET, 0.5), (ELSEWHERE, 0.6)]]
    why = failure(detections, [1, 2], [[], []], cameras=[0, 0, 1], searched='other')
    assert [(target.image, target.rank) for target in why.targets] == [(2, 2)]
    assert why.reason == 'wrong person first: no person'
    assert failure(detections[:1], [], [[]]).reason == 'no target'


def test_the_worst_queries_are_those_with_targets_and_the_lowest_ap(scene):
    result = search_scores(scene['protocol'], scene['boxes'], scene['scores'], scene['embeddings'], scene['query_embeddings'])
    result = replace(result, ap=np.array([0.5, 0.0, 0.2, 0.5, 0.2, 0.1]), num_targets=np.array([1, 0, 2, 1, 1, 3]))
    assert worst_queries(result, 4).tolist() == [5, 2, 4, 0]
    assert worst_queries(result, 99).tolist() == [5, 2, 4, 0, 3]
