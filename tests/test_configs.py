"""Every published config is what its name says, and builds."""
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import Compose

from mmps.distillation.losses.feature import PersonFeatureLoss
from mmps.registry import DATASETS, METRICS, MODELS

FOLDER = Path(__file__).parents[1] / 'configs'
CONFIGS = sorted(path for path in FOLDER.glob('*/*.py') if path.parent.name != '_base_')
EACH = pytest.mark.parametrize('path', CONFIGS, ids=[path.stem for path in CONFIGS])
# PRW's pairs compare the same maps as CUHK-SYSU's.
PAIRS = [path for path in CONFIGS if path.parent.name == 'gdps' and not path.stem.endswith('_prw')]
# The end of a config's name, and the class that reads it.
DATA = {'cuhk-sysu': 'CUHKSYSU', 'prw': 'PRW', 'mot': 'MOTChallenge', 'mot17-mini': 'MOTChallenge',
        'synthps-mini': 'CUHKSYSU'}
STEPS = {'e': 1, 'k': 1000, 'it': 1}


def test_there_are_configs():
    assert {path.parent.name for path in CONFIGS} >= {'oim', 'nae', 'seqnet', 'alignps', 'gdps'}


@EACH
def test_model_builds(path, mmps_scope):
    model = build(path)
    assert hasattr(getattr(model, 'student', model), 'embed')


def build(path):
    cfg = Config.fromfile(path).model
    if 'teacher_ckpt' in cfg:
        cfg.teacher_ckpt = None
    return MODELS.build(cfg)


@pytest.mark.parametrize('path', PAIRS, ids=[path.stem for path in PAIRS])
def test_compared_maps_have_the_stride_that_their_loss_is_told(path, mmps_scope, make_batch, monkeypatch):
    compared, forward = [], PersonFeatureLoss.forward

    def noted(loss, student, teacher, boxes):
        compared.append((loss.stride, student.shape, teacher.shape))
        return forward(loss, student, teacher, boxes)
    monkeypatch.setattr(PersonFeatureLoss, 'forward', noted)
    model = build(path).train()
    for memory in (model.memory, model.teacher.memory):
        memory.resize(4)
    losses = model.loss(*make_batch([[3, -1], [2]]))
    assert compared and all(losses[f'distill.{name}'].isfinite() for name in model.distiller.distill_losses)
    for stride, ours, theirs in compared:
        assert ours == theirs and (ours[2] * stride, ours[3] * stride) == (64, 96)


@EACH
def test_data_sets_and_metric_exist(path, mmps_scope):
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert DATASETS.get(loader.dataset.type).__module__.startswith('mmps.')
        Compose(loader.dataset.pipeline)
    assert not cfg.train_dataloader.dataset.get('test_mode', False)
    assert cfg.val_dataloader.dataset.test_mode and cfg.test_dataloader.dataset.test_mode
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert METRICS.get(evaluator.type).__module__.startswith('mmps.')
    assert cfg.test_evaluator.cbgm and cfg.test_evaluator.upper_bound


@EACH
def test_name_says_what_it_is(path):
    cfg = Config.fromfile(path)
    distils = cfg.model.type == 'PersonSearchDistill'
    parts = path.stem.split('_')
    assert len(parts) == (5 if distils else 4), '{method}_{teacher}_{student}_{schedule}_{dataset} or {model}_{backbone}_...'
    assert parts[0] == path.parent.name
    assert all(re.fullmatch(r'[a-z0-9]+(-[a-z0-9]+)*', part) for part in parts)
    assert cfg.train_dataloader.dataset.type == DATA[parts[-1]]
    count, unit = re.fullmatch(r'(\d+)(e|k|it)', parts[-2]).groups()
    assert cfg.train_cfg['max_epochs' if unit == 'e' else 'max_iters'] == int(count) * STEPS[unit]
    if distils:
        assert parts[1] in cfg.model.teacher_ckpt.replace('_', '-')
        teacher = FOLDER / cfg.model.teacher.cfg_path.removeprefix('mmps::')
        assert cfg.model.teacher_ckpt == f'work_dirs/{teacher.stem}/epoch_{Config.fromfile(teacher).max_epochs}.pth'
        assert teacher.stem.endswith(f'_{parts[-1]}')


@EACH
def test_runtime_is_mmpss(path):
    cfg = Config.fromfile(path)
    assert cfg.default_scope == 'mmps' and 'mmps' in cfg.custom_imports.imports
    assert {'IdentityHook', 'StopOnInvalidLossHook'} <= {hook.type for hook in cfg.custom_hooks}


@EACH
def test_no_number_of_identities_is_written_down(path):
    """It comes from the data set."""
    assert 'num_persons' not in Config.fromfile(path).model.to_dict().__repr__()


@pytest.mark.parametrize('path', [path for path in CONFIGS if path.stem.endswith('_prw')], ids=lambda path: path.stem)
def test_prw_has_a_queue_of_500(path):
    assert set(re.findall(r"'queue_size': (\d+)", str(Config.fromfile(path).model.to_dict()))) == {'500'}
