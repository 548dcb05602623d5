"""The check of GPUs, in its dry form on the CPU."""

import subprocess
import sys

import pytest
import torch

from mmps.gpu import gpu_check


@pytest.fixture
def script(load_script, repository):
    return load_script(repository / 'tools/benchmarks/gpu_check.py')


def test_every_published_config_is_checked_detectors_first(script, repository):
    found = script.published(repository / 'configs')
    assert {path for path in repository.glob('configs/[!_]*/*_20e_*.py') if 'synthps' not in path.stem} <= set(found)
    assert 'seqnet_r50-c4_20e_cuhk-sysu' in [path.stem for path in found[:40]]
    assert all((repository / f'configs/{name}.py').is_file() for name in (*script.DETECTORS, *script.SMALL))


def test_no_time_left_names_what_was_left_out(script, repository):
    text = gpu_check.published_steps(torch.device('cpu'), script.published(repository / 'configs')[:2], until=0.0)
    assert 'Not reached in the time: ' in text and 'cuhk-sysu' in text


def test_a_loss_that_is_not_finite_fails(script, repository, monkeypatch):
    monkeypatch.setattr(gpu_check, '_timed_step', lambda *args: (float('nan'), 1.0, ''))
    small = repository / f'configs/{script.SMALL[1]}.py'
    with pytest.raises(gpu_check.CheckFailed, match=f'{small.stem} in float32: the loss is nan'):
        gpu_check.published_steps(torch.device('cpu'), [small], float('inf'), 1, (64, 96))


def test_a_config_that_fails_is_named_and_the_others_are_checked(script, repository, tmp_path):
    (tmp_path / 'broken.py').write_text("model = dict(type='Nothing')\ntrain_dataloader = dict(batch_size=1)\n")
    small = repository / f'configs/{script.SMALL[1]}.py'
    with pytest.raises(gpu_check.CheckFailed, match=rf'broken: KeyError: .*Nothing[^$]*\| {small.stem} +\| +1 ') as failed:
        gpu_check.published_steps(torch.device('cpu'), [tmp_path / 'broken.py', small], float('inf'), 1, (64, 96))
    assert 'not measured' in str(failed.value)


def test_a_machine_without_gpus_is_told_of_the_dry_form(script, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['gpu_check.py', '--out', str(tmp_path / 'report.md')])
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match='--dry'):
        script.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.soak
def test_the_dry_form_writes_every_section(repository, tmp_path):
    command = [sys.executable, '-W', 'ignore', repository / 'tools/benchmarks/gpu_check.py', '--dry', '--out', 'report.md']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    report = (tmp_path / 'report.md').read_text()
    assert report.startswith('# GPU check, dry') and '**Failed**' not in report
    assert report.count('\n## ') == 7 and 'bit for bit' in report and '2 ranks of gloo' in report
