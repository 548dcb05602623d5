"""Names of mmps are found from every scope, and names of other packages from the scope mmps."""

import os
import subprocess
import sys

import pytest
from mmengine import registry as mmengine
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

import mmps
from mmps import registry
from mmps.cli.explain import explain
from mmps.distillation.recorders import MethodOutputsRecorder
from mmps.registry import MODELS

SCOPES = pytest.mark.parametrize('scope', ['mmps', 'mmdet', 'mmrazor', 'mmengine'])


@SCOPES
@pytest.mark.parametrize(
    'kind, name',
    [
        ('MODELS', 'TwoStagePersonSearch'),
        ('MODELS', 'PersonSearchDistill'),
        ('MODELS', 'OIMLoss'),
        ('TASK_UTILS', 'MethodOutputsRecorder'),
        ('DATASETS', 'CUHKSYSU'),
        ('TRANSFORMS', 'PackPersonSearchInputs'),
        ('METRICS', 'PersonSearchMetric'),
        ('HOOKS', 'IdentityHook'),
    ],
)
def test_names_of_mmps_are_found_from_every_scope(scope, kind, name):
    root, ours = getattr(mmengine, kind), getattr(registry, kind)
    with DefaultScope.overwrite_default_scope(scope):
        found = root.get(f'mmps.{name}')
    assert found is ours.get(name) and found.__module__.startswith('mmps.')


@SCOPES
def test_modules_are_built_from_every_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        loss = mmengine.MODELS.build(dict(type='mmps.OIMLoss', num_identities=3, queue_size=2, embed_dims=4))
    assert loss.memory.num_identities == 3


@pytest.mark.parametrize(
    'kind, name',
    [
        ('MODELS', 'ResNet'),
        ('MODELS', 'FPN'),
        ('MODELS', 'RPNHead'),
        ('TASK_UTILS', 'MaxIoUAssigner'),
        ('DATASETS', 'CocoDataset'),
        ('TRANSFORMS', 'Resize'),
        ('METRICS', 'CocoMetric'),
        ('HOOKS', 'NumClassCheckHook'),
        ('HOOKS', 'EMAHook'),
        ('DATA_SAMPLERS', 'AspectRatioBatchSampler'),
        ('VISUALIZERS', 'DetLocalVisualizer'),
        ('PARAM_SCHEDULERS', 'QuadraticWarmupLR'),
        ('OPTIM_WRAPPER_CONSTRUCTORS', 'LearningRateDecayOptimizerConstructor'),
    ],
)
def test_names_of_mmdetection_need_no_prefix_in_the_mmps_scope(kind, name):
    assert getattr(registry, kind).get(name) is not None
    root = getattr(mmengine, kind)
    with DefaultScope.overwrite_default_scope('mmps'), root.switch_scope_and_registry(None) as chosen:  # as to build
        assert chosen.get(name) is not None


@pytest.mark.parametrize('name', ['ConfigurableDistiller', 'PKDLoss', 'ConvModuleConnector'])
def test_names_of_mmrazor_need_their_prefix(name):
    with DefaultScope.overwrite_default_scope('mmps'):
        assert mmengine.MODELS.get(f'mmrazor.{name}') is not None


def python(code, repository, cwd):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(repository), 'OMP_NUM_THREADS': '1'},
    )


def test_a_name_is_found_before_mmps_is_imported(repository, tmp_path):
    done = python(
        'from mmengine.registry import MODELS\n'
        "print(MODELS.build(dict(type='mmps.OIMLoss', num_identities=3, queue_size=2, embed_dims=4)))",
        repository,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert 'num_identities=3' in done.stdout


def test_a_config_of_mmps_is_a_base_from_anywhere(tmp_path):
    name = 'oim_r18-w8-fpn_10e_synthps-mini'
    (tmp_path / 'mine.py').write_text(f"_base_ = 'mmps::oim/{name}.py'\nmodel = dict(backbone=dict(base_channels=8))\n")
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert cfg.model.backbone.base_channels == 8 and cfg.model.type == 'TwoStagePersonSearch'
    assert cfg.default_scope == 'mmps'


def test_the_version_is_a_string_of_numbers():
    assert all(part.isdigit() for part in mmps.__version__.split('.')[:2])


def test_mmps_has_a_registry_of_every_kind_that_mmdetection_has():
    from mmdet import registry as mmdet
    from mmengine.registry import Registry

    kinds = {name for name, value in vars(mmdet).items() if isinstance(value, Registry) and not name.startswith('MMENGINE')}
    assert kinds and all(getattr(registry, kind).scope == 'mmps' for kind in kinds)


class Detector(nn.Module):
    def refine_boxes(self):
        pass


@pytest.mark.parametrize(
    ('build', 'line'),
    [
        (lambda: MODELS.build(dict(type='mmps.OIMLoss', num_persons=3, queue_size=2, embed_dims=4)), 'num_identities'),
        (lambda: MethodOutputsRecorder('assess').prepare_from_model(Detector()), 'refine_boxes'),
    ],
    ids=['argument', 'recorded method'],
)
def test_a_name_of_an_earlier_version_is_answered_with_its_new_name(build, line):
    with pytest.raises((TypeError, ValueError)) as error:
        build()
    assert explain(error.value).endswith(f': it is now called {line}')
