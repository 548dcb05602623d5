"""With mixed precision or channels-last memory every detector trains and predicts as without."""

import pytest
import torch
from mmcv.ops import RoIAlign

from mmps.models.precision import float32
from mmps.registry import MODELS

ALL = ['fpn', 'c4', 'nae', 'seqnet', 'alignps', 'alignps-roi']
KINDS = pytest.mark.parametrize('kind', ALL)


def total(losses):
    return {
        name: sum(part.sum() for part in (value if isinstance(value, list | tuple) else [value]))
        for name, value in losses.items()
        if 'loss' in name
    }


def train_step(detector, batch):
    torch.manual_seed(0)  # the samplers are random
    detector.train().zero_grad()
    losses = total(detector.loss(*batch))
    sum(losses.values()).backward()
    return {name: float(value) for name, value in losses.items()}


@pytest.fixture
def trainable(build_detector, detector_config):

    def make(kind):
        if kind == 'deformable':
            cfg = detector_config('alignps')
            cfg.neck.conv_cfg = dict(type='DCN')
            cfg.bbox_head.dcn_on_last_conv = True
            torch.manual_seed(0)
            detector = MODELS.build(cfg)
            for module in detector.modules():  # with offset 0 no neighbour would be read
                if hasattr(module, 'conv_offset'):
                    torch.nn.init.normal_(module.conv_offset.weight, std=0.1)
        else:
            detector = build_detector(kind)
        generator = torch.Generator().manual_seed(0)
        lut = detector.memory.lut
        lut.copy_(torch.nn.functional.normalize(torch.randn(lut.shape, generator=generator)))
        return detector

    return make


@pytest.mark.parametrize('kind', [*ALL, 'deformable'])
def test_losses_under_autocast_are_close_to_those_without(trainable, make_batch, kind):
    detector, other = trainable(kind), trainable(kind)
    expected = train_step(detector, make_batch([[0, 3], [-1, 5, 1]]))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = train_step(other, make_batch([[0, 3], [-1, 5, 1]]))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=0.1, abs=0.02), name
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in other.parameters())
    assert other.memory.lut.dtype == torch.float32 and other.memory.lut.isfinite().all()


@KINDS
@torch.no_grad()
def test_predictions_under_autocast_are_float32(trainable, make_batch, kind):
    detector = trainable(kind).eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        results = detector.predict(*make_batch([[0], [3, 1]]))
    for result in results:
        for instances in (result.pred_instances, result.gt_instances):
            assert instances.embeddings.dtype == instances.bboxes.dtype == torch.float32
        assert result.pred_instances.scores.dtype == torch.float32


@pytest.mark.parametrize('kind', ['fpn', 'seqnet'])
def test_rois_are_not_rounded_under_autocast(trainable, make_batch, kind):
    """bfloat16 cannot represent 65.5, so such a box would move by half a pixel."""
    detector = trainable(kind).eval()
    seen = []
    for module in detector.modules():
        if isinstance(module, RoIAlign):
            module.register_forward_pre_hook(lambda _, args: seen.append(args))
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        detector.embed(detector.extract_feat(make_batch([[]])[0]), [torch.tensor([[65.25, 6.25, 88.75, 58.25]])])
    assert any(args[1][:, 1:].tolist() == [[65.25, 6.25, 88.75, 58.25]] for args in seen)
    assert all(args[0].dtype == torch.float32 for args in seen)


@pytest.mark.parametrize('kind', [*ALL, 'deformable'])
def test_channels_last_changes_only_the_layout(trainable, make_batch, kind):
    detector, other = trainable(kind), trainable(kind).to(memory_format=torch.channels_last)
    inputs, samples = make_batch([[0, 3], [-1, 5, 1]])
    expected = train_step(detector, (inputs, samples))
    inputs, samples = make_batch([[0, 3], [-1, 5, 1]])
    seen = []
    other.backbone.conv1.register_forward_hook(lambda _, args, output: seen.append(output))
    found = train_step(other, (inputs.to(memory_format=torch.channels_last), samples))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_float32_converts_nested_outputs():
    half = torch.ones(2, dtype=torch.bfloat16)
    found = float32(([half], {'a': half}, torch.ones(2, dtype=torch.long), None, (half, 3)))
    assert found[0][0].dtype == found[1]['a'].dtype == found[4][0].dtype == torch.float32
    assert found[2].dtype == torch.long and found[3] is None and isinstance(found[0], list)
