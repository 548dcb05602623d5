"""Wrong input ends a tool with one line that names the thing and what was expected, and overwrites nothing.

The data sets' own files are in tests/datasets/test_bad_input.py, the files that mmps writes in the tests beside their readers.
"""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mmps.distillation.lookup_table import Header, save_lookup_table
from mmps.distillation.teachers.cache_files import Header as CacheHeader
from mmps.distillation.teachers.cache_files import create_cache
from mmps.evaluation import Predictions, save_predictions
from mmps.registry import MODELS
from mmps.synthetic import generate

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'
TEACHER = ROOT / 'configs/oim/oim_r18-w32-fpn_10e_synthps-mini.py'
DISTIL = ROOT / 'configs/gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py'
ANNOTATIONS = 'annotation/test/train_test/'


def build(config, **changes):
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(changes)
    with DefaultScope.overwrite_default_scope('mmps'):
        return MODELS.build(cfg.model)


@pytest.fixture(scope='module')
def given(tmp_path_factory):
    """A folder with a data set and what was made of others: checkpoints, predictions, a lookup table, teacher caches."""
    folder = tmp_path_factory.mktemp('given')
    generate(folder / 'data', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    persons = 'model.roi_head.reid_loss.num_identities'
    student = build(STUDENT, **{persons: 10, 'model.backbone.base_channels': 8, 'model.neck.in_channels': [8, 16, 32, 64]})
    for name, model in (('student', student), ('teacher', build(TEACHER, **{persons: 7}))):
        torch.save({'state_dict': model.state_dict()}, folder / f'{name}.pth')
    for name in ('text.pth', 'text.npz'):
        (folder / name).write_text('neither a checkpoint nor an array\n')
    torch.save({'state_dict': {'x': 'text'}}, folder / 'words.pth')
    embeddings = np.ones((1, 4), np.float32)
    save_predictions(
        folder / 'other.npz',
        Predictions(('other.jpg',), [np.array([[0, 0, 9, 9]], np.float32)], [np.ones(1, np.float32)], [embeddings], embeddings),
    )
    with np.load(folder / 'other.npz') as arrays:
        np.savez(folder / 'newer.npz', **{**arrays, 'format': np.array(99)})
        np.savez(folder / 'shapes.npz', **{**arrays, 'boxes': np.ones((1, 5), np.float32)})
    table = torch.ones(10, 128)
    save_lookup_table(folder / 'table.npz', Header('PRW', 'of other data', 10, 128, 'teacher.py', ''), table)
    save_lookup_table(folder / 'newer_table.npz', Header('CUHKSYSU', '', 10, 128, 'teacher.py', '', format=99), table)
    save_lookup_table(folder / 'odd_table.npz', Header('CUHKSYSU', '', 10, 64, 'teacher.py', ''), table)
    header = CacheHeader('mmps teacher cache 1', 'of other data', [], '', {}, 0.1, 0, 1, 1, 1, 10, 128, 'teacher', 'config')
    create_cache(
        folder / 'cache',
        header,
        lut=np.ones((10, 128)),
        image_ids=np.zeros(1),
        offsets=np.array([0, 1]),
        movements=np.zeros((1, 1, 4)),
        done=np.ones(1, bool),
    )
    shutil.copytree(folder / 'cache', folder / 'newer_cache')
    newer = json.loads((folder / 'cache/header.json').read_text()) | {'format': 'mmps teacher cache 99'}
    (folder / 'newer_cache/header.json').write_text(json.dumps(newer))
    return folder


def train(config=STUDENT, *changes, data=None, args=()):
    """A short and small training with these --cfg-options, on another data root where one is given."""
    return 'train.py', config, args, changes, data


def scored(checkpoint, *changes, config=STUDENT, data=None):
    return 'test.py', config, [checkpoint], changes, data


def distil(*changes):
    return train(DISTIL, *changes)


def looked_up(path):
    return train(STUDENT, f'custom_hooks.2.path={path}', 'custom_hooks.2.type=LookupTableHook')


def cached(path):
    return train(
        DISTIL,
        'model.distiller.losses=[loss_response]',
        'model.teacher_ckpt=None',
        'model.teacher._delete_=True',
        'model.teacher.type=CachedTeacher',
        f'model.teacher.path={path}',
    )


def copied(here, *gone):
    """The data set without files that match."""
    shutil.copytree(here.given / 'data', here.tmp / 'data')
    for pattern in gone:
        for path in (here.tmp / 'data').glob(pattern):
            path.unlink()
    return here.tmp / 'data'


def with_images(here, make):
    """The data set with other image files."""
    root = copied(here)
    for path in (root / 'Image/SSM').iterdir():
        make(path)
    return root


def pixel(path):
    Image.new('RGB', (1, 1)).save(path)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:100])


def written(here, text, name='config.py'):
    path = here.tmp / name
    path.write_text(text.replace('STUDENT', str(STUDENT)))
    return path


# What is called, of here (its folders are given, tmp and work), and words of the answer.
CASES = {
    # data
    'missing data root': (lambda here: train(data=here.tmp / 'nothing'), ['nothing', 'no such folder', 'CUHKSYSU']),
    'missing annotation file': (lambda here: train(data=copied(here, 'annotation/pool.mat')), ['pool.mat', 'no such file']),
    'missing queries': (lambda here: train(data=copied(here, f'{ANNOTATIONS}TestG100.mat')), ['TestG100.mat', 'no such file']),
    'missing training images': (lambda here: train(data=copied(here, 'Image/SSM/*')), ['.jpg', 'no such file']),
    'missing images, in a data worker': (
        lambda here: train(STUDENT, 'train_dataloader.num_workers=1', data=copied(here, 'Image/SSM/*')),
        ['.jpg', 'no such file'],
    ),
    'missing test images': (
        lambda here: scored(here.given / 'student.pth', data=copied(here, 'Image/SSM/*')),
        ['.jpg', 'no such file'],
    ),
    'damaged training images': (
        lambda here: train(data=with_images(here, cut_off)),
        ['.jpg', 'damaged image', '1 of 24', 'more than 1%'],
    ),
    'images of a pixel, in a data worker': (
        lambda here: train(STUDENT, 'train_dataloader.num_workers=1', data=with_images(here, pixel)),
        ['.jpg', '1 x 1 pixels', '1 of 24', 'more than 1%'],
    ),
    'damaged test images': (
        lambda here: scored(here.given / 'student.pth', data=with_images(here, cut_off)),
        ['.jpg', 'damaged image', 'CUHKSYSU'],
    ),
    # configs
    'missing config': (lambda here: train(here.tmp / 'nothing.py'), ['nothing.py', 'No such file']),
    'config that is no Python': (lambda here: train(written(here, 'x = 1', 'config.txt')), ['config.txt', 'py/yml/yaml/json']),
    'config of bytes': (lambda here: train(written(here, 'x\0\1')), ['config.py', 'expected a config']),
    'config with a syntax error': (
        lambda here: train(written(here, 'x = 1\nmodel = dict(\n')),
        ['config.py, line 2', "'(' was never closed"],
    ),
    'config with an unknown name': (
        lambda here: train(written(here, "_base_ = 'STUDENT'\n\nx = foo\n")),
        ['config.py, line 3', "'foo' is not defined"],
    ),
    'config without a model': (lambda here: train(written(here, 'x = 1')), ['config.py', 'expected a config with a model']),
    'missing base': (lambda here: train(written(here, "_base_ = './nothing.py'")), ['nothing.py', 'No such file']),
    'unknown name of a base': (
        lambda here: train(written(here, "_base_ = 'STUDENT'\nx = {{_base_.nothing}}\n")),
        ['config.py', 'nothing'],
    ),
    'option without a value': (lambda here: train(STUDENT, 'epochs'), ['--cfg-options', 'expected KEY=VALUE', "'epochs'"]),
    'option with an open bracket': (lambda here: train(STUDENT, 'x=[1,'), ['--cfg-options', "'x=[1,'", 'brackets']),
    'option of an entry that is not there': (
        lambda here: train(STUDENT, 'train_dataloader.dataset.pipeline.9.prob=1'),
        ['--cfg-options', 'Index 9'],
    ),
    'unknown model': (
        lambda here: train(STUDENT, 'model.backbone.type=ResNot'),
        ["no model of type 'ResNot'", 'did you mean', 'ResNet'],
    ),
    'unknown data set': (lambda here: train(STUDENT, 'train_dataloader.dataset.type=PRV'), ["'PRV'", 'did you mean', 'PRW']),
    'unknown transform': (
        lambda here: train(STUDENT, 'train_dataloader.dataset.pipeline.3.type=RandomFlop'),
        ["'RandomFlop'", 'RandomFlip'],
    ),
    'unknown argument': (
        lambda here: train(STUDENT, 'model.backbone.dept=18'),
        ["ResNet has no argument 'dept': did you mean depth"],
    ),
    'unknown argument of the loss': (
        lambda here: train(STUDENT, 'model.roi_head.reid_loss.scal=3'),
        ["OIMLoss has no argument 'scal': did you mean scale"],
    ),
    'unknown argument of a base class': (
        lambda here: train(STUDENT, 'train_dataloader.dataset.metainf=3'),
        ["CUHKSYSU has no argument 'metainf'", 'metainfo'],
    ),
    'unknown argument of a data loader': (
        lambda here: train(STUDENT, 'train_dataloader.num_worker=3'),
        ["DataLoader has no argument 'num_worker'", 'num_workers'],
    ),
    'unknown argument of the loop': (
        lambda here: train(STUDENT, 'train_cfg.max_epoch=3'),
        ["EpochBasedTrainLoop has no argument 'max_epoch'", 'max_epochs'],
    ),
    'unknown argument of the optimizer': (
        lambda here: train(STUDENT, 'optim_wrapper.optimizer.lrr=1'),
        ["has no argument 'lrr': did you mean lr"],
    ),
    'missing argument': (
        lambda here: train(STUDENT, 'model.backbone._delete_=True', 'model.backbone.type=ResNet'),
        ["ResNet: missing 1 required positional argument: 'depth'"],
    ),
    'no dict for a part': (lambda here: train(STUDENT, 'model.backbone=3'), ['TwoStagePersonSearch cannot be built', 'dict']),
    'word for a number of epochs': (
        lambda here: train(STUDENT, 'train_cfg.max_epochs=two'),
        ['EpochBasedTrainLoop', "max_epochs='two'"],
    ),
    'word for a learning rate': (lambda here: train(STUDENT, 'optim_wrapper.optimizer.lr=fast'), ["lr='fast'"]),
    'no images in a batch': (lambda here: train(STUDENT, 'train_dataloader.batch_size=0'), ['batch_size', 'positive']),
    'levels that do not fit': (
        lambda here: train(STUDENT, 'model.neck.in_channels=[8,16,32]'),
        ['in_channels of the neck', '3 levels', '4'],
    ),
    'heads for other levels': (lambda here: train(STUDENT, 'model.neck.num_outs=9'), ['rpn_head', '4 strides', '9 levels']),
    'wrong embedding size': (
        lambda here: train(STUDENT, 'model.roi_head.reid_loss.embed_dims=100'),
        ['embed_dims=128', 'embed_dims=100'],
    ),
    'student of another number of identities': (
        lambda here: train(STUDENT, 'model.roi_head.reid_loss.num_identities=7'),
        ['num_identities=7', '10'],
    ),
    'a loss that is not a number': (
        lambda here: train(STUDENT, 'model.roi_head.reid_loss.loss_weight=nan'),
        ['iteration 1', 'loss_reid = nan'],
    ),
    # checkpoints
    'missing checkpoint': (lambda here: scored(here.tmp / 'nothing.pth'), ['checkpoint', 'nothing.pth']),
    'text for a checkpoint': (lambda here: scored(here.given / 'text.pth'), ['text.pth', 'no checkpoint']),
    'words for weights': (lambda here: scored(here.given / 'words.pth'), ['words.pth', 'expected named tensors']),
    'checkpoint of another architecture': (
        lambda here: scored(here.given / 'student.pth', config=TEACHER),
        ['student.pth', 'another model', 'backbone.conv1.weight'],
    ),
    'missing checkpoint to resume from': (lambda here: train(args=['--resume', here.tmp / 'nothing.pth']), ['nothing.pth']),
    'missing teacher checkpoint': (
        lambda here: distil(f'model.teacher_ckpt={here.tmp}/nothing.pth'),
        ['teacher_ckpt', 'nothing.pth'],
    ),
    'teacher checkpoint of another architecture': (
        lambda here: distil(f'model.teacher_ckpt={here.given}/student.pth'),
        ['teacher_ckpt', 'student.pth'],
    ),
    'teacher of another number of identities': (
        lambda here: distil(f'model.teacher_ckpt={here.given}/teacher.pth'),
        ['num_identities', '7', '10'],
    ),
    # files that tools write for each other
    'missing predictions': (
        lambda here: ('evaluate.py', here.tmp / 'nothing.npz'),
        ['nothing.npz', 'no such file; expected predictions'],
    ),
    'text for predictions': (lambda here: ('evaluate.py', here.given / 'text.npz'), ['text.npz', 'not a predictions file']),
    'predictions of a newer version': (lambda here: ('evaluate.py', here.given / 'newer.npz'), ['newer.npz', 'format', '99']),
    'predictions of another shape': (lambda here: ('evaluate.py', here.given / 'shapes.npz'), ['shapes.npz', 'boxes', '5']),
    'predictions of another data set': (lambda here: ('evaluate.py', here.given / 'other.npz'), ['other.npz', 'images']),
    'missing lookup table': (lambda here: looked_up(here.tmp / 'nothing.npz'), ['nothing.npz']),
    'text for a lookup table': (lambda here: looked_up(here.given / 'text.npz'), ['text.npz', 'is no lookup table']),
    'lookup table of a newer version': (
        lambda here: looked_up(here.given / 'newer_table.npz'),
        ['newer_table.npz', 'format 99'],
    ),
    'lookup table of another shape': (lambda here: looked_up(here.given / 'odd_table.npz'), ['odd_table.npz', '(10, 64)']),
    'lookup table of another data set': (lambda here: looked_up(here.given / 'table.npz'), ['table.npz', 'PRW', 'CUHKSYSU']),
    'missing teacher cache': (lambda here: cached(here.tmp / 'nothing'), ['nothing', 'no such file', 'cache_teacher.py']),
    'teacher cache of a newer version': (lambda here: cached(here.given / 'newer_cache'), ['newer_cache', 'teacher cache 99']),
    'teacher cache of other images': (lambda here: cached(here.given / 'cache'), ['stale teacher cache', 'transforms']),
}


def argv(command, here):
    if command[0] == 'evaluate.py':
        return [*command, '--config', STUDENT, '--data-root', here.given / 'data', '--out', here.work / 'scores']
    tool, config, args, changes, data = command
    root = data or here.given / 'data'
    return [
        tool,
        config,
        *args,
        '--work-dir',
        here.work,
        *(['--out', here.work / 'out.npz'] if tool == 'test.py' else []),
        '--cfg-options',
        *(f'{name}_dataloader.dataset.data_root={root}' for name in ('train', 'val', 'test')),
        'train_dataloader.dataset.pipeline.2.scale=(224,128)',
        'test_dataloader.dataset.pipeline.1.scale=(224,128)',
        'val_dataloader.dataset.pipeline.1.scale=(224,128)',
        'train_cfg.max_epochs=2',
        *changes,
    ]


def contents(folder):
    """What is in a work directory, apart from the folder of a run's own log."""
    return {
        path.relative_to(folder): path.read_text()
        for path in folder.rglob('*')
        if path.is_file() and not path.relative_to(folder).parts[0][0].isdigit()
    }


def answer(done):
    """The one line that says what is wrong."""
    assert done.returncode in (1, 2) and 'Traceback' not in done.stdout + done.stderr, done.stderr[-3000:]
    errors = [line for line in done.stderr.splitlines() if 'rror' in line]
    assert len(errors) == 1 and 'error: ' in errors[0], done.stderr[-3000:]
    return errors[0]


@pytest.fixture
def here(given, tmp_path):
    """The folders: given; one of this test; and a work directory in which an earlier run has left its files."""
    work = tmp_path / 'work'
    (work / 'scores').mkdir(parents=True)
    for name in ('epoch_1.pth', 'epoch_2.pth', 'last_checkpoint', 'out.npz', 'scores/scores.json'):
        (work / name).write_text(f'the earlier {name}')
    return SimpleNamespace(given=given, tmp=tmp_path, work=work)


# Of each kind some are called in any test run, all in a long one.
OFTEN = {
    'missing data root',
    'missing images, in a data worker',
    'missing config',
    'config with a syntax error',
    'unknown model',
    'unknown argument of a data loader',
    'wrong embedding size',
    'a loss that is not a number',
    'missing teacher checkpoint',
    'missing teacher cache',
}


@pytest.mark.parametrize('case', [case if case in OFTEN else pytest.param(case, marks=pytest.mark.soak) for case in CASES])
def test_wrong_input_is_named_in_one_line_and_nothing_is_overwritten(case, server, here):
    command, words = CASES[case]
    before = contents(here.work)
    line = answer(server(*argv(command(here), here)))
    assert all(word in line for word in words), line
    assert {path: text for path, text in contents(here.work).items() if path.suffix != '.py'} == before


KILLED = '''
import os
import signal
from mmps.registry import TRANSFORMS
from torch.utils.data import get_worker_info


@TRANSFORMS.register_module()
class LastImage:
    """Kills the data worker that reads it, as the system does where memory is short."""

    def __init__(self, img_id):
        self.img_id = img_id

    def __call__(self, results):
        if results['img_id'] == self.img_id and get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return results
'''


@pytest.mark.parametrize(('split', 'saved'), [('train', set()), ('val', {'epoch_1.pth'})])
def test_a_killed_data_worker_ends_a_training_with_one_line(split, saved, server, given, tmp_path):
    (tmp_path / 'killing.py').write_text(KILLED)
    config = tmp_path / 'config.py'
    config.write_text(f"""
_base_ = '{STUDENT}'
import sys
sys.path.insert(0, '{tmp_path}')
custom_imports = dict(imports=['mmps', 'killing'], allow_failed_imports=False)
{split}_pipeline = [*_base_.{'train' if split == 'train' else 'test'}_pipeline]
{split}_pipeline.insert(1, dict(type='LastImage', img_id=9))
{split}_dataloader = dict(num_workers=2, dataset=dict(pipeline={split}_pipeline))
""")
    here = SimpleNamespace(given=given, work=tmp_path / 'work')
    changes = [
        f'{name}_dataloader.dataset.pipeline.{at + (name == split)}.scale=(224,128)' for name, at in (('train', 2), ('val', 1))
    ]
    tool, *args = argv(train(config), here)
    args = [each for each in args if not str(each).startswith(f'{split}_dataloader.dataset.pipeline')]
    done = server(tool, *args, *changes, 'train_cfg.max_epochs=1')
    # The other data worker's own thread may complain that nobody takes its batch, and be ended amid the complaint.
    complaint = r'Traceback .*\n(?:  File "[^"]*/multiprocessing/.*\n(?:    .*\n)*)*(?:\w+Error.*\n)?'
    done.stderr = re.sub(complaint, '', done.stderr)
    line = answer(done)
    assert 'a data worker was killed' in line and 'memory' in line and 'num_workers' in line
    assert {path.name for path in (tmp_path / 'work').glob('*.pth')} == saved
