"""Computes the operators of :mod:`.torch_kernels` with MMCV's compiled module. Arguments and shapes are documented there.

The kernels of mmcv 2.1.0 ignore a tensor's strides: for other memory formats they return wrong values without an error.
They do not support bfloat16, and on a CPU not float16. So inputs are made contiguous and float32 or float64 first.
"""

import importlib

import torch
from torch import Tensor

from .torch_kernels import Gradients, exact_type

compiled = importlib.import_module('mmcv._ext')
# Saved because mmps.compat.operators replaces these attributes.
_nms, _roi_align_forward, _roi_align_backward = compiled.nms, compiled.roi_align_forward, compiled.roi_align_backward
_convolve_forward, _convolve_backward_inputs, _convolve_backward_weight = (
    compiled.deform_conv_forward,
    compiled.deform_conv_backward_input,
    compiled.deform_conv_backward_parameters,
)
_modulated_forward, _modulated_backward = compiled.modulated_deform_conv_forward, compiled.modulated_deform_conv_backward


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    return _nms(boxes.float().contiguous(), scores.float().contiguous(), iou_threshold=iou_threshold, offset=offset)


def roi_align(feats: Tensor, rois: Tensor, size: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    plain, boxes = _plain(feats), _plain(rois)
    pooled, unused = plain.new_zeros(len(rois), feats.shape[1], *size), plain.new_zeros(0)
    _roi_align_forward(
        plain,
        boxes.to(plain),
        pooled,
        unused,
        unused,
        aligned_height=size[0],
        aligned_width=size[1],
        spatial_scale=scale,
        sampling_ratio=sampling_ratio,
        pool_mode=1,
        aligned=aligned,
    )
    return pooled.to(feats.dtype)


def roi_align_backward(
    grad_output: Tensor, rois: Tensor, shape: tuple[int, ...], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    plain = _plain(grad_output)
    grad_feats, unused = plain.new_zeros(shape), plain.new_zeros(0)
    _roi_align_backward(
        plain,
        _plain(rois).to(plain),
        unused,
        unused,
        grad_feats,
        aligned_height=grad_output.shape[2],
        aligned_width=grad_output.shape[3],
        spatial_scale=scale,
        sampling_ratio=sampling_ratio,
        pool_mode=1,
        aligned=aligned,
    )
    return grad_feats.to(grad_output.dtype)


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
    plain, moved, kernels = _plain(feats), _plain(offset), _plain(weight)
    out, unused = plain.new_empty(len(feats), len(weight), *offset.shape[2:]), [plain.new_empty(0), plain.new_empty(0)]
    offset_groups = offset.shape[1] // (2 * weight.shape[2] * weight.shape[3])
    if mask is None:
        _convolve_forward(
            plain, kernels, moved, out, *unused, **_geometry(weight, stride, padding, dilation, groups, offset_groups)
        )
        out = out if bias is None else out + bias[:, None, None]
    else:
        _modulated_forward(
            plain,
            kernels,
            unused[0] if bias is None else _plain(bias),
            unused[0],
            moved,
            _plain(mask),
            out,
            unused[1],
            **_modulated_geometry(weight, stride, padding, dilation, groups, offset_groups),
            with_bias=bias is not None,
        )
    return out.to(feats.dtype)


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
    plain, moved, kernels, grad_output = _plain(feats), _plain(offset), _plain(weight), _plain(grad_output)
    grad_feats, grad_offset, grad_weight = (torch.zeros_like(each) for each in (plain, moved, kernels))
    offset_groups = offset.shape[1] // (2 * weight.shape[2] * weight.shape[3])
    unused = [plain.new_empty(0), plain.new_empty(0)]
    grad_mask = None
    if mask is None:
        geometry = _geometry(weight, stride, padding, dilation, groups, offset_groups)
        if not weight_only:
            _convolve_backward_inputs(plain, moved, grad_output, grad_feats, grad_offset, kernels, unused[0], **geometry)
        _convolve_backward_weight(plain, moved, grad_output, grad_weight, *unused, scale=1, **geometry)
    else:
        grad_mask = torch.zeros_like(_plain(mask))
        _modulated_backward(
            plain,
            kernels,
            unused[0],
            unused[0],
            moved,
            _plain(mask),
            unused[1],
            grad_feats,
            grad_weight,
            unused[0].clone(),
            grad_offset,
            grad_mask,
            grad_output,
            **_modulated_geometry(weight, stride, padding, dilation, groups, offset_groups),
            with_bias=False,
        )
        grad_mask = grad_mask.to(mask.dtype)
    return grad_feats.to(feats.dtype), grad_offset.to(offset.dtype), grad_mask, grad_weight.to(weight.dtype)


def _geometry(
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    offset_groups: int,
) -> dict[str, int]:
    return dict(
        kW=weight.shape[3],
        kH=weight.shape[2],
        dW=stride[1],
        dH=stride[0],
        padW=padding[1],
        padH=padding[0],
        dilationW=dilation[1],
        dilationH=dilation[0],
        group=groups,
        deformable_group=offset_groups,
        im2col_step=1,
    )


def _modulated_geometry(
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    offset_groups: int,
) -> dict[str, int]:
    return dict(
        kernel_h=weight.shape[2],
        kernel_w=weight.shape[3],
        stride_h=stride[0],
        stride_w=stride[1],
        pad_h=padding[0],
        pad_w=padding[1],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        group=groups,
        deformable_group=offset_groups,
    )


def _plain(values: Tensor) -> Tensor:
    """Returns the values contiguous, in float32 or float64."""
    return values.to(exact_type(values)).contiguous()
