"""Tests which back end is chosen, and the messages for a package that is missing, too old, broken or installed twice."""

import os
import subprocess
import sys

import mmcv.ops
import pytest
import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, RoIAlign, batched_nms
from mmengine.config import Config

from mmps.cli.explain import explain
from mmps.compat import operators
from mmps.registry import MODELS


@pytest.fixture
def installed(monkeypatch):
    """installed(mmcv='2.1.0', ...) fakes installed versions; None means not installed; other packages stay."""

    def pretend(**versions):
        versions = {name.replace('_', '-'): found for name, found in versions.items()}
        real = operators._version
        monkeypatch.setattr(operators, '_version', lambda name: versions[name] if name in versions else real(name))

    return pretend


@pytest.mark.parametrize(
    'versions, complaint',
    [
        (dict(mmcv=None, mmcv_lite=None), 'mmcv is missing: pip install mmcv-lite==2.1.0'),
        (dict(mmcv='2.1.0', mmcv_lite='2.1.0'), 'mmcv and mmcv-lite are both installed, and one has overwritten the other'),
        (dict(mmcv='2.2.0', mmcv_lite=None), 'mmps needs mmcv 2.1.0, and 2.2.0 is installed'),
        (dict(mmcv=None, mmcv_lite='2.0.1'), 'mmps needs mmcv 2.1.0, and 2.0.1 is installed'),
        (dict(mmdet=None), 'mmps needs mmdet<3.4,>=3.3.0, and it is missing'),
        (dict(mmengine='0.9.1'), 'mmps needs mmengine<0.11,>=0.10.7, and 0.9.1 is installed'),
    ],
)
def test_a_package_that_is_missing_or_too_old_or_installed_twice_is_named_in_one_line(installed, versions, complaint):
    installed(**versions)
    with pytest.raises(ImportError) as refusal:
        operators.check_packages()
    assert str(refusal.value).startswith(complaint)
    assert 'pip ' in str(refusal.value) and '\n' not in str(refusal.value)


@pytest.mark.parametrize('mmcv', ['2.1.0', '2.1.0+cu130'])
def test_compiled_mmcv_alone_is_fine(installed, mmcv):
    installed(mmcv=mmcv, mmcv_lite=None)
    operators.check_packages()


def import_mmps(tmp_path, code='', **environment):
    """Returns the output of a new process that imports mmps with ``tmp_path`` first on the path."""
    command = [sys.executable, '-c', f'import mmps; from mmps.compat import operators as o; {code}']
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(tmp_path), **environment}
    )


@pytest.fixture
def fake_torchvision(tmp_path):
    """fake_torchvision(source) makes a torchvision 9.9 whose import runs ``source``."""

    def install(source):
        for folder in ('torchvision', 'torchvision-9.9.dist-info'):
            (tmp_path / folder).mkdir()
        (tmp_path / 'torchvision/__init__.py').write_text(source)
        (tmp_path / 'torchvision-9.9.dist-info/METADATA').write_text('Metadata-Version: 2.1\nName: torchvision\nVersion: 9.9\n')

    return install


@pytest.mark.parametrize(
    'source, why',
    [
        pytest.param(
            'raise RuntimeError("operator torchvision::nms does not exist\\nand more")',
            'operator torchvision::nms does not exist',
            id='for another torch',
        ),
        pytest.param('import no_such_part', "No module named 'no_such_part'", id='half installed', marks=pytest.mark.soak),
        pytest.param('', 'operator torchvision::nms does not exist', id='without kernels', marks=pytest.mark.soak),
    ],
)
@pytest.mark.skipif(
    operators.compiled_mmcv() is not None or operators._version('torchvision') is not None,
    reason='compiled mmcv comes before torchvision, and a real torchvision before one that is pretended',
)
def test_a_broken_torchvision_is_warned_about_and_not_used(tmp_path, fake_torchvision, source, why):
    fake_torchvision(source)
    done = import_mmps(tmp_path, 'print(o.torchvision_works(), o.elsewhere.__name__)')
    assert done.returncode == 0 and done.stdout.split() == ['False', 'mmps.compat.torch_kernels']
    (warning,) = [line for line in done.stderr.splitlines() if 'torchvision 9.9 does not work' in line]
    assert why in warning and 'PyTorch computes' in warning


@pytest.mark.parametrize(
    'choice, complaint',
    [
        ('cuda', "MMPS_OPERATORS: expected one of mmcv, torchvision, torch, got 'cuda'"),
        pytest.param(
            'torchvision',
            'MMPS_OPERATORS=torchvision: it is not installed, or does not work',
            marks=pytest.mark.skipif(operators._version('torchvision') is not None, reason='torchvision is installed'),
        ),
        pytest.param(
            'mmcv',
            'MMPS_OPERATORS=mmcv: mmcv-lite has no operators',
            marks=pytest.mark.skipif(operators.compiled_mmcv() is not None, reason='compiled mmcv is installed'),
        ),
    ],
)
def test_an_unavailable_back_end_is_refused_in_one_line(tmp_path, choice, complaint):
    done = import_mmps(tmp_path, MMPS_OPERATORS=choice)
    assert done.returncode == 1 and f'ImportError: {complaint}' in done.stderr.splitlines()[-1]


@pytest.mark.skipif(operators.compiled_mmcv() is not None, reason='compiled mmcv has every operator')
def test_an_unprovided_operator_names_itself_and_both_remedies():
    with pytest.raises(operators.MissingOperator) as refusal:
        mmcv.ops.box_iou_rotated(torch.zeros(1, 5), torch.zeros(1, 5))
    message = str(refusal.value)
    assert 'box_iou_rotated' in message and '\n' not in message
    assert 'mim install mmcv' in message and 'MMCV_WITH_OPS=1 pip install' in message


def test_max_pooling_uses_compiled_mmcv_or_is_reported_missing():
    feats = torch.arange(64.0).view(1, 1, 8, 8).requires_grad_()
    layer, rois = RoIAlign(1, 1.0, 2, pool_mode='max'), torch.tensor([[0.0, 0, 0, 8, 8]])
    if operators.compiled_mmcv() is None:
        with pytest.raises(operators.MissingOperator, match='needs compiled mmcv'):
            layer(feats, rois)
        return
    pooled = layer(feats, rois)
    pooled.sum().backward()
    assert float(pooled) == pytest.approx(49.5)  # the last of the samples at 1.5 and 5.5
    assert float(feats.grad.sum()) == pytest.approx(1)


def test_a_tool_says_so_in_one_line():
    assert explain(operators.MissingOperator("mmcv's operator\nx is compiled")) == "mmcv's operator x is compiled"


def test_operators_compiled_for_another_torch_are_reported_in_one_line(monkeypatch):
    def load(name):
        if name == 'mmcv':
            return mmcv
        raise ImportError('/site-packages/mmcv/_ext.so: undefined symbol: _ZN2at4_ops\nmore', name='mmcv._ext')

    monkeypatch.setattr(operators.importlib, 'import_module', load)
    with pytest.raises(ImportError, match=r'compiled for another torch than .*undefined symbol.*: pip uninstall') as refusal:
        operators.compiled_mmcv()
    assert '\n' not in str(refusal.value) and 'pip install mmcv-lite==' in str(refusal.value)


def test_mmcvs_modules_use_the_cpu_back_end(monkeypatch):
    used = []
    for name in ('nms', 'roi_align', 'roi_align_backward', 'deform_conv', 'deform_conv_backward'):
        real = getattr(operators.on_cpu, name)
        monkeypatch.setattr(operators.on_cpu, name, lambda *args, name=name, real=real: used.append(name) or real(*args))
    feats = torch.randn(1, 4, 8, 8, requires_grad=True)
    RoIAlign(2, 1.0, 2)(feats, torch.tensor([[0.0, 1, 1, 6, 6]])).sum().backward()
    DeformConv2d(4, 4, 3, padding=1)(feats, torch.zeros(1, 18, 8, 8, requires_grad=True)).sum().backward()
    ModulatedDeformConv2d(4, 4, 3, padding=1)(feats, torch.zeros(1, 18, 8, 8), torch.ones(1, 9, 8, 8)).sum().backward()
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5]])
    batched_nms(boxes, torch.tensor([0.5, 0.6]), torch.zeros(2), dict(type='nms', iou_threshold=0.5))
    assert set(used) == {'nms', 'roi_align', 'roi_align_backward', 'deform_conv', 'deform_conv_backward'}


def test_soft_nms_is_provided_for_configs_that_use_it():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [30, 30, 40, 40]])
    soft = dict(type='soft_nms', iou_threshold=0.3, min_score=0.01)
    dets, kept = batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3), soft)
    assert kept.tolist() == [0, 2, 1] and dets[2, 4] == pytest.approx(0.8 * (1 - 100 / 120))


def test_autocast_does_not_change_the_operators_results():
    feats, rois = torch.randn(1, 4, 8, 8), torch.tensor([[0.0, 1, 1, 6, 6]])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = RoIAlign(2, 1.0, 2)(feats, rois)
    assert torch.equal(found, RoIAlign(2, 1.0, 2)(feats, rois))


def test_no_config_needs_an_operator_that_is_not_provided(repository, mmps_scope):
    provided = {'RoIAlign', 'DeformConv2dPack', 'ModulatedDeformConv2dPack'}
    for path in sorted((repository / 'configs/_base_/models').glob('*.py')):
        model = MODELS.build(Config.fromfile(path).model)
        found = {type(module).__name__ for module in model.modules() if type(module).__module__.startswith('mmcv.ops')}
        assert found <= provided, path.name


def test_the_requirements_name_one_mmcv_and_the_metadata_none(repository):
    lines = [line.split('#')[0].strip() for line in (repository / 'requirements.txt').read_text().splitlines()]
    assert [line for line in lines if line.startswith('mmcv')] == [f'mmcv-lite=={operators.MMCV}']
    assert 'mmcv' not in (repository / 'setup.cfg').read_text()
