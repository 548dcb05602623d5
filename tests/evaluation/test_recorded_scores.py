"""Scores equal those of the field's own evaluation code on the real PRW and CUHK-SYSU test protocols."""

import json

import numpy as np
import pytest

from mmps.evaluation import CBGM, SearchProtocol, detection_scores, search_scores


@pytest.fixture(scope='module')
def prw(search_case, golden):
    case = search_case('prw', 'prw/test_pid.json')
    images, queries = case['images'], case['queries'][:300]
    protocol = SearchProtocol.from_identities(
        *fields(images, 'img_name', 'cam_id', 'boxes', 'person_ids'), *fields(queries, 'img_name', 'box', 'person_id')
    )
    return case, protocol, queries, json.loads(golden('expected/prw_seed0_q300.json').read_text())


@pytest.fixture(scope='module')
def cuhk(search_case, golden):
    case = search_case('cuhk', 'cuhk-sysu/TestG100.mat')
    images, queries = case['images'], case['queries']
    protocol = SearchProtocol.from_galleries(
        *fields(images, 'img_name', 'cam_id'), *fields(queries, 'img_name', 'box', 'person_id', 'gallery')
    )
    return case, protocol, queries, json.loads(golden('expected/cuhk_seed0.json').read_text())


def fields(rows, *names):
    return [[row[name] for row in rows] for name in names]


def detections(case):
    return [d[:, :4] for d in case['detections']], [d[:, 4] for d in case['detections']]


@pytest.mark.parametrize(
    ('data', 'setting', 'options'),
    [
        ('prw', 'default', {}),
        ('prw', 'cross_camera', {'cameras': 'other'}),
        ('prw', 'cbgm', {'cbgm': CBGM(30, 4)}),
        ('cuhk', 'default', {}),
        ('cuhk', 'cbgm', {'cbgm': CBGM(10, 3)}),
    ],
)
def test_search_scores_equal_the_recorded_ones(request, data, setting, options):
    case, protocol, queries, expected = request.getfixturevalue(data)
    query_embeddings = np.stack([query['embedding'] for query in queries])
    result = search_scores(protocol, *detections(case), case['embeddings'], query_embeddings, **options)
    assert result.mAP == pytest.approx(expected[setting]['mAP'], abs=5e-6)
    assert result.topk == {k: expected[setting][f'top{k}'] for k in (1, 5, 10)}


@pytest.mark.parametrize('data', ['prw', 'cuhk'])
@pytest.mark.parametrize(
    ('setting', 'score_thr', 'only_labelled'), [('all', 0.5, False), ('all_low', 0.01, False), ('labeled', 0.5, True)]
)
def test_detection_scores_equal_the_recorded_ones(request, data, setting, score_thr, only_labelled):
    case, _, _, expected = request.getfixturevalue(data)
    persons = [image['boxes'] for image in case['images']]
    labelled = [image['person_ids'] >= 0 for image in case['images']] if only_labelled else None
    result = detection_scores(*detections(case), persons, labelled, score_thr)
    assert result == pytest.approx(expected[f'detection_{setting}'], abs=1e-9)
