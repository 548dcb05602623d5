"""Everything that a data set offers is scored from one set of predictions; tools/evaluate.py prints it."""

import json
import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmps.apis.scoring import chart_path, score
from mmps.cli.predictions import open_predictions, predictions_parser
from mmps.evaluation import CBGM, Predictions, detection_scores, load_predictions, save_predictions, search_scores
from mmps.registry import DATASETS
from mmps.synthetic import cuhk_sysu, generate
from mmps.synthetic.plan import plan

EVALUATE = Path(__file__).parents[2] / 'tools/evaluate.py'
TYPES = {'cuhk-sysu': 'CUHKSYSU', 'prw': 'PRW'}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """SynthPS tiny in both layouts."""
    folder = tmp_path_factory.mktemp('scoring')
    for layout in TYPES:
        generate(folder / layout, layout, 'tiny', progress=False, style='classic')
    # Of tiny's 16 test scenes the usual sizes all list as many.
    cuhk_sysu.write(plan('cuhk-sysu', 'tiny', style='classic'), folder / 'cuhk-sysu', gallery_sizes=(4, 8))
    return {layout: folder / layout for layout in TYPES}


def predict(layout, roots):
    """The data set, and predictions of a fair model: boxes a few pixels off, noisy embeddings, false alarms, misses."""
    dataset = DATASETS.build(
        {'type': f'mmps.{TYPES[layout]}', 'data_root': str(roots[layout]), 'test_mode': True, 'pipeline': []}
    )
    rng, protocol = np.random.default_rng(0), dataset.metainfo['protocol']
    faces = rng.normal(size=(200, 16))

    def embed(person_ids):
        centre = np.where(np.array(person_ids)[:, None] < 0, rng.normal(size=(len(person_ids), 16)), faces[person_ids])
        noisy = centre + rng.normal(scale=0.8, size=centre.shape)
        return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)

    lists = {name: [] for name in ('boxes', 'scores', 'embeddings', 'gt_boxes', 'gt_person_ids', 'gt_embeddings')}
    for index in range(len(dataset)):
        persons = dataset.get_data_info(index)['instances']
        boxes = np.array([person['bbox'] for person in persons], np.float32).reshape(-1, 4)
        ids = np.array([person['person_id'] for person in persons], np.int64)
        alarms = rng.uniform(0, 60, size=(2, 4)).astype(np.float32)
        alarms[:, 2:] += alarms[:, :2] + 20
        lists['boxes'].append(np.concatenate([boxes + rng.normal(size=boxes.shape).astype(np.float32), alarms]))
        lists['scores'].append(rng.uniform(0.3, 1, size=len(boxes) + 2).astype(np.float32))
        lists['embeddings'].append(embed([*ids, -1, -1]))
        lists['gt_boxes'].append(boxes)
        lists['gt_person_ids'].append(ids)
        lists['gt_embeddings'].append(embed(ids))
    names = tuple(protocol.images[image] for image in protocol.query_images)
    return dataset, Predictions(
        protocol.images,
        query_embeddings=embed(protocol.query_person_ids),
        query_images=names,
        query_boxes=protocol.query_boxes,
        **lists,
    )


def alone(predictions, protocol, **options):
    return search_scores(
        protocol, predictions.boxes, predictions.scores, predictions.embeddings, predictions.query_embeddings, **options
    )


def test_every_gallery_size_and_the_full_set_are_scored_from_one_set_of_predictions(roots):
    dataset, predictions = predict('cuhk-sysu', roots)
    scores = score(dataset, predictions)
    protocol = dataset.metainfo['protocol']
    assert scores.headline == 'gallery 100'
    assert [name for name in scores.results if name.startswith('gallery')] == [
        'gallery 100',
        'gallery 100 + CBGM',
        'gallery 4',
        'gallery 8',
        'gallery 50',
        'gallery 500',
        'gallery 1000',
        'gallery 2000',
        'gallery 4000',
    ]
    assert scores.results['gallery 100'].mAP == alone(predictions, protocol).mAP
    assert scores.results['gallery 100 + CBGM'].mAP == alone(predictions, protocol, cbgm=CBGM(10, 3)).mAP
    for name, search in scores.searches.items():
        if search.cbgm is None:
            queries = predictions.query_embeddings if search.rows is None else predictions.query_embeddings[search.rows]
            single = search_scores(search.protocol, predictions.boxes, predictions.scores, predictions.embeddings, queries)
            np.testing.assert_array_equal(scores.results[name].ap, single.ap)
    upper = search_scores(
        protocol,
        predictions.gt_boxes,
        [np.ones(len(boxes)) for boxes in predictions.gt_boxes],
        predictions.gt_embeddings,
        predictions.query_embeddings,
    )
    assert scores.results['ground-truth boxes'].mAP == upper.mAP
    assert {'Precision and recall', 'Similarities', 'Gallery size', 'Detection by height'} == set(scores.charts())


def test_camera_pairs_are_the_mean_over_the_queries_of_a_camera_in_the_images_of_another(roots):
    dataset, predictions = predict('prw', roots)
    scores = score(dataset, predictions)
    protocol = dataset.metainfo['protocol']
    cameras, matrix, counts = scores.camera_pairs
    assert cameras == np.unique(protocol.cameras).tolist() and counts.sum() > 0
    for column, camera in enumerate(cameras):
        found = alone(predictions, protocol, cameras=camera)
        for row, own in enumerate(cameras):
            asked = (protocol.cameras[protocol.query_images] == own) & (found.num_targets > 0)
            assert counts[row, column] == asked.sum()
            np.testing.assert_equal(matrix[row, column], found.ap[asked].mean() if asked.any() else np.nan)
    assert scores.results['other cameras'].mAP == alone(predictions, protocol, cameras='other').mAP
    assert scores.results['all cameras + CBGM'].mAP == alone(predictions, protocol, cbgm=CBGM(30, 4)).mAP
    assert 'mAP by camera' in scores.tables() and 'Cameras' in scores.charts()
    assert not any(name.startswith('camera ') for name in str(scores.tables()['Search']).split('|'))


def test_detection_is_scored_from_any_score_and_overlap_and_by_height(roots):
    dataset, predictions = predict('cuhk-sysu', roots)
    scores = score(dataset, predictions, [], detection_scores=[0.5, 0.8], detection_ious=[0.5, 0.9], heights=[40, 60])
    for lowest in (0.5, 0.8):
        for iou in (0.5, 0.9):
            found = scores.detection[f'all persons, score from {lowest:g}, IoU from {iou:g}']
            expected = detection_scores(predictions.boxes, predictions.scores, predictions.gt_boxes, None, lowest, iou)
            assert {name: found[name] for name in ('ap', 'recall')} == expected
    assert [*scores.by_height] == [(0, 40), (40, 60), (60, np.inf)]
    persons = sum(map(len, predictions.gt_boxes))
    quarters = [found['persons'] for found in score(dataset, predictions, []).by_height.values()]
    assert len(quarters) == 4 and sum(quarters) == persons and max(quarters) < 0.4 * persons
    assert sum(found['persons'] for found in scores.by_height.values()) == persons
    whole = scores.detection['all persons, score from 0.5, IoU from 0.5']['recall'] * persons
    assert sum(found['recall'] * found['persons'] for found in scores.by_height.values()) == pytest.approx(whole)


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['evaluate.py', *map(str, arguments)])
    runpy.run_path(str(EVALUATE), run_name='__main__')
    return capsys.readouterr().out


def test_a_file_is_scored_from_the_command_line(roots, tmp_path, capsys, monkeypatch):
    dataset, predictions = predict('prw', roots)
    save_predictions(tmp_path / 'predictions.npz', predictions)
    out = run(
        capsys,
        monkeypatch,
        tmp_path / 'predictions.npz',
        '--dataset',
        'prw',
        '--data-root',
        roots['prw'],
        '--out',
        tmp_path / 'scores',
    )
    expected = score(dataset, predictions)
    assert f'{expected.results["other cameras"].mAP * 100:.2f}' in out and 'ground-truth boxes' in out
    written = json.loads((tmp_path / 'scores/scores.json').read_text())
    assert written['search']['all cameras']['mAP'] == expected.results['all cameras'].mAP
    assert (tmp_path / 'scores/scores.md').read_text() in out
    assert {path.name for path in (tmp_path / 'scores').glob('*.png')} == {
        chart_path(tmp_path, name).name for name in expected.charts()
    }


def seqnet_cache(predictions):
    own = [predictions.images.index(name) for name in predictions.query_images]

    def detections(index):
        return np.column_stack([predictions.boxes[index], predictions.scores[index]])

    order = [np.argsort(-predictions.scores[index], kind='stable') for index in own]
    return {
        'gallery_dets': [detections(index) for index in range(len(predictions.images))],
        'gallery_feats': predictions.embeddings,
        'query_dets': [
            np.concatenate([np.append(box, 1)[None], detections(index)[best]])
            for box, index, best in zip(predictions.query_boxes, own, order, strict=True)
        ],
        'query_feats': [
            np.concatenate([query[None], predictions.embeddings[index][best]])
            for query, index, best in zip(predictions.query_embeddings, own, order, strict=True)
        ],
        'query_box_feats': list(predictions.query_embeddings[:, None]),
    }


@pytest.mark.parametrize('save', [torch.save, lambda cache, path: path.write_bytes(pickle.dumps(cache))])
def test_a_seqnet_cache_scores_as_the_same_predictions_do(roots, tmp_path, capsys, monkeypatch, save):
    _, predictions = predict('cuhk-sysu', roots)
    save(seqnet_cache(predictions), tmp_path / 'eval_cache.pth')
    save_predictions(tmp_path / 'predictions.npz', predictions)
    data = ('--dataset', 'cuhk-sysu', '--data-root', roots['cuhk-sysu'])
    ours, theirs = (
        run(capsys, monkeypatch, tmp_path / name, *data, *more).splitlines()
        for name, more in (('predictions.npz', []), ('eval_cache.pth', ['--seqnet']))
    )
    assert [line for line in ours if 'ground-truth' not in line] == theirs


def test_a_config_names_the_test_too(roots, tmp_path):
    dataset, predictions = predict('cuhk-sysu', roots)
    save_predictions(tmp_path / 'predictions.npz', predictions)
    cfg = Config(
        {
            'test_dataloader': {
                'dataset': {
                    'type': 'mmps.CUHKSYSU',
                    'data_root': str(roots['cuhk-sysu']),
                    'test_mode': True,
                    'pipeline': [{'type': 'LoadImageFromFile'}],
                }
            }
        }
    )
    cfg.dump(str(tmp_path / 'config.py'))
    arguments = predictions_parser('').parse_args([str(tmp_path / 'predictions.npz'), '--config', str(tmp_path / 'config.py')])
    opened, loaded = open_predictions(arguments)
    assert opened.metainfo['protocol'].images == dataset.metainfo['protocol'].images
    np.testing.assert_array_equal(loaded.query_embeddings, load_predictions(tmp_path / 'predictions.npz').query_embeddings)


def no_file(folder, roots):
    return [folder / 'none.npz', '--dataset', 'cuhk-sysu', '--data-root', roots['cuhk-sysu']]


def no_dataset(folder, roots):
    return [folder / 'predictions.npz']


def no_folder(folder, roots):
    return [folder / 'predictions.npz', '--dataset', 'prw', '--data-root', folder / 'nowhere']


def other_dataset(folder, roots):
    return [folder / 'predictions.npz', '--dataset', 'prw', '--data-root', roots['prw']]


def unknown_search(folder, roots):
    return [folder / 'predictions.npz', '--dataset', 'cuhk-sysu', '--data-root', roots['cuhk-sysu'], '--searches', 'gallery 7']


def training_config(folder, roots):
    Config({'train_dataloader': {}}).dump(str(folder / 'config.py'))
    return [folder / 'predictions.npz', '--config', folder / 'config.py']


def two_answers(folder, roots):
    return [*no_folder(folder, roots), '--config', folder / 'config.py']


def wrong_overlap(folder, roots):
    return [folder / 'predictions.npz', '--dataset', 'cuhk-sysu', '--data-root', roots['cuhk-sysu'], '--detection-ious', '2']


def other_file(folder, roots):
    (folder / 'text.npz').write_text('text')
    return [folder / 'text.npz', '--dataset', 'cuhk-sysu', '--data-root', roots['cuhk-sysu']]


def training_split(folder, roots):
    Config({'test_dataloader': {'dataset': {'type': 'mmps.CUHKSYSU', 'data_root': str(roots['cuhk-sysu'])}}}).dump(
        str(folder / 'config.py')
    )
    return [folder / 'predictions.npz', '--config', folder / 'config.py']


def falling_heights(folder, roots):
    return [folder / 'predictions.npz', '--dataset', 'cuhk-sysu', '--data-root', roots['cuhk-sysu'], '--heights', '9', '5']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (no_file, 'none.npz: no such file; expected predictions'),
        (no_dataset, 'Expected --dataset and --data-root, or --config'),
        (no_folder, 'nowhere: no such folder'),
        (other_dataset, "of the protocol's .* images are not among the"),
        (unknown_search, "'gallery 7' is not one of .*'gallery 50'"),
        (training_config, r'config\.py: expected a config with a test_dataloader'),
        (training_split, 'searches are those of the test split; expected test_mode=True'),
        (two_answers, 'expected --dataset or --config, got both'),
        (wrong_overlap, r'detection_ious: expected numbers from 0 to 1, got \[2.0\]'),
        (other_file, r'^error: [^:]+text\.npz is not a predictions file'),
        (falling_heights, r'heights: expected rising numbers above 0, got \[9.0, 5.0\]'),
    ],
)
def test_what_does_not_fit_is_one_line(roots, tmp_path, capsys, monkeypatch, arguments, message):
    save_predictions(tmp_path / 'predictions.npz', predict('cuhk-sysu', roots)[1])
    with pytest.raises(SystemExit, match=message) as stopped:
        run(capsys, monkeypatch, *arguments(tmp_path, roots))
    assert '\n' not in str(stopped.value)
