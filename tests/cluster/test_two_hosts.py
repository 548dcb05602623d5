"""Two hosts: two network namespaces of this machine, which reach each other through one virtual cable only."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.soak
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'
HOSTS = ('10.77.0.1', '10.77.0.2')


def ip(*words):
    return subprocess.run(['ip', *words], capture_output=True, text=True)


@pytest.fixture
def hosts():
    """The names of two network namespaces, with the addresses HOSTS."""
    if os.geteuid() != 0 or shutil.which('ip') is None:
        pytest.skip('network namespaces need root and iproute2')
    names = [f'mmps{os.getpid()}{letter}' for letter in 'ab']
    if ip('netns', 'add', names[0]).returncode:
        pytest.skip('this machine allows no network namespaces')
    ip('netns', 'add', names[1])
    ip('link', 'add', 'mmps0', 'netns', names[0], 'type', 'veth', 'peer', 'name', 'mmps0', 'netns', names[1])
    for name, address in zip(names, HOSTS, strict=True):
        ip('-n', name, 'addr', 'add', f'{address}/24', 'dev', 'mmps0')
        for link in ('lo', 'mmps0'):
            assert ip('-n', name, 'link', 'set', link, 'up').returncode == 0
    yield names
    for name in names:
        for pid in ip('netns', 'pids', name).stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        ip('netns', 'del', name)


@pytest.fixture
def start(hosts, environment, options, tmp_path):
    """start(log, epochs) -> the two launchers of a training, one a host, as a scheduler starts them."""

    def launch(log, epochs, *more):
        launchers = []
        for rank, name in enumerate(hosts):
            variables = environment | {
                **dict(NNODES='2', NODE_RANK=str(rank), MASTER_ADDR=HOSTS[0], PORT='29500', GLOO_SOCKET_IFNAME='mmps0'),
                'PATH': f'{Path(sys.executable).parent}:{environment["PATH"]}',
            }
            tool = [str(ROOT / 'tools/dist_train.sh'), str(CONFIG), '1', '--resume', '--work-dir', str(tmp_path / 'run')]
            with open(tmp_path / f'{log}{rank}.log', 'w') as file:
                command = ['ip', 'netns', 'exec', name, *tool, *options(epochs), *more]
                launchers.append(subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=file, stderr=file))
        return launchers

    return launch


def wait_for_checkpoint(launchers, path):
    while not (path / 'run/last_checkpoint').exists():
        assert all(launcher.poll() is None for launcher in launchers), (path / 'first0.log').read_text()[-3000:]
        time.sleep(0.2)


def resumes(start, steps_of, path):
    """Starts the training again on both hosts, and checks that it goes on."""
    for launcher in start('second', 3):
        assert launcher.wait(timeout=900) == 0, (path / 'second0.log').read_text()[-6000:]
    assert torch.load(path / 'run/epoch_3.pth', map_location='cpu')['meta']['iter'] == 9
    assert re.search(r'resumed epoch: [12], iter: ', (path / 'second0.log').read_text())
    assert [step['iter'] for step in steps_of(path / 'run')].count(1) == 1


def test_a_host_that_dies_ends_the_job_and_the_job_started_again_resumes(hosts, start, steps_of, report, tmp_path):
    launchers = start('first', 3)
    wait_for_checkpoint(launchers, tmp_path)
    for pid in ip('netns', 'pids', hosts[1]).stdout.split():  # the launcher too: the host is gone
        os.kill(int(pid), signal.SIGKILL)
    died = time.monotonic()
    assert launchers[0].wait(timeout=300) != 0 and launchers[1].wait(timeout=60) != 0
    report(other_host_ended_after=round(time.monotonic() - died, 1))
    assert 'error: rank 0 lost another rank' in (tmp_path / 'first0.log').read_text()
    resumes(start, steps_of, tmp_path)


def test_a_cut_cable_ends_both_hosts_and_the_job_started_again_resumes(hosts, start, steps_of, report, tmp_path):
    launchers = start('first', 3, 'env_cfg.dist_cfg.timeout=20')
    wait_for_checkpoint(launchers, tmp_path)
    ip('-n', hosts[1], 'link', 'set', 'mmps0', 'down')
    cut = time.monotonic()
    try:
        assert all(launcher.wait(timeout=300) != 0 for launcher in launchers)
    finally:
        ip('-n', hosts[1], 'link', 'set', 'mmps0', 'up')
    report(both_hosts_ended_after=round(time.monotonic() - cut, 1))
    resumes(start, steps_of, tmp_path)
