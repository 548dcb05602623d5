"""Several processes at once, as torchrun and mpirun start them: one that dies or hangs, restarts, and sharded models."""

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
from mmengine.config import Config
from mmengine.registry import STRATEGIES, DefaultScope

from mmps.cli.launching import launch_by_mpi
from mmps.fileio.checkpoint import load_exactly
from mmps.registry import MODELS
from mmps.synthetic import generate

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'
DISTIL = ROOT / 'configs/gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py'
TWO_RANKS = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
MEMORY = 'roi_head.reid_loss.memory.'

# Nothing is drawn at random, so that runs can be compared.
NO_CHANCE = [
    'train_dataloader.dataset.pipeline.3.prob=0.0',
    'model.train_cfg.rpn.sampler.num=100000',
    'model.train_cfg.rcnn.sampler.num=100000',
]

# A tool whose rank 1 gets a signal in the middle.
TOOL = """
import os, torch
from mmps.cli import config_parser, load_config, run_tool

def main():
    load_config(config_parser(None).parse_args())
    for step in range(1000):
        if step == 5 and torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), {signal})
        torch.distributed.all_reduce(torch.ones(1))

run_tool(main)
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('launching') / 'tiny'
    generate(folder, 'cuhk-sysu', 'tiny', progress=False, style='classic')
    return folder


def options(data, epochs, *more):
    """--cfg-options of a short and small run that does not validate before its end."""
    return [
        '--cfg-options',
        *(f'{split}_dataloader.dataset.data_root={data}' for split in ('train', 'val', 'test')),
        'train_dataloader.dataset.pipeline.2.scale=(224,128)',
        'val_dataloader.dataset.pipeline.1.scale=(224,128)',
        'test_dataloader.dataset.pipeline.1.scale=(224,128)',
        'default_hooks.logger.interval=1',
        f'train_cfg.max_epochs={epochs}',
        'train_cfg.val_interval=99',
        *more,
    ]


def run(command, folder, environment):
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-6000:]
    return done


def ranks(launcher: subprocess.Popen) -> dict[int, int]:
    """Process ids by rank of what a torchrun has started."""
    found = {}
    for pid in Path(f'/proc/{launcher.pid}/task/{launcher.pid}/children').read_text().split():
        variables = dict(line.split('=', 1) for line in Path(f'/proc/{pid}/environ').read_text().split('\0') if '=' in line)
        if 'RANK' in variables:
            found[int(variables['RANK'])] = int(pid)
    return found


def cause(stderr):
    """The rank that torchrun's summary gives as the root cause."""
    return int(stderr.split('Root Cause')[1].split('rank      : ')[1].split()[0])


def load(path):
    return torch.load(path, map_location='cpu')


@pytest.mark.parametrize(
    ('received', 'timeout', 'within', 'words'),
    [
        (signal.SIGKILL, 600, 60, 'by peer'),
        pytest.param(signal.SIGSTOP, 10, 90, 'Timed out waiting 10000ms', marks=pytest.mark.soak),
    ],
)
def test_a_lost_rank_is_the_cause_and_the_others_say_one_line(received, timeout, within, words, environment, tmp_path, report):
    (tmp_path / 'tool.py').write_text(TOOL.format(signal=int(received)))
    command = [
        *TWO_RANKS,
        '--monitor-interval=5',
        'tool.py',
        STUDENT,
        '--launcher',
        'pytorch',
        '--cfg-options',
        f'env_cfg.dist_cfg.timeout={timeout}',
    ]
    started = time.monotonic()
    done = subprocess.run([*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    seconds = time.monotonic() - started
    assert done.returncode == 1 and cause(done.stderr) == 1, done.stderr
    before = done.stderr.split('torch/distributed/run.py')[0]  # then comes torchrun's own traceback, with its summary
    assert before.count('error: rank 0 lost another rank') == 1 and words in before, done.stderr
    assert '[rank0]' not in before and seconds < within
    report(signal=received.name, timeout=timeout, ended_after=round(seconds, 1))


@pytest.fixture
def mpi(monkeypatch):
    """mpi(rank, ...) sets what mpirun sets."""
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)

    def start(rank, size, local_rank, local_size):
        names = dict(RANK=rank, SIZE=size, LOCAL_RANK=local_rank, LOCAL_SIZE=local_size)
        for name, value in names.items():
            monkeypatch.setenv(f'OMPI_COMM_WORLD_{name}', str(value))

    return start


def test_a_rank_of_mpi_has_its_own_device_and_the_machine_itself_as_master(mpi):
    mpi(3, 4, 3, 4)
    launch_by_mpi()
    assert {name: os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR')} == {
        'RANK': '3',
        'WORLD_SIZE': '4',
        'LOCAL_RANK': '3',
        'MASTER_ADDR': '127.0.0.1',
    }


def test_mpi_on_several_machines_asks_for_the_master_and_takes_it(mpi, monkeypatch):
    mpi(5, 8, 1, 4)
    with pytest.raises(ValueError, match='MASTER_ADDR'):
        launch_by_mpi()
    monkeypatch.setenv('MASTER_ADDR', '10.0.0.1')
    launch_by_mpi()
    assert os.environ['MASTER_ADDR'] == '10.0.0.1' and os.environ['LOCAL_RANK'] == '1'


def test_the_mpi_launcher_without_mpirun_says_so(mpi):
    with pytest.raises(ValueError, match='mpirun'):
        launch_by_mpi()


def test_a_model_without_the_blocks_to_shard_is_refused(tmp_path):
    strategy = STRATEGIES.build(dict(type='ShardedStrategy', blocks=['SwinBlock'], work_dir=str(tmp_path)))
    with pytest.raises(ValueError, match='no module of the model is a SwinBlock'):
        strategy.prepare(torch.nn.Linear(1, 1))


def sharded(config, folder):
    """A config file: ``config``, sharded."""
    path = folder / f'sharded_{config.name}'
    path.write_text(f"_base_ = ['{config}', '{ROOT}/configs/_base_/strategies/fsdp.py']\n")
    return path


def train(config, work_dir, environment, *arguments, ranks=TWO_RANKS):
    run(
        [*ranks, ROOT / 'tools/train.py', config, '--launcher', 'pytorch', '--work-dir', work_dir, *arguments],
        work_dir.parent,
        environment,
    )
    return sorted(work_dir.glob('2*/vis_data/scalars.json'))[-1].read_text()


@pytest.mark.soak
def test_a_sharded_training_saves_whole_weights_for_a_plain_detector(data, environment, tmp_path):
    train(sharded(STUDENT, tmp_path), tmp_path / 'run', environment, *options(data, 1))
    assert not list(tmp_path.rglob('*.pth.tmp'))
    with DefaultScope.overwrite_default_scope('mmps'):
        detector = MODELS.build(Config.fromfile(STUDENT).model)
    load_exactly(detector, str(tmp_path / 'run/epoch_1.pth'), 'checkpoint')
    assert detector.memory.lut.shape == (10, 128) and (detector.memory.lut.norm(dim=1) - 1).abs().max() < 1e-5


def losses(scalars):
    return torch.tensor([scalar['loss'] for scalar in map(json.loads, scalars.splitlines()) if 'loss' in scalar])


@pytest.mark.soak
@pytest.mark.parametrize('table', ['whole lookup table', 'sharded lookup table'])
def test_a_sharded_training_is_the_unsharded_one(table, data, environment, tmp_path, report):
    # SGD: with Adam a gradient clipped to a wrong length would hardly show.
    sgd = ['optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.lr=0.01', 'optim_wrapper.clip_grad.max_norm=1.0']
    arguments = options(data, 2, *NO_CHANCE, *sgd)
    plain = losses(train(STUDENT, tmp_path / 'plain', environment, *arguments))
    if table == 'sharded lookup table':
        arguments += ['model.roi_head.reid_loss.sharded=True', 'model.roi_head.reid_loss.rows_at_once=4']
    shards = losses(train(sharded(STUDENT, tmp_path), tmp_path / 'sharded', environment, *arguments))
    assert len(plain) == 6 and plain.isfinite().all()
    torch.testing.assert_close(shards, plain, rtol=1e-4, atol=0)
    one, other = (load(tmp_path / name / 'epoch_2.pth')['state_dict'] for name in ('plain', 'sharded'))
    assert one.keys() == other.keys()
    apart = max((one[name].double() - other[name].double()).abs().max().item() for name in one)
    assert apart < 1e-4, apart
    report(losses_apart=(shards - plain).abs().max().item(), weights_apart=apart)


@pytest.mark.soak
def test_a_sharded_training_resumes_as_if_never_broken_off_and_is_tested_unsharded(data, environment, tmp_path, report):
    config, arguments = sharded(STUDENT, tmp_path), options(data, 2, *NO_CHANCE)
    train(config, tmp_path / 'whole', environment, *arguments)
    (tmp_path / 'resumed').mkdir()
    train(config, tmp_path / 'resumed', environment, '--resume', tmp_path / 'whole/epoch_1.pth', *arguments)
    whole, resumed = (load(tmp_path / name / 'epoch_2.pth') for name in ('whole', 'resumed'))
    for name, value in whole['state_dict'].items():
        assert torch.equal(resumed['state_dict'][name], value), name
    moments = whole['optimizer']['state']
    assert all(
        torch.equal(resumed['optimizer']['state'][name]['exp_avg_sq'], state['exp_avg_sq'])
        and not torch.equal(state['exp_avg'], state['exp_avg_sq'])
        for name, state in moments.items()
    )
    tested = [sys.executable, ROOT / 'tools/test.py', config, tmp_path / 'resumed/epoch_2.pth', *options(data, 1)]
    run(tested, tmp_path, environment)
    report(weights=len(whole['state_dict']), moments=len(moments))


@pytest.mark.soak
def test_a_sharded_teacher_and_student_distil_as_unsharded_ones(data, environment, tmp_path, report):
    train(STUDENT, tmp_path / 'teacher', environment, *options(data, 1))
    arguments = options(
        data,
        1,
        *NO_CHANCE[:1],
        'model.teacher.cfg_path=mmps::oim/oim_r18-w8-fpn_10e_synthps-mini.py',
        f'model.teacher_ckpt={tmp_path / "teacher/epoch_1.pth"}',
    )
    plain = losses(train(DISTIL, tmp_path / 'plain', environment, *arguments))
    config = sharded(DISTIL, tmp_path)
    shards = losses(train(config, tmp_path / 'sharded', environment, *arguments))
    torch.testing.assert_close(shards, plain, rtol=1e-4, atol=0)
    one, other = (load(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('plain', 'sharded'))
    assert one.keys() == other.keys() and not any(name.startswith(('teacher.', 'architecture.')) for name in one)
    torch.testing.assert_close(other[f'{MEMORY}lut'], one[f'{MEMORY}lut'], rtol=0, atol=1e-4)
    arguments[arguments.index('train_cfg.max_epochs=1')] = 'train_cfg.max_epochs=2'
    train(config, tmp_path / 'sharded', environment, '--resume', *arguments)
    assert load(tmp_path / 'sharded/epoch_2.pth')['meta']['iter'] == 6
    report(losses_apart=(shards - plain).abs().max().item())


@pytest.mark.soak
def test_after_a_kill_all_ranks_go_on_from_the_last_checkpoint(data, environment, tmp_path, report):
    environment = environment | {
        'MAX_RESTARTS': '1',
        'PORT': '29701',
        'PATH': f'{Path(sys.executable).parent}:{environment["PATH"]}',
    }
    command = [str(ROOT / 'tools/dist_train.sh'), str(STUDENT), '2', '--resume', '--work-dir', 'run', *options(data, 4)]
    with open(tmp_path / 'log', 'w') as log:
        launcher = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env=environment)
    try:
        while not (tmp_path / 'run/last_checkpoint').exists():
            assert launcher.poll() is None
            time.sleep(0.05)
        os.kill(ranks(launcher)[1], signal.SIGKILL)
        killed = time.monotonic()
        status = launcher.wait(timeout=900)
    finally:
        launcher.terminate()
    text = (tmp_path / 'log').read_text()
    assert status == 0, text[-6000:]
    assert load(tmp_path / 'run/epoch_4.pth')['meta']['iter'] == 12
    resumed = re.search(r'resumed epoch: (\d), iter: (\d+)', text)
    assert resumed and int(resumed[1]) >= 1, text[-6000:]
    assert len(re.findall(r'Epoch\(train\) +\[1\]\[1/3\]', text)) == 1  # the first epoch was not trained again
    report(resumed=resumed[0], seconds_after_kill=round(time.monotonic() - killed, 1))


@pytest.mark.soak
def test_two_ranks_of_mpi_train(data, environment, tmp_path, report):
    """mpirun is these variables and a process a rank."""
    command = [
        sys.executable,
        ROOT / 'tools/train.py',
        STUDENT,
        '--launcher',
        'mpi',
        '--work-dir',
        tmp_path / 'run',
        *options(data, 1),
    ]
    started = [
        subprocess.Popen(
            [*map(str, command)],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            env=environment
            | {
                'OMPI_COMM_WORLD_RANK': rank,
                'OMPI_COMM_WORLD_LOCAL_RANK': rank,
                'OMPI_COMM_WORLD_SIZE': '2',
                'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
                'MASTER_PORT': '29705',
            },
        )
        for rank in '01'
    ]
    try:
        assert [process.wait(timeout=900) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    checkpoint = load(tmp_path / 'run/epoch_1.pth')
    assert checkpoint['meta']['iter'] == 3  # 24 scenes in batches of 4 over two ranks
    assert (checkpoint['state_dict'][f'{MEMORY}lut'].norm(dim=1) - 1).abs().max() < 1e-5
    report(iterations=3)
