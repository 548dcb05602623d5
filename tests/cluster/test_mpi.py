"""``mpirun`` of Open MPI starts trainings."""

import os
import shutil
import sys
from pathlib import Path
from subprocess import run

import pytest
import torch

pytestmark = pytest.mark.soak
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'


def mpirun(environment, tmp_path, *command):
    if shutil.which('mpirun') is None:
        pytest.skip('Open MPI is not installed: apt-get install openmpi-bin')
    root = ['--allow-run-as-root'] if os.geteuid() == 0 else []
    launcher = ['mpirun', *root, '--oversubscribe', '-n', '2', '-x', 'MASTER_PORT=29713']
    arguments = [*launcher, sys.executable, *map(str, command)]
    return run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900)


def test_two_ranks_of_mpirun_train_and_test(environment, options, steps_of, tmp_path):
    train = (ROOT / 'tools/train.py', CONFIG, '--launcher', 'mpi', '--work-dir', tmp_path / 'run')
    done = mpirun(environment, tmp_path, *train, *options(1))
    assert done.returncode == 0, done.stderr[-6000:]
    assert torch.load(tmp_path / 'run/epoch_1.pth', map_location='cpu')['meta']['iter'] == len(steps_of(tmp_path / 'run')) == 3
    test = (ROOT / 'tools/test.py', CONFIG, tmp_path / 'run/epoch_1.pth', '--launcher', 'mpi', '--work-dir', tmp_path / 'test')
    done = mpirun(environment, tmp_path, *test, *options(1), 'test_dataloader.dataset.pipeline.1.scale=(224,128)')
    assert done.returncode == 0 and 'search/mAP' in done.stdout, done.stderr[-6000:]


def test_a_rank_that_fails_ends_mpirun(environment, tmp_path):
    done = mpirun(environment, tmp_path, ROOT / 'tools/train.py', CONFIG, '--launcher', 'mpi', '--cfg-options', 'wrong.key=1')
    assert done.returncode != 0
