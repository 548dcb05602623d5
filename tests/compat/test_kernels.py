"""Compares each back end's operators with plain loops and, where available, with compiled MMCV."""

import importlib
import sys

import numpy as np
import plain_operators
import pytest
import torch
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from torch.utils._python_dispatch import TorchDispatchMode

from mmps.compat import operators, torch_kernels


def compiled_kernels(load, wheels):
    """Returns the kernels of compiled MMCV, installed or from a wheel for this Python; None if neither exists."""
    if operators.compiled_mmcv() is not None:
        return importlib.import_module(operators.KERNELS['mmcv'])
    tag = f'cp{sys.version_info.major}{sys.version_info.minor}'
    return next((load(wheel) for wheel in wheels.glob(f'mmcv-{operators.MMCV}-{tag}-*.whl')), None)


@pytest.fixture(scope='session')
def compiled(repository, load_script):
    """The kernels of compiled MMCV."""
    load = load_script(repository / 'tools/benchmarks/operators.py').compiled_kernels
    try:
        kernels = compiled_kernels(load, repository / '../shared/wheels')
    except ImportError as error:
        pytest.skip(f'the wheel of mmcv in ../shared/wheels is for another torch: {error}')
    if kernels is None:
        pytest.skip('no compiled mmcv: neither installed nor as a wheel in ../shared/wheels')
    return kernels


@pytest.fixture(params=['torch', 'torchvision', 'mmcv'])
def kernels(request):
    if request.param == 'mmcv':
        return request.getfixturevalue('compiled')
    if request.param == 'torchvision' and not operators.torchvision_works():
        pytest.skip('torchvision is not installed')
    return importlib.import_module(operators.KERNELS[request.param])


def boxes_and_scores(count, seed, ties=False):
    """Makes boxes of which half crowd around a few places; some have no area or swapped corners."""
    rng = np.random.default_rng(seed)
    centres = np.where(
        rng.random((count, 1)) < 0.5, rng.uniform(0, 900, (8, 2))[rng.integers(0, 8, count)], rng.uniform(0, 900, (count, 2))
    ) + rng.normal(0, 15, (count, 2))
    half = rng.uniform(10, 60, (count, 2))
    boxes = np.concatenate([centres - half, centres + half], 1)
    boxes[::17, 2] = boxes[::17, 0]
    boxes[::23] = boxes[::23][:, [2, 3, 0, 1]]
    scores = rng.integers(0, 5, count) / 5 if ties else rng.random(count)
    if ties:
        boxes = boxes.round(-1)
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('count', [0, 1, 2, 60, 300])
def test_nms_keeps_what_a_plain_loop_keeps(kernels, count, offset):
    boxes, scores = boxes_and_scores(count, seed=count)
    kept = kernels.nms(boxes, scores, 0.5, offset)
    assert kept.tolist() == plain_operators.greedy_nms(boxes.numpy(), scores.numpy(), 0.5, offset)


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.7])
@pytest.mark.parametrize('count', [0, 1, 127, 128, 129, 3000])
def test_nms_keeps_what_compiled_mmcv_keeps(compiled, count, threshold, ties):
    boxes, scores = boxes_and_scores(count, seed=1, ties=ties)
    assert torch.equal(torch_kernels.nms(boxes, scores, threshold), compiled.nms(boxes, scores, threshold))


class LargestTensor(TorchDispatchMode):
    """Records the number of values in the largest tensor that any operation returns."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.values = max(
            self.values,
            *(each.numel() for each in (out if isinstance(out, tuple | list) else [out]) if isinstance(each, torch.Tensor)),
            0,
        )
        return out


def test_nms_of_12000_boxes_never_holds_all_pairs():
    boxes, scores = boxes_and_scores(12_000, seed=0)
    with LargestTensor() as largest:
        torch_kernels.nms(boxes, scores, 0.7)
    assert largest.values <= 12_000 * torch_kernels.NMS_BLOCK


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_lowers_scores_one_choice_at_a_time(method):
    boxes, scores = boxes_and_scores(40, seed=3)
    dets, kept = torch_kernels.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method)
    left, expected = {index: float(score) for index, score in enumerate(scores)}, []
    while left:
        best = max(left, key=left.get)
        expected.append((best, left.pop(best)))
        for other in list(left):
            iou = plain_iou(boxes[best].tolist(), boxes[other].tolist())
            weight = {'naive': float(iou < 0.3), 'linear': 1 - iou if iou >= 0.3 else 1.0, 'gaussian': np.exp(-(iou**2) / 0.5)}
            left[other] *= weight[method]
            if left[other] < 0.05:
                del left[other]
    assert kept.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected], dtype=torch.float32))
    assert torch.equal(dets[:, :4], boxes[kept])


def plain_iou(one, other):
    wide, high = (max(0, min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis])) for axis in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return wide * high / (sum(areas) - wide * high) if wide * high else 0.0


def some_rois(count, seed=0):
    """Makes RoIs in two 90 x 120 images, some beyond the edges or smaller than a cell."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([140.0, 110]) - 15
    size = torch.rand(count, 2, generator=generator) ** 3 * 90
    image = torch.randint(0, 2, (count, 1), generator=generator).float()
    return torch.cat([image, corner, corner + size], dim=1)


def feature_map(channels, dtype=torch.float32, height=12, width=15):
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1)).to(dtype)


ALIGNMENTS = pytest.mark.parametrize('aligned', [False, True])
LARGE = pytest.mark.parametrize('large', [False, True], ids=['small', 'large'])


@pytest.fixture
def as_large(monkeypatch):
    """as_large(True) pools every RoI with the code path for large ones."""
    return lambda large: monkeypatch.setattr(torch_kernels, 'LARGE', 0 if large else 2**30)


@LARGE
@ALIGNMENTS
@pytest.mark.parametrize('size, ratio, scale', [((3, 5), 2, 1 / 8), ((4, 4), 1, 1.0), ((2, 3), 0, 1 / 8)])
def test_roi_align_equals_a_plain_loop_over_samples(kernels, as_large, aligned, size, ratio, scale, large):
    as_large(large)
    feats, rois = feature_map(3), some_rois(12)
    found = kernels.roi_align(feats, rois, size, scale, ratio, aligned)
    expected = plain_operators.roi_align(feats.double().numpy(), rois.double().numpy(), size, scale, ratio, aligned)
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-5)
    gradient = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    # It is linear in the map: <gradient, pooled> = <gradient for the map, map>.
    of_feats = kernels.roi_align_backward(gradient, rois, feats.shape, scale, ratio, aligned)
    assert float((of_feats * feats).sum()) == pytest.approx(float((gradient * found).sum()), rel=1e-3)


@LARGE
@ALIGNMENTS
@pytest.mark.parametrize('size, ratio, scale', [((7, 7), 2, 1 / 8), ((14, 14), 0, 1 / 2), ((5, 3), 1, 1.0)])
def test_roi_align_equals_compiled_mmcv(compiled, as_large, aligned, size, ratio, scale, large):
    as_large(large)
    feats, rois = feature_map(8, height=45, width=60), some_rois(60)
    found, expected = (each.roi_align(feats, rois, size, scale, ratio, aligned) for each in (torch_kernels, compiled))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradient = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    found, expected = (
        each.roi_align_backward(gradient, rois, feats.shape, scale, ratio, aligned) for each in (torch_kernels, compiled)
    )
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def test_roi_align_of_no_rois_is_empty(kernels):
    feats, rois = feature_map(6), torch.zeros(0, 5)
    for ratio in (0, 2):
        assert kernels.roi_align(feats, rois, (4, 4), 1.0, ratio, True).shape == (0, 6, 4, 4)
        assert not kernels.roi_align_backward(torch.zeros(0, 6, 4, 4), rois, feats.shape, 1.0, ratio, True).any()


CONVOLUTIONS = {  # stride, padding, dilation, groups, groups of offsets, kernel
    'plain': ((1, 1), (1, 1), (1, 1), 1, 1, (3, 3)),
    'strided': ((2, 1), (0, 2), (1, 2), 1, 1, (3, 2)),
    'grouped': ((1, 1), (1, 1), (1, 1), 2, 1, (3, 3)),
    'offset groups': ((1, 1), (1, 1), (1, 1), 1, 4, (3, 3)),
    'both': ((1, 1), (2, 2), (2, 2), 4, 2, (3, 3)),
}
GEOMETRIES = pytest.mark.parametrize('geometry', CONVOLUTIONS.values(), ids=CONVOLUTIONS)
MODULATED = pytest.mark.parametrize('modulated', [False, True])


def convolution(geometry, modulated, height=6, width=7, spread=1.5):
    """Returns inputs of a deformable convolution and a gradient of its output."""
    stride, padding, dilation, groups, offset_groups, kernel = geometry
    generator = torch.Generator().manual_seed(0)
    out = [
        (size + 2 * pad - apart * (length - 1) - 1) // step + 1
        for size, pad, apart, length, step in zip((height, width), padding, dilation, kernel, stride, strict=True)
    ]
    taps = kernel[0] * kernel[1] * offset_groups
    feats = torch.randn(2, 8, height, width, generator=generator)
    offset = torch.randn(2, 2 * taps, *out, generator=generator) * spread
    mask = torch.rand(2, taps, *out, generator=generator) if modulated else None
    weight = torch.randn(4, 8 // groups, *kernel, generator=generator) / 8
    return (feats, offset, mask, weight), (stride, padding, dilation, groups), torch.randn(2, 4, *out, generator=generator)


@MODULATED
@GEOMETRIES
def test_deformable_convolution_equals_a_plain_loop(kernels, geometry, modulated):
    inputs, settings, _ = convolution(geometry, modulated)
    found = kernels.deform_conv(*inputs, None, *settings)
    expected = plain_operators.deform_conv(*(None if each is None else each.double().numpy() for each in inputs), *settings)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    bias = torch.arange(4.0)
    torch.testing.assert_close(kernels.deform_conv(*inputs, bias, *settings), found + bias[:, None, None])


@pytest.mark.parametrize('spread', [1.5, 0.0], ids=['moved', 'on the cells'])
@MODULATED
@GEOMETRIES
def test_deformable_convolution_equals_compiled_mmcv(compiled, monkeypatch, geometry, modulated, spread):
    monkeypatch.setattr(torch_kernels, 'SAMPLED_VALUES', 2000)  # several blocks of rows
    inputs, settings, gradient = convolution(geometry, modulated, 13, 11, spread)
    found, expected = (each.deform_conv(*inputs, None, *settings) for each in (torch_kernels, compiled))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(
        *(each.deform_conv_backward(*inputs, gradient, *settings) for each in (torch_kernels, compiled)), strict=True
    ):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@MODULATED
def test_deformable_convolution_gradients_equal_finite_differences(modulated):
    inputs, settings, gradient = convolution(CONVOLUTIONS['both'], modulated)
    inputs = [None if each is None else each.double() for each in inputs]
    gradients = torch_kernels.deform_conv_backward(*inputs, gradient.double(), *settings)
    for index, of_input in enumerate(gradients):
        if of_input is not None:
            step = torch.randn(of_input.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 1e-7
            either = [[*inputs[:index], inputs[index] + sign * step, *inputs[index + 1 :]] for sign in (1, -1)]
            high, low = (float((torch_kernels.deform_conv(*each, None, *settings) * gradient).sum()) for each in either)
            assert high - low == pytest.approx(2 * float((of_input * step).sum()), rel=1e-3)
    *others, of_weight = torch_kernels.deform_conv_backward(*inputs, gradient.double(), *settings, True)
    assert others == [None] * 3
    torch.testing.assert_close(of_weight, gradients[3])


@pytest.mark.parametrize('value', [float('inf'), float('-inf'), float('nan')])
def test_an_offset_that_is_not_finite_samples_zero(value):
    """Compiled MMCV does so too. A float16 offset may overflow."""
    inputs, settings, gradient = convolution(CONVOLUTIONS['plain'], True)
    far, nowhere = inputs[1].clone(), inputs[1].clone()
    far[0, :2, 2, 3], nowhere[0, :2, 2, 3] = 1e4, value
    found, expected = (torch_kernels.deform_conv(inputs[0], each, *inputs[2:], None, *settings) for each in (nowhere, far))
    assert torch.equal(found, expected)
    for of_input in torch_kernels.deform_conv_backward(inputs[0], nowhere, *inputs[2:], gradient, *settings):
        assert of_input.isfinite().all()


def test_deformable_convolution_holds_a_bounded_number_of_samples():
    inputs, settings, gradient = convolution(CONVOLUTIONS['plain'], False, 200, 300)
    with LargestTensor() as largest, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_kernels, 'SAMPLED_VALUES', 2**17)
        torch_kernels.deform_conv(*inputs, None, *settings)
        torch_kernels.deform_conv_backward(*inputs, gradient, *settings)
    assert largest.values <= 2 * max(each.numel() for each in inputs if each is not None)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_rounds_inputs_and_outputs_only(kernels, dtype):
    feats, rois = feature_map(6).to(dtype), some_rois(20)
    found = kernels.roi_align(feats, rois, (4, 4), 0.125, 2, True)
    assert found.dtype == dtype
    assert torch.equal(found, kernels.roi_align(feats.float(), rois, (4, 4), 0.125, 2, True).to(dtype))
    inputs, settings, gradient = convolution(CONVOLUTIONS['plain'], True)
    inputs = [each.to(dtype) for each in inputs]
    bias = torch.arange(4.0) / 3
    found = kernels.deform_conv(*inputs, bias, *settings)
    assert found.dtype == dtype
    assert torch.equal(found, kernels.deform_conv(*(each.float() for each in inputs), bias, *settings).to(dtype))
    halves = kernels.deform_conv_backward(*inputs, gradient.to(dtype), *settings)
    wholes = kernels.deform_conv_backward(*(each.float() for each in inputs), gradient.to(dtype).float(), *settings)
    for half, whole in zip(halves, wholes, strict=True):
        assert torch.equal(half, whole.to(dtype))


def test_the_memory_layout_changes_nothing(kernels):
    feats, rois = feature_map(6), some_rois(20)
    last = feats.contiguous(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    args = (rois, (4, 4), 0.125, 2, True)
    torch.testing.assert_close(kernels.roi_align(last, *args), kernels.roi_align(feats, *args))
    inputs, settings, gradient = convolution(CONVOLUTIONS['plain'], True)
    others = [each.contiguous(memory_format=torch.channels_last) for each in inputs]
    torch.testing.assert_close(kernels.deform_conv(*others, None, *settings), kernels.deform_conv(*inputs, None, *settings))
    for one, other in zip(
        kernels.deform_conv_backward(*others, gradient, *settings),
        kernels.deform_conv_backward(*inputs, gradient, *settings),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_focal_loss_equals_mmdetections():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=generator, requires_grad=True)
    targets = torch.randint(0, 4, (12,), generator=generator)
    one_hot = torch.nn.functional.one_hot(targets, 4)[:, :3].float()
    expected = py_sigmoid_focal_loss(logits, one_hot, gamma=2.0, alpha=0.25, reduction='none')
    found, of_logits = torch.empty(12, 3), torch.empty(12, 3)
    operators.sigmoid_focal_loss_forward(logits.detach(), targets, torch.empty(0), found, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(found, expected.detach())
    operators.sigmoid_focal_loss_backward(logits.detach(), targets, torch.empty(0), of_logits, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(of_logits, torch.autograd.grad(expected.sum(), logits)[0])
