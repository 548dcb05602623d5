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
    (run.work_dir / 'last_checkpoint').write_text(str(run.checkpoint))
    (run.work_dir / 'test/20261121_000000').mkdir(parents=True)
    (run.work_dir / 'test/20261121_000000/20261121_000000.json').write_text('{}')
    run.predictions.write_bytes(b'')
    assert run.is_trained and run.is_tested


def test_both_students_are_trained_with_every_seed_and_the_teacher_once(runs):
    assert [run.role for run in runs] == ['teacher', 'student', 'gdps', 'student', 'gdps']
    assert [run.loaded.randomness.seed for run in runs] == [0, 0, 0, 1, 1]
    assert [run.config for run in runs[:3]] == [CONFIGS / TEACHER, CONFIGS / STUDENT, CONFIGS / GDPS]


def test_the_students_differ_in_nothing_but_the_distillation(runs):
    plain, distilled = runs[1].loaded, runs[2].loaded
    assert plain.model == distilled.model.architecture
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'randomness'):
        assert plain[key] == distilled[key], key


def test_training_and_test_look_for_the_data_in_the_same_place(runs, tmp_path):
    for run in runs:
        for command in (run.command(CONFIGS), run.test_command(CONFIGS)):
            assert f'test_dataloader.dataset.data_root={tmp_path / "data"}' in command


def test_a_distilled_student_is_tested_with_the_plain_config(runs):
    assert runs[2].tested_as == CONFIGS / STUDENT and runs[2].loaded.model.teacher_ckpt == str(runs[0].checkpoint)


def test_a_finished_run_is_used_again_until_its_config_changes(runs):
    finish(runs[1])
    runs[1].forget_if_changed()
    assert runs[1].checkpoint.is_file()
    runs[1].options['optim_wrapper.optimizer.lr'] = 0.5
    runs[1].forget_if_changed()
    assert not runs[1].checkpoint.exists()


def test_a_folder_that_the_demo_did_not_make_is_left_alone(runs):
    runs[1].work_dir.mkdir(parents=True)
    (runs[1].work_dir / 'mine.txt').write_text('precious')
    with pytest.raises(ValueError, match='not made by the demo'):
        runs[1].forget_if_changed()
    assert (runs[1].work_dir / 'mine.txt').read_text() == 'precious'


@pytest.fixture
def started(monkeypatch):
    jobs = []
    monkeypatch.setattr(module, 'run_jobs', lambda more, workers: jobs.extend((job.name, list(job.after)) for job in more))
    monkeypatch.setattr(module, 'num_batches', lambda cfg: 100)
    return jobs


def test_only_what_is_not_trained_yet_is_and_distillation_waits_for_its_teacher(runs, started):
    finish(runs[1])
    for run in (runs[0], runs[2]):
        run.forget_if_changed()
    module.train(runs[:3], CONFIGS)
    assert started == [('teacher', []), ('student + GDPS, seed 0', ['teacher'])]
    started.clear()
    finish(runs[0])
    module.train(runs[:3], CONFIGS)
    assert started == [('student + GDPS, seed 0', [])]


def test_what_is_trained_again_is_tested_again(runs, started):
    finish(runs[1])
    runs[1].checkpoint.unlink()
    module.train(runs[1:2], CONFIGS)
    module.test(runs[1:2], CONFIGS)
    assert [name for name, _ in started] == ['student, seed 0', 'test student, seed 0']


def test_a_new_teacher_means_new_distillations(runs, started, monkeypatch, tmp_path):
    for run in runs:
        finish(run)
    runs[0].checkpoint.unlink()
    monkeypatch.setattr(module, 'generate', lambda *args, **kwargs: None)
    monkeypatch.setattr(module, 'list_runs', lambda *args: runs)
    monkeypatch.setattr(module, 'test_set', lambda *args: pytest.skip('far enough'))
    with pytest.raises(pytest.skip.Exception):
        module.demo(CONFIGS, CONFIGS, tmp_path / 'work', tmp_path / 'data', seeds=2)
    assert [name for name, _ in started] == [
        name for kind in ('', 'test ') for name in (f'{kind}teacher', f'{kind}student + GDPS, seed 0',
                                                    f'{kind}student + GDPS, seed 1')]


def test_the_colour_histogram_is_scored_on_the_annotated_boxes(tmp_path):
    generate(tmp_path / 'tiny', 'cuhk-sysu', 'tiny', progress=False)
    scores = histogram_scores(*module.test_set(CONFIGS / STUDENT, tmp_path / 'tiny'))
    assert 0 < scores['mAP'][0] < 100 and 0 <= scores['top-1'][0] <= 100


def test_the_table_shows_one_seed_plain_and_several_with_their_spread():
    rows = [Row('student', {'mAP': [30.0, 32.0], 'top-1': [40.0, 40.0], 'det AP': [90.0, 91.0]}, 600_000, 12.3)]
    lines = table(rows, 2).splitlines()
    assert lines[0].split('|')[2].strip() == 'mAP' and '31.0 ± 1.4' in lines[2] and '0.60 M' in lines[2]
    assert lines[-1].endswith('mean and standard deviation of 2 seeds')
