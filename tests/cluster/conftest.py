"""A Slurm cluster of one node, as local processes, and two network namespaces as two hosts."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from mmps.synthetic import generate

ROOT = Path(__file__).parents[2]
SLURM_CONF = """
ClusterName=mmps
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=gpus Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


class Slurm:
    """The environment of the commands, and what they say about jobs."""

    def __init__(self, folder, environment):
        self.folder = folder
        self.environment = environment | {
            'SLURM_CONF': str(folder / 'slurm.conf'),
            'PATH': f'{Path(sys.executable).parent}:{environment["PATH"]}',
        }

    def call(self, *command, check=True, timeout=600, **more):
        done = subprocess.run(
            [*map(str, command)],
            capture_output=True,
            text=True,
            env=self.environment | more,
            timeout=timeout,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
        return done

    def submit(self, script, *options):
        """Returns the number of a batch job."""
        path = self.folder / 'job.sh'
        path.write_text(script)
        return self.call('sbatch', '--parsable', *options, path).stdout.strip()

    def state(self, job):
        words = self.call('scontrol', 'show', 'job', job).stdout.split()
        return next(word.removeprefix('JobState=') for word in words if word.startswith('JobState='))

    def wait(self, job, states, seconds=900):
        end = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            assert time.monotonic() < end, self.call('scontrol', 'show', 'job', job).stdout
            time.sleep(1)
        return state


@pytest.fixture(scope='session')
def slurm(tmp_path_factory, environment):
    """A running Slurm cluster: one node with two pretended GPUs."""
    missing = [name for name in ('munged', 'slurmctld', 'slurmd', 'srun') if shutil.which(name) is None]
    if missing:
        pytest.skip(f'Slurm is not installed ({", ".join(missing)}): apt-get install slurm-wlm munge')
    if os.geteuid() != 0:
        pytest.skip('slurmd needs root')
    folder = tmp_path_factory.mktemp('slurm')
    host = socket.gethostname().split('.')[0]
    (folder / 'slurm.conf').write_text(SLURM_CONF.format(folder=folder, host=host, controller=free_port(), daemon=free_port()))
    (folder / 'gres.conf').write_text('Name=gpu File=/dev/zero\nName=gpu File=/dev/full\n')  # any two device files
    for name in ('state', 'spool'):
        (folder / name).mkdir()
    key = folder / 'munge.key'
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    cluster = Slurm(folder, environment)
    files = [f'--{kind}-file={folder}/munge.{kind}' for kind in ('key', 'pid', 'log', 'seed')]
    daemons = [
        ['munged', '--foreground', '--force', f'--socket={folder}/munge.socket', *files],
        ['slurmctld', '-D', '-i'],
        ['slurmd', '-D', '-N', host],
    ]
    with ExitStack() as stack:
        for command in daemons:
            log = stack.enter_context(open(folder / f'{command[0]}.out', 'w'))
            process = subprocess.Popen(command, stdout=log, stderr=log, env=cluster.environment, stdin=subprocess.DEVNULL)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            time.sleep(1)
        end = time.monotonic() + 60
        while 'idle' not in cluster.call('sinfo', '--noheader', '--format=%T', check=False).stdout:
            assert time.monotonic() < end, (folder / 'slurmctld.log').read_text() + (folder / 'slurmd.out').read_text()
            time.sleep(1)
        stack.callback(time.sleep, 3)
        stack.callback(cluster.call, 'scancel', '--user=root', check=False)
        yield cluster


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cluster') / 'tiny'
    generate(folder, 'cuhk-sysu', 'tiny', progress=False, style='classic')
    return folder


@pytest.fixture
def options(data):
    """options(epochs) -> --cfg-options of a short and small training that does not validate."""

    def make(epochs):
        return [
            '--cfg-options',
            *(f'{split}_dataloader.dataset.data_root={data}' for split in ('train', 'val', 'test')),
            'train_dataloader.dataset.pipeline.2.scale=(224,128)',
            'default_hooks.logger.interval=1',
            f'train_cfg.max_epochs={epochs}',
            'train_cfg.val_interval=99',
        ]

    return make


@pytest.fixture
def steps_of():
    """steps_of(work_dir) -> all training steps that it logged, in order."""

    def read(work_dir):
        files = sorted(work_dir.glob('2*/vis_data/scalars.json'))
        return [each for file in files for each in map(json.loads, file.read_text().splitlines()) if 'loss' in each]

    return read
