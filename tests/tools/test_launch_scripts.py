"""The launchers hand their arguments on: run with stand-ins for python and srun that print what they are called with."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def launch(tmp_path):
    for name in ('python', 'srun'):
        stub = tmp_path / name
        stub.write_text('#!/bin/sh\necho "$(basename "$0")" "$@"\n')
        stub.chmod(0o755)

    def run(script, *arguments, **environment):
        return subprocess.run(
            [str(TOOLS / script), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **environment, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
        )

    return run


def test_dist_train_starts_torchrun_with_the_ranks_asked_for(launch):
    out = launch('dist_train.sh', 'config.py', '4', '--amp', '--resume', PORT='1234', NNODES='2', NODE_RANK='1').stdout
    assert out.startswith('python -m torch.distributed.run --nnodes=2 --node_rank=1 ')
    assert '--master_port=1234 --nproc_per_node=4 ' in out
    assert out.strip().endswith(f'--max_restarts=0 {TOOLS}/train.py config.py --launcher pytorch --amp --resume')


def test_dist_train_restarts_on_one_machine_only(launch):
    assert '--max_restarts=2 ' in launch('dist_train.sh', 'config.py', '4', MAX_RESTARTS='2').stdout
    done = launch('dist_train.sh', 'config.py', '4', MAX_RESTARTS='2', NNODES='2')
    assert done.returncode == 2 and '--resume' in done.stderr and not done.stdout


def test_slurm_train_starts_a_task_a_gpu(launch):
    out = launch('slurm_train.sh', 'gpus', 'job', 'config.py', 'out', '--amp', GPUS='16', SRUN_ARGS='--exclusive -x a').stdout
    assert out.startswith('srun -p gpus --job-name=job --gres=gpu:8 --ntasks=16 --ntasks-per-node=8 ')
    assert '--exclusive -x a python -u' in out
    assert out.strip().endswith(f'{TOOLS}/train.py config.py --work-dir out --launcher slurm --amp')


@pytest.mark.parametrize('script', ['dist_train.sh', 'slurm_train.sh'])
def test_too_few_arguments_are_told_how(launch, script):
    done = launch(script, 'config.py')
    assert done.returncode == 2 and done.stderr.startswith('usage:') and not done.stdout
