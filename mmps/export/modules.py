"""Replaces the modules of a detector that ``torch.export`` cannot follow."""

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from .operators import deform_conv, roi_align

AnyModule = TypeVar('AnyModule', bound=nn.Module)


def exportable(detector: AnyModule, unroll: bool) -> AnyModule:
    """Returns a copy of a detector for tests that calls the operators of :mod:`.operators`.

    Args:
        unroll: Compute deformable convolutions with ``grid_sample`` and a plain convolution.
    """
    detector = copy.deepcopy(detector).eval().requires_grad_(False)
    for module in detector.modules():
        if isinstance(module, SingleRoIExtractor):
            module.forward = partial(pool_rois, module)
        elif isinstance(module, DeformConv2dPack | ModulatedDeformConv2dPack):
            module.forward = partial(convolve_deformably, module, convolve_unrolled if unroll else deform_conv)
    return detector


def pool_rois(extractor: SingleRoIExtractor, feats: tuple[Tensor, ...], rois: Tensor) -> Tensor:
    """Pools RoIs (R, 5), each from its level."""
    layers = list(extractor.roi_layers)
    first, scales = layers[0], [layer.spatial_scale for layer in layers]
    level_of = extractor.map_roi_levels(rois, len(feats))
    return roi_align(list(feats), rois, level_of, list(first.output_size), scales, first.sampling_ratio, first.aligned)


def convolve_deformably(
    conv: DeformConv2dPack | ModulatedDeformConv2dPack, convolve: Callable[..., Tensor], x: Tensor
) -> Tensor:
    """Runs a deformable convolution. The second version weighs its samples and has a bias."""
    offset, mask, bias = conv.conv_offset(x), None, None
    if isinstance(conv, ModulatedDeformConv2dPack):
        first, second, logits = offset.chunk(3, dim=1)
        offset, mask, bias = torch.cat([first, second], 1), logits.sigmoid(), conv.bias
    geometry = (list(each) for each in (conv.stride, conv.padding, conv.dilation))
    return convolve(x, offset, mask, conv.weight, bias, *geometry, conv.groups)


def convolve_unrolled(
    feats: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Computes :func:`~mmps.export.operators.deform_conv` of one group by sampling the map at the taps of all points.

    Raises:
        ValueError: There are several groups.
    """
    taps_y, taps_x = weight.shape[2:]
    taps = taps_y * taps_x
    if groups != 1 or offset.shape[1] != 2 * taps:
        raise ValueError('unroll: expected deformable convolutions of one group')
    height, width = offset.shape[2:]

    def positions(count: int, axis: int) -> tuple[Tensor, Tensor]:
        """Positions of the points along an axis, and those of the taps relative to them."""
        points = torch.arange(count, device=feats.device) * stride[axis] - padding[axis]
        return points, torch.arange(weight.shape[2 + axis], device=feats.device) * dilation[axis]

    (rows, taps_of_rows), (columns, taps_of_columns) = positions(height, 0), positions(width, 1)
    moved = offset.unflatten(1, (taps, 2))
    y = moved[:, :, 0] + taps_of_rows.repeat_interleave(taps_x)[:, None, None] + rows[:, None]
    x = moved[:, :, 1] + taps_of_columns.repeat(taps_y)[:, None, None] + columns
    # With align_corners=False, -1 and 1 are the outer edges of the map.
    grid = torch.stack([(2 * x + 1) / feats.shape[3] - 1, (2 * y + 1) / feats.shape[2] - 1], dim=-1)
    sampled = F.grid_sample(feats, grid.flatten(1, 2), align_corners=False).unflatten(2, (taps, height))
    if mask is not None:
        sampled = sampled * mask[:, None]
    return F.conv2d(sampled.flatten(1, 2), weight.flatten(1)[..., None, None], bias)
