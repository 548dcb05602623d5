"""Tests the reader of training logs, and the tool that compares trainings."""

import json
import runpy
import sys

import pytest

from mmps.benchmark.logs import losses, validations


@pytest.fixture
def training(tmp_path):
    """training(name, *starts) -> a work directory with one log per start; a start is a list of entries."""

    def make(name, *starts):
        for index, entries in enumerate(starts):
            folder = tmp_path / name / f'2026010{index}_000000' / 'vis_data'
            folder.mkdir(parents=True)
            (folder / 'scalars.json').write_text('\n'.join(json.dumps(entry) for entry in entries) + '\n{"loss": 0.')
        return tmp_path / name

    return make


def step(number, loss, seconds=0.6):
    return {'loss_reid': loss, 'lr': 0.1, 'time': seconds, 'iter': number, 'step': number}


def score(value):
    return {'search/mAP': value, 'search/top-1': value, 'search/det_AP': 0.9, 'search/det_recall': 0.95, 'step': 1}


def test_losses_and_minutes_go_on_after_a_restart(training):
    folder = training('run', [step(50, 3.0), step(100, 2.0), score(0.2)], [step(150, 1.0, 1.2), score(0.4)])
    assert losses(folder) == {'loss_reid': [(50, 3.0), (100, 2.0), (150, 1.0)]}
    (minutes, first), (later, last) = validations(folder)
    assert minutes == pytest.approx(1.0) and later == pytest.approx(2.0)  # 100 steps of 0.6 s, then 50 of 1.2 s
    assert first['mAP'] == 0.2 and last['mAP'] == 0.4 and last['det_AP'] == 0.9


def test_steps_that_a_restart_repeats_count_once(training):
    folder = training('run', [step(50, 3.0), step(100, 2.0)], [step(100, 2.0), step(150, 1.0), score(0.4)])
    assert validations(folder)[0][0] == pytest.approx(1.5)


@pytest.mark.parametrize('entries', [[], [step(50, 3.0)]])
def test_a_folder_without_a_validation_is_named(training, entries):
    folder = training('run', entries)
    with pytest.raises(ValueError, match='run: expected the work directory of a training that was validated'):
        validations(folder)


def test_the_tool_prints_a_table_and_draws(training, repository, monkeypatch, capsys, tmp_path):
    one, other = training('one', [step(50, 3.0), score(0.5)]), training('other', [step(50, 4.0), score(0.25)])
    out = tmp_path / 'out'
    monkeypatch.setattr(sys, 'argv', ['compare_runs.py', f'A net={one}', str(other), '--out', str(out)])
    runpy.run_path(str(repository / 'tools/analysis/compare_runs.py'), run_name='__main__')
    printed = capsys.readouterr().out
    assert '| A net |' in printed and '50.0' in printed and '| other |' in printed and '25.0' in printed
    assert {path.name for path in out.iterdir()} == {'learning.png', 'losses.png'}
