"""A training that is killed at any moment and resumed ends as one that never stopped: bit for bit, randomness and all."""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope

from mmps.registry import MODELS
from mmps.synthetic import generate

ROOT = Path(__file__).parents[2]

# A GDPS student: two epochs of 6 iterations, each saved and validated, the best kept.
BY_EPOCH = f"""
_base_ = '{ROOT}/configs/gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py'
model = dict(teacher_ckpt='TEACHER', architecture=dict(test_cfg=dict(rcnn=dict(score_thr=0.0))))
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best='search/mAP'), logger=dict(interval=1))
"""
# An OIM: 10 iterations, of which the seventh begins the data set again; saved after the fourth, the eighth and the last.
BY_ITERATION = f"""
_base_ = ['{ROOT}/configs/_base_/models/oim_r18-w8_fpn.py', '{ROOT}/configs/_base_/datasets/synthps.py',
          '{ROOT}/configs/_base_/schedules/schedule_500it_scratch.py']
model = dict(test_cfg=dict(rcnn=dict(score_thr=0.0)))
train_cfg = dict(max_iters=10, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=4, save_best='search/mAP'), logger=dict(interval=1))
"""
DATA = """
data_root = 'ROOT'
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = (224, 128)
train_dataloader = dict(num_workers=WORKERS, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
val_evaluator = dict(score_thr=0.0)
"""
# train.py, which stops for good before it renames the N-th file of its checkpoints: N, and a file that says so.
STOPPING = f"""
import os, runpy, sys, time
count, stopped, fsync = int(sys.argv.pop(1)), sys.argv.pop(1), os.fsync
def stop(file):
    global count
    fsync(file)
    name = os.path.basename(os.readlink(f'/proc/self/fd/{{file}}'))
    count -= '.pth' in name or name.startswith('last_checkpoint')
    if count == 0:
        open(stopped, 'w').close()
        time.sleep(600)
os.fsync = stop
sys.argv[0] = '{ROOT}/tools/train.py'
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """A folder with the data set, a teacher's checkpoint and the configs, by epoch and by iteration, by their data workers."""
    folder = tmp_path_factory.mktemp('inputs')
    generate(folder / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    teacher = Config.fromfile(ROOT / 'configs/oim/oim_r18-w32-fpn_10e_synthps-mini.py').model
    teacher.roi_head.reid_loss.num_identities = 10
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(teacher)
    model.memory.lut.copy_(torch.nn.functional.normalize(torch.randn_like(model.memory.lut)))
    torch.save({'state_dict': model.state_dict()}, folder / 'teacher.pth')
    for name, text in (('epoch', BY_EPOCH), ('iteration', BY_ITERATION)):
        for workers in (0, 2):
            (folder / f'{name}_{workers}.py').write_text(
                (text + DATA)
                .replace('TEACHER', str(folder / 'teacher.pth'))
                .replace('ROOT', str(folder / 'tiny'))
                .replace('WORKERS', str(workers))
            )
    (folder / 'stopping.py').write_text(STOPPING)
    return folder


@pytest.fixture(scope='module')
def whole(server, inputs, tmp_path_factory):
    """whole(config) -> the work directory of a training with it that was never broken off, and the seconds that it took."""
    made = {}

    def get(config):
        if config not in made:
            folder, started = tmp_path_factory.mktemp(config), time.monotonic()
            succeeded(server('train.py', inputs / f'{config}.py', '--work-dir', folder))
            made[config] = folder, time.monotonic() - started
        return made[config]

    return get


def succeeded(done):
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def killed(call, moment) -> bool:
    """Kills it as soon as ``moment()`` is true; whether it was still running."""
    while not moment() and call.is_running:
        time.sleep(0.005)
    if call.is_running:
        call.kill()
    done = call.wait()
    assert done.returncode in (0, -signal.SIGKILL), done.stdout[-3000:] + done.stderr[-3000:]
    return done.returncode != 0


def logged(folder, words):
    """moment: a line of the log has them."""
    return lambda: any(words in path.read_text() for path in folder.glob('2*/*.log'))


def after(seconds):
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def latest(folder):
    return Path((folder / 'last_checkpoint').read_text())


def assert_resumed_as_whole(folder, whole):
    """The same files, checkpoints and best ones, whatever is in them, and the same entries in the log, but for times."""
    assert {path.name for path in folder.glob('*.*')} == {path.name for path in whole.glob('*.*')}
    for path in whole.glob('*.pth'):
        one, other = (torch.load(each / path.name, map_location='cpu') for each in (folder, whole))
        for checkpoint in (one, other):
            assert checkpoint['state_dict'] and checkpoint['message_hub']
            checkpoint['meta'] = {name: checkpoint['meta'][name] for name in ('epoch', 'iter', 'seed')}
        assert different(one, other) == [], path.name
    assert latest(folder).name == latest(whole).name
    entries = {}
    for path in folder.glob('2*/vis_data/scalars.json'):
        for entry in scalars(path):
            assert entries.setdefault((entry['step'], 'search/mAP' in entry), entry) == entry
    (wanted,) = whole.glob('2*/vis_data/scalars.json')
    assert entries == {(entry['step'], 'search/mAP' in entry): entry for entry in scalars(wanted)}


def scalars(path):
    """The entries, without times; the last line of a killed training may be cut off."""
    lines = [line for line in path.read_text().splitlines() if line.endswith('}')]
    return [{name: value for name, value in json.loads(line).items() if not name.endswith('time')} for line in lines]


# What the clock, the folder or the start of a run decides.
PASSING = (
    'time',
    'eta',
    'cfg',
    'experiment_name',
    'last_ckpt',
    'best_ckpt',
    'runtime_info.epoch',
    'runtime_info.iter',
    'runtime_info.keep_ckpt_ids',
)


def different(one, other, name='') -> list[str]:
    """Names of what is not the same in both, bit for bit."""
    if isinstance(one, HistoryBuffer):
        one, other = vars(one), vars(other)
        one, other = ({key: value for key, value in each.items() if key != '_statistics_methods'} for each in (one, other))
    if isinstance(one, dict):
        assert not isinstance(other, dict) or one.keys() == other.keys(), (name, one.keys() ^ other.keys())
        return [
            found
            for key in one
            if not f'{name}.{key}'.endswith(PASSING)
            for found in different(one[key], other[key], f'{name}.{key}')
        ]
    if isinstance(one, list | tuple) and len(one) == len(other):
        return [
            found for index, pair in enumerate(zip(one, other, strict=True)) for found in different(*pair, f'{name}.{index}')
        ]
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, np.ndarray):
        return [] if np.array_equal(one, other, equal_nan=True) else [name]
    return [] if one == other else [name]


def resume(server, config, folder):
    """Its stdout. What a killed call left unfinished is gone as soon as there is something new."""
    done = succeeded(server('train.py', config, '--work-dir', folder, '--resume'))
    assert not list(folder.glob('*.tmp'))
    return done.stdout


@pytest.mark.soak
def test_killed_within_an_epoch_with_data_workers(server, inputs, whole, tmp_path):
    config = inputs / 'epoch_2.py'
    assert killed(server.start('train.py', config, '--work-dir', tmp_path), logged(tmp_path, 'Epoch(train) [2][3/6]'))
    assert latest(tmp_path).name == 'epoch_1.pth'
    resume(server, config, tmp_path)
    assert_resumed_as_whole(tmp_path, whole('epoch_2')[0])


@pytest.mark.parametrize(
    'saved, unfinished, count',
    [
        # epoch 1 writes the checkpoint, last_checkpoint, the best one, and again the first two, which now name the best one
        (['epoch_1.pth'], 'epoch_2.pth.*.tmp', 6),
        pytest.param(['epoch_1.pth', 'epoch_2.pth'], 'last_checkpoint.*.tmp', 7, marks=pytest.mark.soak),
    ],
    ids=['checkpoint', 'last_checkpoint'],
)
def test_killed_while_a_file_is_written(saved, unfinished, count, server, inputs, whole, tmp_path):
    config, folder, stopped = inputs / 'epoch_2.py', tmp_path / 'work', tmp_path / 'stopped'
    assert killed(server.start(inputs / 'stopping.py', count, stopped, config, '--work-dir', folder), stopped.exists)
    assert sorted(path.name for path in folder.glob('epoch_*.pth')) == saved
    assert list(folder.glob(unfinished)) and latest(folder).name == 'epoch_1.pth'
    resume(server, config, folder)
    assert_resumed_as_whole(folder, whole('epoch_2')[0])


@pytest.mark.soak
def test_killed_in_the_last_validation_it_is_made_up(server, inputs, whole, tmp_path):
    config = inputs / 'epoch_2.py'
    assert killed(server.start('train.py', config, '--work-dir', tmp_path), logged(tmp_path, 'Epoch(val) [2][ 5/16]'))
    assert latest(tmp_path).name == 'epoch_2.pth'
    stdout = resume(server, config, tmp_path)
    assert 'Epoch(train)' not in stdout and stdout.count('search/mAP') >= 1
    assert_resumed_as_whole(tmp_path, whole('epoch_2')[0])


@pytest.mark.soak
def test_killed_where_iterations_are_counted(server, inputs, whole, tmp_path):
    config = inputs / 'iteration_0.py'
    assert killed(server.start('train.py', config, '--work-dir', tmp_path), logged(tmp_path, 'Iter(train) [ 9/10]'))
    assert latest(tmp_path).name == 'iter_8.pth'
    resume(server, config, tmp_path)
    assert_resumed_as_whole(tmp_path, whole('iteration_0')[0])


@pytest.mark.soak
def test_killed_where_iterations_are_counted_with_data_workers(server, inputs, whole, tmp_path):
    config = inputs / 'iteration_2.py'
    assert killed(server.start('train.py', config, '--work-dir', tmp_path), logged(tmp_path, 'Iter(train) [ 9/10]'))
    resume(server, config, tmp_path)
    assert_resumed_as_whole(tmp_path, whole('iteration_2')[0])


@pytest.mark.soak
@pytest.mark.parametrize('workers', [0, 2])
def test_killed_at_ten_random_moments(workers, server, inputs, whole, tmp_path, report):
    """Five by the clock, three while a file is written, two in a validation."""
    config, chance = inputs / f'epoch_{workers}.py', random.Random(workers)
    reference, seconds = whole(config.stem)
    moments, late = [], 0
    for number in range(10):
        folder, stopped, script = tmp_path / f'{number}', tmp_path / f'{number}_stopped', ['train.py']
        if number < 5:
            moments.append(f'{chance.uniform(0, seconds):.1f} s')
            moment = after(float(moments[-1].split()[0]))
        elif number < 8:
            script = [inputs / 'stopping.py', chance.randint(1, 10), stopped]
            moments.append(f'file {script[1]}')
            moment = stopped.exists
        else:
            moments.append(f'Epoch(val) [{chance.randint(1, 2)}][{chance.randint(1, 16):2}/16]')
            moment = logged(folder, moments[-1])
        late += not killed(server.start(*script, config, '--work-dir', folder), moment)
        resume(server, config, folder)
        assert_resumed_as_whole(folder, reference)
    report(killed=10 - late, ended_before=late, resumed_bit_for_bit=10, moments=moments)
