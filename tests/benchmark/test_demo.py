"""Tests what the demo compares, and what it says about the difference."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmps.benchmark import demo as module
from mmps.benchmark.matrix_file import read_matrix
from mmps.benchmark.results import Result
from mmps.benchmark.run_list import list_runs
from mmps.evaluation import Predictions, SearchResult, save_predictions
from mmps.synthetic import generate

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.fixture
def runs(tmp_path):
    matrix = read_matrix(CONFIGS / module.MATRIX, CONFIGS, tmp_path / 'data')
    matrix = replace(matrix, methods={name: replace(method, seeds=2) for name, method in matrix.methods.items()})
    return [run for run in list_runs(matrix, tmp_path / 'work') if not run.student.checkpoint]


def test_both_students_are_trained_with_every_seed_and_the_teacher_once(runs):
    student = 'student (OIM R18 x 1/8)'
    assert [module.row_name(run) for run in runs] == ['teacher (OIM MobileNetV2)', *[student, 'student + GDPS'] * 2]
    assert [run.config.randomness.seed for run in runs] == [0, 0, 0, 1, 1]
    assert [run.teacher for run in runs] == [None, None, runs[0], None, runs[0]]
    assert all(run.keeps_predictions for run in runs)


def test_the_released_model_is_tested_only_and_teaches_nobody(tmp_path):
    released = [run for run in list_runs(read_matrix(CONFIGS / module.MATRIX, CONFIGS, tmp_path), tmp_path) if run.is_trained]
    assert [module.row_name(run) for run in released] == ['not trained here (mmps://real)']
    assert released[0].final_checkpoint.name == 'real.pth'


def test_only_the_teacher_starts_from_imagenet_weights(runs):
    assert runs[0].config.model.backbone.init_cfg.checkpoint == 'package://mobilenet_v2'
    assert runs[1].config.model.backbone.init_cfg.type == 'Kaiming'


def result(ap):
    ap = np.asarray(ap, dtype=float)
    return SearchResult(
        mAP=ap.mean(),
        topk={1: 0.5},
        ap=ap,
        first_ranks=None,
        num_targets=None,
        num_found=None,
        target_ranks=None,
        target_detections=None,
        target_similarities=None,
    )


def test_the_difference_is_paired_query_by_query_and_its_interval_told(runs):
    """Queries differ a lot, but the distilled student is a little better on each of them."""
    queries = np.linspace(0, 0.9, 50)
    better = queries + np.tile([0.04, 0.06], 25)
    scores = {
        runs[0]: result(queries),
        runs[1]: result(queries),
        runs[2]: result(better),
        runs[3]: result(queries),
        runs[4]: result(queries[::-1]),
    }
    one, other, both = module.compare_students(runs, scores)
    assert one.startswith('GDPS over plain, seed 0: +5.0 mAP, 95 % interval +4.7 to +5.3 (paired)')
    assert 'seed 1: +0.0 mAP' in other and other.endswith('it may be chance')
    assert both.startswith('GDPS over plain, mean of 2 seeds: +2.5 mAP')
    assert module.compare_students(runs[:3], scores) == [one]


def test_the_table_has_a_row_for_each_network_and_the_interval_of_its_map(runs, monkeypatch):
    ended = type('Result', (), dict(det_AP=0.9, image_ms=20.0))
    monkeypatch.setattr(type(runs[0]), 'load_result', lambda run: ended)
    scores = {run: result([0.2, 0.4, 0.6]) for run in runs}
    rows = {'teacher': runs[:1], 'student': [runs[1], runs[3]]}
    lines = str(module.make_table(rows, scores, result([0.1, 0.1, 0.1]))).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[0] == module.COLUMNS
    assert cells[2] == ['colour histogram, given boxes', '10.0', '10.0 to 10.0', '50.0', '', '', '']
    assert cells[3][:5] == ['teacher', '40.0', '20.0 to 60.0', '50.0', '90.0'] and cells[3][6] == '20'
    assert cells[4][1] == '40.0 ± 0.0' and cells[4][5] == '0.65 M'


def test_the_colour_histogram_is_scored_on_the_annotated_boxes(tmp_path):
    generate(tmp_path / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    matrix = read_matrix(CONFIGS / module.MATRIX, CONFIGS, tmp_path / 'tiny')
    run = list_runs(matrix, tmp_path)[0]
    dataset = module.build_dataset(run.student.cfg.test_dataloader.dataset)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    found = module.search_by_histogram(dataset, dataset.metainfo['protocol'], paths)
    assert 0 < found.mAP < 1 and 0 <= found.topk[1] <= 1
    assert list_runs(matrix, tmp_path)[0].config_text == run.config_text  # nothing that was built has changed its config


def test_a_run_that_failed_ends_the_demo_with_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'run_benchmark', lambda *args, **kwargs: False)
    with pytest.raises(ChildProcessError, match='failed'):
        module.demo(CONFIGS, tmp_path, tmp_path / 'work', tmp_path / 'data')


def test_the_demo_prints_its_table_and_writes_a_report_with_every_network(tmp_path, monkeypatch, capsys):
    """The runs are finished. Their predictions are the annotations, with embeddings of more or less noise."""
    generate(tmp_path / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    monkeypatch.setattr(module, 'run_benchmark', lambda *args, **kwargs: True)
    runs = list_runs(read_matrix(CONFIGS / module.MATRIX, CONFIGS, tmp_path / 'tiny'), tmp_path / 'work')
    dataset = module.build_dataset(runs[0].student.cfg.test_dataloader.dataset)
    protocol = dataset.metainfo['protocol']
    boxes = [
        np.array([person['bbox'] for person in dataset.get_data_info(i)['instances']], np.float32).reshape(-1, 4)
        for i in range(len(dataset))
    ]
    identities = np.random.default_rng(0).normal(size=(100, 16))
    for run, noise in zip(runs, (0.1, 1.0, 3.0, 0.5), strict=True):
        rng = np.random.default_rng(1)
        of_images = [
            identities[[person['person_id'] for person in dataset.get_data_info(i)['instances']]] for i in range(len(dataset))
        ]
        embeddings = [normalized(each + noise * rng.normal(size=each.shape)) for each in of_images]
        queries = np.stack(
            [
                embeddings[image][np.abs(boxes[image] - box).sum(1).argmin()]
                for image, box in zip(protocol.query_images, protocol.query_boxes, strict=True)
            ]
        )
        run.clear()
        run.predictions.parent.mkdir(parents=True)
        save_predictions(
            run.predictions,
            Predictions(
                [str(i) for i in range(len(dataset))],
                boxes,
                [np.ones(len(each), np.float32) for each in boxes],
                embeddings,
                queries,
            ),
        )
        (run.work_dir / 'result.json').write_text(
            json.dumps(
                vars(
                    Result(
                        *run.key,
                        mAP=0.5,
                        top_1=0.5,
                        det_AP=0.9,
                        minutes=1.0,
                        step_seconds=0.1,
                        image_ms=20.0,
                        parameters=1,
                        loss=1.0,
                    )
                )
            )
        )
        logs = run.work_dir / '20261122/vis_data'
        logs.mkdir(parents=True)
        (logs / 'scalars.json').write_text('{"iter": 10, "loss": 2.0}\n{"iter": 20, "loss": 1.0}\n')
    report = module.demo(CONFIGS, tmp_path, tmp_path / 'work', tmp_path / 'tiny')
    printed = capsys.readouterr().out
    names = 'teacher (OIM MobileNetV2)', 'not trained here (mmps://real)', 'student (OIM R18 x 1/8)', 'student + GDPS'
    assert all(name in printed for name in names)
    assert 'GDPS over plain, seed 0: +' in printed and f'{protocol.num_queries} queries' in printed
    page = report.read_text()
    assert 'paired' in page and page.count('<figure>') == 4 * 6


def normalized(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_counting_parameters_does_not_change_configs(tmp_path):
    """Later calls recognise a finished run by the text of its config."""
    matrix = read_matrix(CONFIGS / module.MATRIX, CONFIGS, tmp_path)
    before = [run.config_text for run in list_runs(matrix, tmp_path)]
    for run in list_runs(matrix, tmp_path):
        module.count_parameters(run.student)
    assert [run.config_text for run in list_runs(matrix, tmp_path)] == before
