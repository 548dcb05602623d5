"""The functions of :mod:`.torch_kernels` by MMCV's compiled module; see there for arguments and shapes.

mmcv 2.1.0: its kernels read memory as if it was laid out plainly, whatever a tensor's strides say, and give wrong values
without an error. They have no bfloat16, and on a CPU no float16. What they get here is plain, and float32 or float64.
"""

import importlib

import torch
from torch import Tensor

from .torch_kernels import exact_type

compiled = importlib.import_module('mmcv._ext')
# Saved here because mmps.compat.operators replaces them.
_nms, _forward, _backward = compiled.nms, compiled.roi_align_forward, compiled.roi_align_backward
_convolve, _of_inputs, _of_weight = (
    compiled.deform_conv_forward,
    compiled.deform_conv_backward_input,
    compiled.deform_conv_backward_parameters,
)
_convolve_modulated, _of_modulated = compiled.modulated_deform_conv_forward, compiled.modulated_deform_conv_backward


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    return _nms(boxes.float().contiguous(), scores.float().contiguous(), iou_threshold=iou_threshold, offset=offset)


def roi_align(feats: Tensor, rois: Tensor, size: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    plain, boxes = _plain(feats), _plain(rois)
    pooled, unused = plain.new_zeros(len(rois), feats.shape[1], *size), plain.new_zeros(0)
    _forward(
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
    gradient: Tensor, rois: Tensor, shape: tuple[int, ...], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    plain = _plain(gradient)
    of_feats, unused = plain.new_zeros(shape), plain.new_zeros(0)
    _backward(
        plain,
        _plain(rois).to(plain),
        unused,
        unused,
        of_feats,
        aligned_height=gradient.shape[2],
        aligned_width=gradient.shape[3],
        spatial_scale=scale,
        sampling_ratio=sampling_ratio,
        pool_mode=1,
        aligned=aligned,
    )
    return of_feats.to(gradient.dtype)


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
        _convolve(plain, kernels, moved, out, *unused, **_geometry(weight, stride, padding, dilation, groups, offset_groups))
        out = out if bias is None else out + bias[:, None, None]
    else:
        _convolve_modulated(
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
    gradient: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    of_weight_alone: bool = False,
) -> tuple[Tensor, ...]:
    plain, moved, kernels, of_output = _plain(feats), _plain(offset), _plain(weight), _plain(gradient)
    of_feats, of_offset, of_weight = (torch.zeros_like(each) for each in (plain, moved, kernels))
    offset_groups = offset.shape[1] // (2 * weight.shape[2] * weight.shape[3])
    unused = [plain.new_empty(0), plain.new_empty(0)]
    of_mask = None
    if mask is None:
        geometry = _geometry(weight, stride, padding, dilation, groups, offset_groups)
        if not of_weight_alone:
            _of_inputs(plain, moved, of_output, of_feats, of_offset, kernels, unused[0], **geometry)
        _of_weight(plain, moved, of_output, of_weight, *unused, scale=1, **geometry)
    else:
        of_mask = torch.zeros_like(_plain(mask))
        _of_modulated(
            plain,
            kernels,
            unused[0],
            unused[0],
            moved,
            _plain(mask),
            unused[1],
            of_feats,
            of_weight,
            unused[0].clone(),
            of_offset,
            of_mask,
            of_output,
            **_modulated_geometry(weight, stride, padding, dilation, groups, offset_groups),
            with_bias=False,
        )
        of_mask = of_mask.to(mask.dtype)
    return of_feats.to(feats.dtype), of_offset.to(offset.dtype), of_mask, of_weight.to(weight.dtype)


def _geometry(
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    offset_groups: int,
) -> dict:
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
) -> dict:
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
    """In the plain layout, in a type that the kernels have."""
    return values.to(exact_type(values)).contiguous()
