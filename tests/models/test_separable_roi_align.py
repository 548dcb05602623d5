"""It is MMCV's RoIAlign, values and gradients."""
import pytest
import torch
from mmcv.ops import RoIAlign

from mmps.models.roi_heads import separable_roi_align
from mmps.models.roi_heads.separable_roi_align import SeparableRoIAlign


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(separable_roi_align, 'LARGE', 0)


def rois(count, seed=0):
    """In two images of 90 x 120, some of them beyond the edges or smaller than a cell."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([140., 110]) - 15
    size = torch.rand(count, 2, generator=generator) ** 3 * 90
    image = torch.randint(0, 2, (count, 1), generator=generator).float()
    return torch.cat([image, corner, corner + size], dim=1)


@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('size, ratio', [((3, 5), 2), (4, 1), (2, 3)])
@pytest.mark.parametrize('scale', [1 / 8, 1.0])
def test_values_and_gradients_are_mmcvs(aligned, size, ratio, scale):
    generator = torch.Generator().manual_seed(1)
    layer = RoIAlign(size, scale, ratio, aligned=aligned)
    boxes = rois(40)
    results = []
    for each in (layer, SeparableRoIAlign.like(layer)):
        feats = torch.randn(2, 6, 12, 15, generator=generator.manual_seed(1)).requires_grad_()
        pooled = each(feats, boxes)
        (pooled * torch.randn(pooled.shape, generator=generator)).sum().backward()
        results.append((pooled.detach(), feats.grad))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-4, rtol=0)
    torch.testing.assert_close(results[1][1], results[0][1], atol=1e-3, rtol=0)


def test_no_rois():
    feats = torch.randn(2, 6, 12, 15, requires_grad=True)
    pooled = SeparableRoIAlign(4, 1.0, 2)(feats, torch.zeros(0, 5))
    assert pooled.shape == (0, 6, 4, 4)
    pooled.sum().backward()
    assert not feats.grad.any()


@pytest.mark.parametrize('changes', [dict(pool_mode='max'), dict(sampling_ratio=0)])
def test_what_it_does_not_cover_is_mmcvs(changes):
    layer = RoIAlign(**dict(output_size=4, spatial_scale=0.5, sampling_ratio=2) | changes)
    feats = torch.randn(2, 6, 12, 15)
    assert torch.equal(SeparableRoIAlign.like(layer)(feats, rois(9)), layer(feats, rois(9)))


def test_detectors_pool_with_it(build_detector):
    for kind in ('c4', 'seqnet', 'alignps-roi'):
        layers = [module for module in build_detector(kind).modules() if isinstance(module, RoIAlign)]
        assert layers and all(type(layer) is SeparableRoIAlign for layer in layers)
