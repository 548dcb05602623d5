"""The tools as a user calls them, on a data set of 40 small drawn scenes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from mmps.evaluation import load_predictions
from mmps.synthetic import generate

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'
TEACHER = ROOT / 'configs/oim/oim_r18-w32-fpn_10e_synthps-mini.py'
DISTIL = ROOT / 'configs/gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py'


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """shared(name, make) -> a folder that ``make(folder)`` filled, once for all processes that run these tests."""
    base = tmp_path_factory.getbasetemp()
    base = (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base) / 'end_to_end'
    base.mkdir(exist_ok=True)

    def get(name, make):
        folder = base / name
        with FileLock(base / f'{name}.lock'):
            if not (folder / 'done').exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                (folder / 'done').touch()
        return folder

    return get


@pytest.fixture(scope='module')
def call(environment, load_script, tmp_path_factory):
    """call('train.py', config, ...) -> exit status, stdout and stderr of the tool."""
    with load_script(ROOT / 'tests/tool_server.py').ToolServer(environment, tmp_path_factory.mktemp('server')) as server:
        yield server


@pytest.fixture(scope='module')
def data(shared):
    return (
        shared('data', lambda folder: generate(folder / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')) / 'tiny'
    )


def options(data, *more):
    """--cfg-options of a short and small run."""
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    return [
        '--cfg-options',
        *(f'{loader}.dataset.data_root={data}' for loader in loaders),
        'train_dataloader.dataset.pipeline.2.scale=(224,128)',
        'test_dataloader.dataset.pipeline.1.scale=(224,128)',
        'val_dataloader.dataset.pipeline.1.scale=(224,128)',
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=2',
        *more,
    ]


def succeeded(done):
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope='module')
def trained(shared, call, data):
    """The work directory of two epochs of the student, never broken off."""
    return shared('student', lambda folder: succeeded(call('train.py', STUDENT, '--work-dir', folder, *options(data))))


@pytest.fixture(scope='module')
def teacher(shared, call, data):
    return shared(
        'teacher',
        lambda folder: succeeded(call('train.py', TEACHER, '--work-dir', folder, *options(data, 'train_cfg.max_epochs=1'))),
    )


@pytest.fixture(scope='module')
def distilled(shared, call, data, teacher):
    return shared(
        'distilled',
        lambda folder: succeeded(
            call('train.py', DISTIL, '--work-dir', folder, *options(data, f'model.teacher_ckpt={teacher / "epoch_1.pth"}'))
        ),
    )


def load(path):
    return torch.load(path, map_location='cpu')


def score(done, name='mAP'):
    """A score as test.py prints it."""
    line = next(line for line in done.stdout.splitlines() if 'search/mAP' in line)
    return float(line.split(f'search/{name}: ')[1].split()[0])


def test_training_saves_every_epoch_and_validates(trained):
    checkpoint = load(trained / 'epoch_2.pth')
    assert checkpoint['meta']['epoch'] == 2 and checkpoint['meta']['iter'] == 12
    memory = checkpoint['state_dict']['roi_head.reid_loss.memory.lut']
    assert memory.shape == (10, 128)  # as many identities as the data set has
    torch.testing.assert_close(memory.norm(dim=1), torch.ones(10))
    assert checkpoint['state_dict']['roi_head.reid_loss.memory.queue'].any()
    logged = [json.loads(line) for path in trained.glob('*/vis_data/*.json') for line in path.read_text().splitlines()]
    assert any('search/mAP' in line for line in logged)


@pytest.mark.soak
def test_a_killed_training_goes_on_as_if_it_had_not_been(trained, call, data, tmp_path):
    """Flips and samples are drawn as ever; tests/reliability/test_killed.py kills more, and compares more."""
    args = ['--work-dir', tmp_path, *options(data)]
    running = call.start('train.py', STUDENT, *args)
    while not (tmp_path / 'last_checkpoint').exists() and running.is_running:
        time.sleep(0.02)
    running.kill()
    assert running.wait().returncode == -signal.SIGKILL
    assert (tmp_path / 'epoch_1.pth').exists() and not (tmp_path / 'epoch_2.pth').exists()
    succeeded(call('train.py', STUDENT, '--resume', *args))
    whole, resumed = load(trained / 'epoch_2.pth'), load(tmp_path / 'epoch_2.pth')
    assert resumed['meta']['epoch'] == 2 and resumed['meta']['iter'] == 12
    for name, value in whole['state_dict'].items():
        assert torch.equal(resumed['state_dict'][name], value), name
    assert whole['param_schedulers'] == resumed['param_schedulers']
    for one, other in zip(whole['optimizer']['state'].values(), resumed['optimizer']['state'].values(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_test_prints_scores_and_writes_predictions_and_picture(trained, data, environment, tmp_path):
    done = succeeded(
        subprocess.run(
            [
                sys.executable,
                str(ROOT / 'tools/test.py'),
                str(STUDENT),
                str(trained / 'epoch_2.pth'),
                '--work-dir',
                str(tmp_path / 'work'),
                '--out',
                str(tmp_path / 'out.npz'),
                '--show-dir',
                str(tmp_path / 'show'),
                '--show-queries',
                '3',
                *options(data, 'test_evaluator.score_thr=0.01'),
            ],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
    )
    assert 0 <= score(done) <= 1
    predictions = load_predictions(tmp_path / 'out.npz')
    assert len(predictions.images) == 16 and predictions.query_embeddings.shape == (8, 128)
    assert sum(map(len, predictions.boxes)) > 0
    np.testing.assert_allclose(np.linalg.norm(predictions.query_embeddings, axis=1), 1, atol=1e-5)
    assert len(predictions.gt_embeddings[0]) == len(predictions.gt_boxes[0]) and 'with CBGM' in done.stdout + done.stderr
    assert {path.name for path in (tmp_path / 'show').iterdir()} == {
        'ranked_results.png',
        'failures.png',
        'precision_recall.png',
        'similarities.png',
    }


def test_a_report_of_a_finished_test_holds_its_scores_searches_and_failures(trained, call, data, tmp_path):
    tested = succeeded(
        call(
            'test.py',
            STUDENT,
            trained / 'epoch_2.pth',
            '--work-dir',
            tmp_path / 'work',
            '--out',
            tmp_path / 'out.npz',
            *options(data),
        )
    )
    succeeded(
        call(
            'analysis/search_report.py',
            tmp_path / 'out.npz',
            '--config',
            STUDENT,
            '--data-root',
            data,
            '--out',
            tmp_path / 'report',
            '--score-thr',
            '0.01',
            '--show-queries',
            '2',
            '--show-failures',
            '2',
        )
    )
    written = json.loads((tmp_path / 'report/scores.json').read_text())
    assert written['headline'] == 'gallery 100' and 'ground-truth boxes' in written['search']
    assert written['search']['ground-truth boxes']['mAP'] == pytest.approx(score(tested, 'upper_bound_mAP'), abs=1e-4)
    page = (tmp_path / 'report/report.html').read_text()
    assert page.count('<img') == len(list((tmp_path / 'report').glob('*.png'))) >= 5
    (tmp_path / 'without').mkdir()
    (tmp_path / 'without/annotation').symlink_to(data / 'annotation')
    done = call(
        'analysis/search_report.py',
        tmp_path / 'out.npz',
        '--config',
        STUDENT,
        '--data-root',
        tmp_path / 'without',
        '--out',
        tmp_path / 'none',
    )
    assert done.returncode == 1 and 'expected the images of the data set, of which 16 are missing' in done.stderr
    assert not (tmp_path / 'none').exists()
    assert {'searches.png', 'failures.png'} <= {path.name for path in (tmp_path / 'report').iterdir()}


def test_no_detection_scores_nothing(trained, call, data, tmp_path):
    done = succeeded(
        call(
            'test.py',
            STUDENT,
            trained / 'epoch_2.pth',
            '--work-dir',
            tmp_path,
            '--out',
            tmp_path / 'out.npz',
            *options(data, 'model.test_cfg.rcnn.score_thr=1.1'),
        )
    )
    assert score(done) == 0
    assert not sum(map(len, load_predictions(tmp_path / 'out.npz').boxes))


@pytest.mark.soak
def test_a_distilled_student_is_tested_with_the_plain_students_config(distilled, call, data, tmp_path):
    checkpoint = distilled / 'epoch_2.pth'
    scores = [
        score(
            succeeded(
                call(
                    'test.py',
                    config,
                    checkpoint,
                    '--work-dir',
                    tmp_path,
                    *options(data, 'test_evaluator.score_thr=0.01', *more),
                )
            )
        )
        for config, more in ((STUDENT, []), (DISTIL, ['model.teacher_ckpt=None']))
    ]
    assert scores[0] == scores[1]


def test_distillation_logs_every_term_and_saves_no_teacher(distilled):
    logged = [json.loads(line) for path in distilled.glob('*/vis_data/*.json') for line in path.read_text().splitlines()]
    names = {name for line in logged for name in line}
    assert {'distill.loss_relation', 'distill.loss_response', 'distill.loss_feature', 'student.loss_reid'} <= names
    state = load(distilled / 'epoch_2.pth')['state_dict']
    assert not any(name.startswith(('teacher', 'architecture')) for name in state)
    assert any(name.startswith('distiller.connectors.') for name in state)
