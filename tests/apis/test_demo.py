from pathlib import Path

import pytest

from mmps.apis import demo as module
from mmps.apis.demo import GDPS, STUDENT, TEACHER, histogram_scores, list_runs, table
from mmps.synthetic import generate
from mmps.visualization.report import Row

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.fixture
def runs(tmp_path):
    return list_runs(CONFIGS, tmp_path / 'work', tmp_path / 'data', seeds=2)


def finish(run):
    run.forget_if_changed()
    run.checkpoint.write_bytes(b'')
    (run.work_dir / 'last_checkpoint').write_text('')


def test_both_students_are_trained_with_every_seed_and_the_teacher_once(runs):
    assert [run.role for run in runs] == ['teacher', 'student', 'gdps', 'student', 'gdps']
    assert [run.loaded.randomness.seed for run in runs] == [0, 0, 0, 1, 1]
    assert [run.config for run in runs[:3]] == [CONFIGS / TEACHER, CONFIGS / STUDENT, CONFIGS / GDPS]


def test_the_students_differ_in_nothing_but_the_distillation(runs):
    plain, distilled = runs[1].loaded, runs[2].loaded
    assert plain.model == distilled.model.architecture
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'randomness'):
        assert plain[key] == distilled[key], key


def test_a_distilled_student_is_tested_with_the_plain_config(runs):
    assert runs[2].tested_as == CONFIGS / STUDENT and runs[2].loaded.model.teacher_ckpt == str(runs[0].checkpoint)


def test_a_finished_run_is_used_again_until_its_config_changes(runs):
    finish(runs[1])
    runs[1].forget_if_changed()
    assert runs[1].checkpoint.is_file()
    runs[1].options['optim_wrapper.optimizer.lr'] = 0.5
    runs[1].forget_if_changed()
    assert not runs[1].checkpoint.exists()


def test_only_what_is_not_trained_yet_is_and_distillation_waits_for_its_teacher(runs, monkeypatch):
    started = []
    monkeypatch.setattr(module, 'run_jobs', lambda jobs, workers: started.extend((job.name, list(job.after)) for job in jobs))
    monkeypatch.setattr(module, 'num_batches', lambda cfg: 100)
    finish(runs[1])
    module.train(runs[:3], CONFIGS)
    assert started == [('teacher', []), ('student + GDPS, seed 0', ['teacher'])]
    started.clear()
    finish(runs[0])
    module.train(runs[:3], CONFIGS)
    assert started == [('student + GDPS, seed 0', [])]


def test_the_colour_histogram_is_scored_on_the_annotated_boxes(tmp_path):
    generate(tmp_path / 'tiny', 'cuhk-sysu', 'tiny', progress=False)
    scores = histogram_scores(*module.test_set(CONFIGS / STUDENT, tmp_path / 'tiny'))
    assert 0 < scores['mAP'][0] < 100 and 0 <= scores['top-1'][0] <= 100


def test_the_table_shows_one_seed_plain_and_several_with_their_spread():
    rows = [Row('student', {'mAP': [30.0, 32.0], 'top-1': [40.0, 40.0], 'det AP': [90.0, 91.0]}, 600_000, 12.3)]
    lines = table(rows, 2).splitlines()
    assert lines[0].split('|')[2].strip() == 'mAP' and '31.0 ± 1.4' in lines[2] and '0.60 M' in lines[2]
    assert lines[-1].endswith('mean and standard deviation of 2 seeds')
