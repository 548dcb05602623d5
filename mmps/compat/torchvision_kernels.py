"""Computes the operators of :mod:`.torch_kernels` with torchvision's kernels. Arguments and shapes are documented there."""

import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from . import torch_kernels
from .torch_kernels import Gradients, exact_type

KERNELS = torch.ops.torchvision


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    if offset:
        return torch_kernels.nms(boxes, scores, iou_threshold, offset)
    return KERNELS.nms(boxes.to(exact_type(boxes)), scores.to(exact_type(boxes)), iou_threshold)


def roi_align(feats: Tensor, rois: Tensor, size: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    exact = exact_type(feats)
    return KERNELS.roi_align(feats.to(exact), rois.to(exact), scale, *size, sampling_ratio, aligned).to(feats.dtype)


def roi_align_backward(
    grad_output: Tensor, rois: Tensor, shape: tuple[int, ...], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    exact = exact_type(grad_output)
    return KERNELS._roi_align_backward(
        grad_output.to(exact).contiguous(), rois.to(exact), scale, *grad_output.shape[2:], *shape, sampling_ratio, aligned
    ).to(grad_output.dtype)


def deform_conv(
    feats: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    inputs = _inputs(feats, offset, mask, weight, bias, stride, padding, dilation, groups)
    return KERNELS.deform_conv2d(*inputs).to(feats.dtype)


def deform_conv_backward(
    feats: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    grad_output: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    weight_only: bool = False,
) -> Gradients:
    inputs = _inputs(feats, offset, mask, weight, None, stride, padding, dilation, groups)
    grad_feats, grad_weight, grad_offset, grad_mask, _ = KERNELS._deform_conv2d_backward(
        grad_output.to(inputs[0]).contiguous(), *inputs
    )
    return (
        grad_feats.to(feats.dtype),
        grad_offset.to(offset.dtype),
        None if mask is None else grad_mask.to(mask.dtype),
        grad_weight.to(weight.dtype),
    )


def _inputs(
    feats: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> tuple:
    offset_groups = offset.shape[1] // (2 * weight.shape[2] * weight.shape[3])
    no_mask = feats.new_zeros(len(feats), 1) if mask is None else mask
    no_bias = feats.new_zeros(len(weight)) if bias is None else bias
    tensors = (each.to(exact_type(feats)).contiguous() for each in (feats, weight, offset, no_mask, no_bias))
    return *tensors, *stride, *padding, *dilation, groups, offset_groups, mask is not None
