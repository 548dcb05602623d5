"""Runs benchmarks with stand-ins for the tools, which only write the files that MMEngine would: real tools take minutes."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from mmps.benchmark.matrix_file import read_matrix
from mmps.benchmark.matrix_runner import Progress, list_jobs, lock_folder, run_benchmark
from mmps.benchmark.report import format_percent, markdown_report
from mmps.benchmark.results import Entry, Result, load_entries
from mmps.benchmark.run_list import clear_outdated_runs, list_runs, select_runs
from mmps.synthetic import generate

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'

# Each tool appends its call to the file $CALLS, fails if $FAIL is in the call, and, in the folder $SLOW, waits after its first
# checkpoint.
COMMON = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1]) if '--work-dir' in sys.argv else None
def call(kind, name):
    with open(os.environ['CALLS'], 'a') as calls:
        calls.write(f'{kind} {name}\\n')
    if os.environ.get('FAIL') and os.environ['FAIL'] in f'{kind} {name}':
        sys.exit('error: it would not')
"""
TRAIN = (
    COMMON
    + """
cfg = {}
exec(pathlib.Path(sys.argv[1]).read_text(), cfg)
name, epochs = folder.name, cfg['train_cfg']['max_epochs']
begin = sum(1 for _ in folder.glob('epoch_*.pth'))
call(f'train from {begin}', name)
logs = folder / f'2026_{begin}' / 'vis_data'
logs.mkdir(parents=True, exist_ok=True)
with open(logs / 'scalars.json', 'w') as log:
    for epoch in range(begin + 1, epochs + 1):
        (folder / f'epoch_{epoch}.pth').write_text(name)
        (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{epoch}.pth'))
        log.write(json.dumps(dict(iter=epoch * 10, time=epoch * 6.0, loss=1 / epoch)) + '\\n')
        log.flush()
        if os.environ.get('SLOW') == name:
            time.sleep(60)
        if cfg['model'].get('teacher_ckpt'):
            assert pathlib.Path(cfg['model']['teacher_ckpt']).is_file()
    for hook in cfg['custom_hooks']:
        assert hook['type'] != 'LookupTableHook' or pathlib.Path(hook['path']).is_file()
"""
)
TEST = (
    COMMON
    + """
import numpy as np
run = folder.parent.name
call('test', run)
assert pathlib.Path(sys.argv[2]).read_text() == run
assert 'teacher_ckpt' not in pathlib.Path(sys.argv[1]).read_text()
mAP = {'plain_seed0': 0.3, 'plain_seed1': 0.4, 'gdps_big_seed0': 0.35, 'gdps_big_seed1': 0.43, 'gdps-x0.3_big_seed0': 0.2}
mAP = mAP.get(run, 0.6)
(folder / '2026').mkdir(parents=True, exist_ok=True)
if '--out' in sys.argv:
    pathlib.Path(sys.argv[sys.argv.index('--out') + 1]).write_text('predictions')
cfg = {}
exec(pathlib.Path(sys.argv[1]).read_text(), cfg)
low, high = np.array([mAP - 0.2, mAP - 0.1] * 20), np.array([mAP + 0.1, mAP + 0.2] * 20)
ap = np.stack([low, high], 1).ravel()
np.savez(cfg['test_evaluator']['query_file'], ap=ap, full_set_ap=ap / 2, first_ranks=np.ones(80, int))
(folder / '2026/2026.json').write_text(json.dumps({'search/mAP': mAP, 'search/top-1': 0.5, 'search/det_AP': 0.9, 'time': 0.02}))
"""
)
EXPORT = (
    COMMON
    + """
call('export', '_'.join(sys.argv[sys.argv.index('--dims'):]))
pathlib.Path(sys.argv[sys.argv.index('--out') + 1]).write_text('table')
"""
)


@pytest.fixture
def tools(tmp_path):
    folder = tmp_path / 'tools'
    folder.mkdir()
    for name, code in (('train', TRAIN), ('test', TEST), ('export_lookup_table', EXPORT)):
        (folder / f'{name}.py').write_text(code)
    return folder


@pytest.fixture
def content(tmp_path):
    """The content of a matrix: one teacher, one student, two methods with two seeds: five runs of two epochs each."""
    return dict(
        data=str(tmp_path),
        options={'train_cfg.max_epochs': 2},
        seeds=2,
        teachers={'big': {'config': 'oim/oim_r18-w32-fpn_10e_synthps-mini.py'}},
        students={'small': {'config': 'oim/oim_r18-w8-fpn_10e_synthps-mini.py'}},
        methods={'plain': {}, 'GDPS': {'distiller': 'gdps'}},
        headline=['GDPS'],
    )


@pytest.fixture
def run(tmp_path, tools, content, monkeypatch):
    """run(...) -> whether the benchmark of ``content`` finished, and the calls of its tools."""
    monkeypatch.setenv('CALLS', str(tmp_path / 'calls'))

    def called(workers=1, **kwargs):
        (tmp_path / 'calls').write_text('')
        finished = run_benchmark(read(tmp_path, content), tools, tmp_path / 'work', tmp_path / 'out', workers, **kwargs)
        return finished, (tmp_path / 'calls').read_text().splitlines()

    monkeypatch.setattr('time.sleep', lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.02)))
    return called


def read(tmp_path, content):
    path = tmp_path / 'matrix.yml'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_matrix(path, CONFIGS)


def rows(tmp_path):
    return list(csv.DictReader((tmp_path / 'out/results.csv').read_text().splitlines()))


def test_all_runs_are_trained_tested_and_collected_once(run, tmp_path, capsys):
    assert run() == (
        True,
        [
            'train from 0 big',
            'test big',
            'train from 0 plain_seed0',
            'test plain_seed0',
            'train from 0 gdps_big_seed0',
            'test gdps_big_seed0',
            'train from 0 plain_seed1',
            'test plain_seed1',
            'train from 0 gdps_big_seed1',
            'test gdps_big_seed1',
        ],
    )
    result = json.loads((tmp_path / 'work/students/small/gdps_big_seed0/result.json').read_text())
    made_with = [result.pop(name) for name in ('config', 'mmps', 'torch', 'mmdet', 'commit', 'date')]
    assert len(made_with[0]) == 12 and made_with[2] == torch.__version__ and re.fullmatch(r'\d{4}-\d\d-\d\d', made_with[-1])
    parameters = result.pop('parameters')
    assert 500_000 < parameters < 800_000  # the student's alone
    assert result == dict(
        student='small',
        method='GDPS',
        teacher='big',
        seed=0,
        mAP=0.35,
        top_1=0.5,
        det_AP=0.9,
        minutes=3.0,
        step_seconds=9.0,
        image_ms=20.0,
        loss=0.5,
        validation_mAP=None,
        full_set_mAP=None,
    )
    assert [(row['student'], row['method'], row['seed'], row['mAP'], row['status']) for row in rows(tmp_path)] == [
        ('big', '', '0', '0.6', 'finished'),
        ('small', 'plain', '0', '0.3', 'finished'),
        ('small', 'plain', '1', '0.4', 'finished'),
        ('small', 'GDPS', '0', '0.35', 'finished'),
        ('small', 'GDPS', '1', '0.43', 'finished'),
    ]
    files = {path.name for path in (tmp_path / 'out').iterdir()}
    assert files == {'results.csv', 'queries.npz', 'results.md', 'gain.png', 'accuracy.png'}
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == '[2/5] small  plain  seed 0   mAP 30.0  top-1 50.0  det AP 90.0  3.0 min   left about 10 min'
    assert lines[-1].endswith('  done')
    assert [path.name for path in (tmp_path / 'work').rglob('*.pth')] == ['epoch_2.pth'] * 5

    assert run() == (True, [])
    assert len(rows(tmp_path)) == 5


def test_the_table_has_the_gain_over_the_plain_student_with_the_same_seed(run, tmp_path):
    run()
    table = (tmp_path / 'out/results.md').read_text().split('## small (0.65 M parameters, 20 ms / image)')[1].splitlines()
    cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table if line.startswith('|')]
    assert cells[2:] == [
        ['plain', '', '2', '35.0 ± 5.0', '', '', '', '50.0 ± 0.0', '90.0 ± 0.0', '3.0'],
        ['**GDPS**', 'big', '2', '39.0 ± 4.0', '+4.0 \\*', '-5.2 to +13.2', '16 %', '50.0 ± 0.0', '90.0 ± 0.0', '3.0'],
    ]


@pytest.mark.parametrize(
    'what, failed, called',
    [
        pytest.param('train from 0 gdps_big_seed0', {('GDPS', '0')}, 9, marks=pytest.mark.soak),
        pytest.param('test plain_seed1', {('plain', '1')}, 10, marks=pytest.mark.soak),
        ('train from 0 big', {('', '0'), ('GDPS', '0'), ('GDPS', '1')}, 5),
    ],
)
def test_a_failure_stops_only_what_needs_it_and_is_tried_again(run, tmp_path, monkeypatch, capsys, what, failed, called):
    monkeypatch.setenv('FAIL', what)
    finished, calls = run(workers=2)
    assert not finished and len(calls) == called
    assert {(row['method'], row['seed']) for row in rows(tmp_path) if row['status'] == 'failed'} == failed
    assert 'failed (exit status 1): error: it would not' in capsys.readouterr().out
    assert f'{len(failed)} of them failed' in (tmp_path / 'out/results.md').read_text()

    monkeypatch.delenv('FAIL')
    finished, calls = run()
    assert finished and len(calls) == {9: 2, 10: 1, 5: 6}[called]
    assert all(row['status'] == 'finished' for row in rows(tmp_path))


def test_weights_are_chosen_by_other_queries_than_those_of_the_scores(run, content, tmp_path):
    content.update(tune=[0.3, 1, 3], validation=20)
    content['methods']['GDPS']['tune'] = True
    finished, calls = run()
    assert finished and [call.split()[-1] for call in calls[::2]] == [
        'big',
        'plain_seed0',
        'gdps-x0.3_big_seed0',
        'gdps_big_seed0',
        'gdps-x3_big_seed0',
        'plain_seed1',
        'gdps-x3_big_seed1',
    ]
    tried = {(row['method'], row['seed'], row['scale'], row['role']): row for row in rows(tmp_path) if row['method'] == 'GDPS'}
    assert {key[1:]: row['validation_mAP'][:4] for key, row in tried.items()} == {
        ('0', '0.3', 'tuning'): '0.2',
        ('0', '1', 'tuning'): '0.35',
        ('0', '3', 'student'): '0.6',
        ('1', '3', 'student'): '0.6',
    }
    entries = load_entries(tmp_path / 'out')
    assert [len(entry.ap) for entry in entries] == [60] * 7  # of 80
    assert all(entry.result.full_set_mAP == pytest.approx(entry.result.mAP / 2) for entry in entries)
    assert '| full set | top-1 |' in (tmp_path / 'out/results.md').read_text()
    assert '**GDPS** x 3 | ' in (tmp_path / 'out/results.md').read_text()
    tuning = [line for line in (tmp_path / 'out/results.md').read_text().splitlines() if line.startswith('| small')]
    assert [cell.strip() for cell in tuning[0].split('|')[3:6]] == ['20.0 / 90.0', '35.0 / 90.0', '**60.0 / 90.0**']
    config = (tmp_path / 'work/students/small/gdps-x3_big_seed1/benchmark_config.py').read_text()
    assert "'scale': 3" in config
    assert run() == (True, [])


def test_one_student_chooses_the_weights_of_all(run, content, tmp_path):
    content.update(tune=[0.3, 1, 3], validation=20)
    content['students']['other'] = content['students']['small']
    content['methods']['GDPS'].update(tune='small', seeds=1)
    finished, calls = run()
    assert finished
    scales = {(row['student'], row['scale'], row['role']) for row in rows(tmp_path) if row['method'] == 'GDPS'}
    assert scales == {
        ('small', '0.3', 'tuning'),
        ('small', '1', 'tuning'),
        ('small', '3', 'student'),
        ('other', '3', 'student'),
    }
    trained = [call.split()[-1] for call in calls if call.startswith('train')]
    assert trained[-1] == 'gdps-x3_big_seed0' and trained.count('gdps-x3_big_seed0') == 2


def test_another_config_of_a_teacher_means_new_students_under_it_and_no_others(run, content, capsys):
    run()
    content['teachers']['big']['options'] = {'optim_wrapper.optimizer.lr': 0.5}
    assert run()[1] == [
        'train from 0 big',
        'test big',
        'train from 0 gdps_big_seed0',
        'test gdps_big_seed0',
        'train from 0 gdps_big_seed1',
        'test gdps_big_seed1',
    ]
    assert capsys.readouterr().out.count('so it is made again') == 3
    content['methods']['GDPS']['options'] = {'model.box_jitter': 0.5}
    assert run()[1] == [
        'train from 0 gdps_big_seed0',
        'test gdps_big_seed0',
        'train from 0 gdps_big_seed1',
        'test gdps_big_seed1',
    ]


def test_a_teacher_that_is_trained_again_means_new_students_under_it(run, tmp_path, capsys):
    run()
    for lost in ('epoch_2.pth', 'result.json'):
        (tmp_path / f'work/teachers/big/{lost}').unlink()
    assert run()[1][::2] == ['train from 0 big', 'train from 0 gdps_big_seed0', 'train from 0 gdps_big_seed1']
    assert 'big  teacher: its checkpoint is gone, so it is made again' in capsys.readouterr().out


def test_finished_students_outlive_their_teachers_checkpoint_and_new_ones_ask_for_it(run, content, tmp_path):
    run()
    (tmp_path / 'work/teachers/big/epoch_2.pth').unlink()
    assert run() == (True, [])
    content['seeds'] = 3
    with pytest.raises(FileNotFoundError, match=r'teachers/big/epoch_2.pth: the checkpoint of a finished teacher is gone'):
        run()


def test_more_methods_and_seeds_leave_finished_runs_alone(run, content):
    run()
    content['seeds'] = 3
    content['methods']['HKD'] = {'distiller': 'hkd-self', 'teacher': 'none', 'seeds': 1}
    assert run()[1][::2] == ['train from 0 hkd_seed0', 'train from 0 plain_seed2', 'train from 0 gdps_big_seed2']


def test_a_teachers_checkpoint_is_used_untrained_and_another_one_means_new_students(run, content, tmp_path):
    given = tmp_path / 'given.pth'
    given.write_text('big')
    content['teachers']['big']['checkpoint'] = str(given)
    content['seeds'] = 1
    assert run()[1] == [
        'test big',
        'train from 0 plain_seed0',
        'test plain_seed0',
        'train from 0 gdps_big_seed0',
        'test gdps_big_seed0',
    ]
    assert run()[1] == [] and given.is_file()
    content['teachers']['big']['checkpoint'] = str(tmp_path / 'other.pth')
    (tmp_path / 'other.pth').write_text('not big')
    finished, calls = run()
    assert not finished and calls == ['test big', 'train from 0 gdps_big_seed0', 'test gdps_big_seed0']


def test_students_of_one_size_share_the_export_of_their_lookup_table(run, content):
    content.update(methods={'lut': {'lookup_table': True}}, headline=[])
    assert run()[1] == [
        'train from 0 big',
        'test big',
        'export --dims_128',
        'train from 0 lut_big_seed0',
        'test lut_big_seed0',
        'train from 0 lut_big_seed1',
        'test lut_big_seed1',
    ]


def test_only_what_is_asked_for_and_its_teachers_are_run(run):
    assert run(only=['plain*seed 1'])[1] == ['train from 0 plain_seed1', 'test plain_seed1']
    assert run(only=['gdps by big*1'])[1][::2] == ['train from 0 big', 'train from 0 gdps_big_seed1']
    with pytest.raises(ValueError, match=r"--only: no run has 'gpds' in its name; the first is 'big  teacher'"):
        run(only=['gpds'])


def test_a_report_alone_runs_and_changes_nothing(run, content, tmp_path):
    run(only=['plain'])
    content['methods']['plain']['options'] = {'log_level': 'ERROR'}
    content['methods']['again'] = {}
    assert run(report_only=True) == (True, [])
    assert {row['status'] for row in rows(tmp_path)} == {'missing'}
    assert (tmp_path / 'work/students/small/plain_seed0/result.json').is_file()


def test_a_folder_that_the_benchmark_did_not_make_is_left_alone(run, tmp_path):
    mine = tmp_path / 'work/students/small/plain_seed0/mine.txt'
    mine.parent.mkdir(parents=True)
    mine.write_text('precious')
    with pytest.raises(ValueError, match='plain_seed0: not made by the benchmark'):
        run()
    assert mine.read_text() == 'precious'


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    with (
        lock_folder(tmp_path / 'work'),
        pytest.raises(ValueError, match='work: another benchmark runs there'),
        lock_folder(tmp_path / 'work'),
    ):
        pass
    with lock_folder(tmp_path / 'work'):
        pass


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a child that its parent is gone')
def test_after_a_kill_finished_runs_are_kept_and_the_one_under_way_is_resumed(run, tmp_path, tools, content):
    read(tmp_path, content)
    code = (
        'import time\nfrom pathlib import Path\nfrom mmps.benchmark.matrix_runner import run_benchmark\n'
        'from mmps.benchmark.matrix_file import read_matrix\n'
        f'here = Path({str(tmp_path)!r})\nmatrix = read_matrix(here / "matrix.yml", Path({str(CONFIGS)!r}))\n'
        'run_benchmark(matrix, here / "tools", here / "work", here / "out", 1)\n'
    )
    (tmp_path / 'calls').write_text('')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'SLOW': 'gdps_big_seed0'}
    parent = subprocess.Popen([sys.executable, '-c', code], env=environment, stdout=subprocess.DEVNULL)
    half = tmp_path / 'work/students/small/gdps_big_seed0/last_checkpoint'

    def finished():
        return [row['method'] for row in rows(tmp_path) if row['status'] == 'finished']

    while not half.exists() or finished() != ['', 'plain']:  # the table follows within a second
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert run() == (
        True,
        [
            'train from 1 gdps_big_seed0',
            'test gdps_big_seed0',
            'train from 0 plain_seed1',
            'test plain_seed1',
            'train from 0 gdps_big_seed1',
            'test gdps_big_seed1',
        ],
    )
    resumed = next(row for row in rows(tmp_path) if (row['method'], row['seed']) == ('GDPS', '0'))
    assert float(resumed['minutes']) == 3.0


def test_a_run_whose_result_was_not_written_down_is_not_run_again(run, tmp_path):
    run()
    (tmp_path / 'work/students/small/plain_seed0/result.json').unlink()
    assert run() == (True, []) and len(rows(tmp_path)) == 5


def test_distillation_waits_for_its_teacher_and_nothing_else_does(tmp_path, content):
    runs = list_runs(read(tmp_path, content), tmp_path / 'work')
    clear_outdated_runs(runs, runs)
    steps = list_jobs(runs, tmp_path)
    assert {step.name: list(step.after) for step in steps} == {
        'big  teacher': [],
        'small  plain  seed 0': [],
        'small  GDPS by big  seed 0': ['big  teacher'],
        'small  plain  seed 1': [],
        'small  GDPS by big  seed 1': ['big  teacher'],
    }


def test_a_config_that_a_kill_left_unfinished_is_written_again(tmp_path, content):
    runs = list_runs(read(tmp_path, content), tmp_path / 'work')
    clear_outdated_runs(runs, runs)
    before = runs[0].train_config.read_text()
    runs[0].train_config.write_text("launcher = 'no")
    list_jobs(runs, tmp_path)
    assert runs[0].train_config.read_text() == before


def test_the_time_left_follows_runs_of_the_same_student(tmp_path, content):
    content['students']['other'] = dict(content['students']['small'])
    runs = list_runs(read(tmp_path, content), tmp_path / 'work')
    progress = Progress(read(tmp_path, content), runs, select_runs(runs, ['small', 'other']), tmp_path, tmp_path, workers=2)
    progress.results = {
        run: Result(*run.key, 0.5, 0.5, 0.5, minutes, 1.0, 1.0, 1, 1.0)
        for run, minutes in zip(runs, (60, 10, 20), strict=False)
    }
    assert [progress.expected_minutes(run) for run in runs if run not in progress.results] == pytest.approx(
        [30, 30, 10, 20, 30, 30]
    )
    assert progress.time_left() == 'left about 1 h 18 min'  # (150 - 30 / 2) / 2, and a seventh for all but training


def test_scores_that_a_network_does_not_have_stay_empty():
    result = Result('big', '', '', 0, 0.7, 0.8, None, 0.0, None, 1.0, 10**6, None)
    text = markdown_report([Entry('m', 'teacher', False, 1, ('big', '', '', 0), 'finished', 'train.log', result)])
    cells = [cell.strip() for cell in next(line for line in text.splitlines() if line.startswith('| big')).split('|')]
    assert cells[1:-1] == ['big', '70.0', '80.0', '', '1.00 M', '1', '']
    assert format_percent([]) == '' and format_percent([0.5, None]) == '50.0' and format_percent([-0.01], signed=True) == '-1.0'


def test_predictions_are_kept_where_the_matrix_says_so_and_made_again_where_they_are_lost(run, content, tmp_path):
    content['predictions'] = True
    assert run()[0]
    kept = tmp_path / 'work/students/small/plain_seed0/test/predictions.npz'
    assert kept.is_file() and run() == (True, [])
    kept.unlink()
    assert run() == (True, ['test plain_seed0'])


def test_trainings_tell_how_many_steps_they_have_and_have_done(tmp_path, content):
    generate(tmp_path / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    content['data'] = str(tmp_path / 'tiny')
    runs = list_runs(read(tmp_path, content), tmp_path / 'work')
    clear_outdated_runs(runs, runs)
    steps = {step.name: step for step in list_jobs(runs, tmp_path, count_steps=True)}
    plain = steps['small  plain  seed 0']
    assert (plain.num_steps, plain.count_steps_done()) == (2 * 6, 0)  # epochs, and batches of 4 out of 24 scenes
    logs = runs[1].work_dir / '20261122/vis_data'
    logs.mkdir(parents=True)
    (logs / 'scalars.json').write_text('{"iter": 5, "loss": 1.0}\n{"iter": 10, "lo')
    assert plain.count_steps_done() == 5
