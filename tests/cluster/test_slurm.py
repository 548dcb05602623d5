"""Slurm for real: a cluster of one node on this machine starts, ends and requeues trainings, and makes a matrix's runs."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

pytestmark = pytest.mark.soak
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'
# That of docs/launching.md.
JOB = """#!/bin/bash
#SBATCH --requeue --ntasks=2 --ntasks-per-node=2 --gres=gpu:2 --output=job.log --open-mode=append
export MASTER_PORT=29712
srun --kill-on-bad-exit=1 python -u {tool} {config} --work-dir {work_dir} --launcher slurm --resume {options} ||
    {{ [ "${{SLURM_RESTART_COUNT:-0}}" -lt 1 ] && scontrol requeue "$SLURM_JOB_ID"; }}
"""
# A scheduler, and workers by srun; they end with the job.
WORKERS = """#!/bin/bash
#SBATCH --ntasks=2 --output=workers.log
{python} -m distributed.cli.dask_scheduler --host 127.0.0.1 --port 0 --scheduler-file {file} --no-dashboard &
srun {python} -m distributed.cli.dask_worker --scheduler-file {file} --nthreads 1 --memory-limit 0 --no-dashboard
"""


def iterations(path):
    return torch.load(path, map_location='cpu')['meta']['iter']


def tasks_of(tool, work_dir):
    """Process ids, by rank, of the Slurm tasks that run a tool for a work directory."""
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            words = (folder / 'cmdline').read_bytes().split(b'\0')
            variables = dict(each.split(b'=', 1) for each in (folder / 'environ').read_bytes().split(b'\0') if b'=' in each)
        except OSError:  # it has ended
            continue
        is_task = words[0].endswith(b'python') and str(tool).encode() in words and str(work_dir).encode() in words
        if is_task and b'SLURM_PROCID' in variables:
            found.setdefault(int(variables[b'SLURM_PROCID']), int(folder.name))
    return found


def wait_for(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)


def test_slurm_train_starts_a_rank_for_each_gpu(slurm, options, steps_of, tmp_path):
    slurm.call(
        *(ROOT / 'tools/slurm_train.sh', 'gpus', 'job', CONFIG, tmp_path / 'run', *options(1)),
        **dict(GPUS='2', GPUS_PER_NODE='2', CPUS_PER_TASK='1', MASTER_PORT='29711'),
    )
    assert iterations(tmp_path / 'run/epoch_1.pth') == len(steps_of(tmp_path / 'run')) == 3


def test_a_killed_task_ends_the_others_and_the_job_starts_again_and_resumes(slurm, options, steps_of, report, tmp_path):
    work_dir, tool = tmp_path / 'run', ROOT / 'tools/train.py'
    quoted = ' '.join(f"'{each}'" for each in options(3))
    job = slurm.submit(JOB.format(tool=tool, config=CONFIG, work_dir=work_dir, options=quoted))
    wait_for(lambda: (work_dir / 'last_checkpoint').exists())
    first = tasks_of(tool, work_dir)
    os.kill(first[1], signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: not set(first.values()) & set(tasks_of(tool, work_dir).values()))  # --kill-on-bad-exit ends rank 0
    ended = time.monotonic() - killed
    assert slurm.wait(job, ('FAILED', 'COMPLETED')) == 'COMPLETED', (slurm.folder / 'job.log').read_text()[-3000:]
    assert iterations(work_dir / 'epoch_3.pth') == 9
    assert [step['iter'] for step in steps_of(work_dir)].count(1) == 1  # the first epoch was not trained again
    assert 'resumed epoch: ' in (slurm.folder / 'job.log').read_text()
    report(ended_after_kill=round(ended, 1), done_after_kill=round(time.monotonic() - killed, 1))


def test_a_job_that_fails_each_time_is_not_started_for_ever(slurm, tmp_path):
    job = slurm.submit(JOB.format(tool=ROOT / 'tools/train.py', config='nowhere.py', work_dir=tmp_path / 'run', options=''))
    assert slurm.wait(job, ('FAILED', 'COMPLETED')) == 'FAILED'
    assert 'Restarts=1' in slurm.call('scontrol', 'show', 'job', job).stdout


def test_workers_of_a_slurm_job_make_the_runs_of_a_matrix(slurm, data, options, tmp_path):
    matrix, file = tmp_path / 'matrix.yml', tmp_path / 'scheduler.json'
    oim = 'oim/oim_r18-w8-fpn_10e_synthps-mini.py'
    changes = dict(each.split('=', 1) for each in options(1)[1:] if 'scale' in each)
    changes |= {f'{split}_dataloader.dataset.pipeline.1.scale': '(224,128)' for split in ('val', 'test')}
    content = dict(
        data=str(data),
        options={'train_cfg.max_epochs': 1},
        seeds=1,
        teachers={'big': {'config': oim}},
        students={'small': {'config': oim}},
        methods={'plain': {}, 'GDPS': {'distiller': 'gdps'}},
    )
    matrix.write_text(yaml.safe_dump(content, sort_keys=False))
    job = slurm.submit(WORKERS.format(python=sys.executable, file=file))
    wait_for(file.exists)
    slurm.call(
        *(sys.executable, ROOT / 'tools/benchmark.py', matrix, '--server', file, '--work-dir', tmp_path / 'work'),
        *('--cfg-options', *(f'{name}={value}' for name, value in changes.items())),
        timeout=1800,
    )
    results = (tmp_path / 'work/results.csv').read_text()
    assert 'plain' in results and 'GDPS' in results
    slurm.call('scancel', job)
    slurm.wait(job, ('CANCELLED', 'COMPLETED', 'FAILED'))
