"""A benchmark on a Dask scheduler with workers that stand for machines. Stand-ins for the tools write the files."""

import csv
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from mmps.benchmark.matrix_file import read_matrix
from mmps.benchmark.matrix_runner import run_benchmark

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
EPOCHS = 4
TRAIN = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
logs = folder / f'2026_{time.time_ns()}' / 'vis_data'
logs.mkdir(parents=True)
for epoch in range(sum(1 for _ in folder.glob('epoch_*.pth')) + 1, 5):
    with open(os.environ['CALLS'], 'a') as calls:
        calls.write(f'{folder.name} {epoch} {os.getppid()}\\n')
    time.sleep(1)
    (folder / f'epoch_{epoch}.pth').write_text('weights')
    (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{epoch}.pth'))
    with open(logs / 'scalars.json', 'a') as log:
        log.write(json.dumps(dict(iter=epoch * 10, time=1.0, loss=1.0)) + '\\n')
"""
TEST = """
import json, pathlib, sys
import numpy as np
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
cfg = {}
exec(pathlib.Path(sys.argv[1]).read_text(), cfg)
(folder / '2026').mkdir(parents=True)
np.savez(cfg['test_evaluator']['query_file'], ap=np.full(8, 0.5), first_ranks=np.ones(8, int))
(folder / '2026/2026.json').write_text(json.dumps({'search/mAP': 0.5, 'search/top-1': 1, 'search/det_AP': 0.9, 'time': 0.02}))
"""


@pytest.fixture
def start(tmp_path):
    """start('scheduler' or 'worker') -> its process, at the test's address."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = []
    address = f'tcp://127.0.0.1:{port}'
    options = dict(
        scheduler=['--host', '127.0.0.1', '--port', str(port)],
        worker=[address, '--nthreads', '1', '--no-nanny', '--host', '127.0.0.1', '--local-directory', str(tmp_path / 'dask')],
    )

    def started(kind):
        command = [sys.executable, '-m', f'distributed.cli.dask_{kind}', *options[kind], '--no-dashboard']
        environment = {**os.environ, 'CALLS': str(tmp_path / 'calls')}
        with open(tmp_path / f'{kind}{len(processes)}.log', 'w') as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return processes[-1]

    started.address = address
    yield started
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.soak
def test_a_killed_worker_and_a_restarted_scheduler_cost_no_more_than_an_epoch_each(tmp_path, start):
    tools = tmp_path / 'tools'
    tools.mkdir()
    (tools / 'train.py').write_text(TRAIN)
    (tools / 'test.py').write_text(TEST)
    matrix_file = tmp_path / 'matrix.yml'
    oim = 'oim/oim_r18-w8-fpn_10e_synthps-mini.py'
    content = dict(
        data=str(tmp_path),
        options={'train_cfg.max_epochs': EPOCHS},
        seeds=2,
        teachers={'big': {'config': oim}},
        students={'small': {'config': oim}},
        methods={'plain': {}, 'GDPS': {'distiller': 'gdps'}},
    )
    matrix_file.write_text(yaml.safe_dump(content, sort_keys=False))
    matrix = read_matrix(matrix_file, CONFIGS)
    finished = []
    scheduler, workers = start('scheduler'), [start('worker'), start('worker')]
    benchmark = threading.Thread(
        target=lambda: finished.append(
            run_benchmark(matrix, tools, tmp_path / 'work', tmp_path / 'out', 1, server=start.address)
        ),
        daemon=True,
    )
    benchmark.start()

    wait_for(tmp_path, lambda call: call[1] == '2' and call[2] == str(workers[0].pid))
    assert {pid for _, _, pid in calls(tmp_path)} == {str(worker.pid) for worker in workers}  # both had something to do
    workers[0].send_signal(signal.SIGKILL)
    killed_at = len(calls(tmp_path))
    wait_for(tmp_path, lambda call: call[1] == '2', killed_at)
    scheduler.send_signal(signal.SIGKILL)
    scheduler.wait()
    workers[1].wait(timeout=120)  # a worker ends with its scheduler, and with it what it runs
    start('scheduler'), start('worker')
    benchmark.join(timeout=300)

    assert finished == [True]
    rows = list(csv.DictReader((tmp_path / 'out/results.csv').read_text().splitlines()))
    assert len(rows) == 5 and {row['status'] for row in rows} == {'finished'}
    times = Counter((run, epoch) for run, epoch, _ in calls(tmp_path))
    assert len(times) == 5 * EPOCHS and sum(times.values()) <= 5 * EPOCHS + 2  # two epochs were cut off
    names = [run for run, _, _ in calls(tmp_path)]
    assert names.index('gdps_big_seed0') > max(i for i, name in enumerate(names) if name == 'big')


def calls(tmp_path):
    """The epochs that began: the run, the epoch, and the process of the worker."""
    path = tmp_path / 'calls'
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(tmp_path, is_there, begin=0):
    for _ in range(4000):
        if any(map(is_there, calls(tmp_path)[begin:])):
            return
        time.sleep(0.1)
    pytest.fail(f'nothing of the kind in {calls(tmp_path)}')
