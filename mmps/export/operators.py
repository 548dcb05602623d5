"""The operators of detectors that ``torch.export`` cannot follow, as custom operators with a form in ONNX.

PyTorch computes them by mmps's kernels, so a module that calls them runs in both. Their outputs have shapes that do not depend
on data. Shapes: B images, C channels, (H, W) a map, R RoIs, (h, w) the pooled size, N boxes of an image.
"""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20 as op
from torch import Tensor

from mmps.compat import torch_kernels

OPSET = 20


@torch.library.custom_op('mmps::roi_align', mutates_args=())
def roi_align(
    levels: list[Tensor],
    rois: Tensor,
    level_of: Tensor,
    size: list[int],
    scales: list[float],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """RoIAlign of RoIs (R, 5), index of the image and x1 y1 x2 y2. Each reads one of several maps, by number ``level_of`` (R,).

    The other arguments are those of :func:`mmps.compat.torch_kernels.roi_align`.
    """
    height, width = size
    pooled = levels[0].new_zeros(rois.shape[0], levels[0].shape[1], height, width)
    for number, (feats, scale) in enumerate(zip(levels, scales, strict=True)):
        of_level = level_of == number
        pooled[of_level] = torch_kernels.roi_align(feats, rois[of_level], (height, width), scale, sampling_ratio, aligned)
    return pooled


@roi_align.register_fake
def _(levels: list[Tensor], rois: Tensor, level_of: Tensor, size: list[int], *_: Any) -> Tensor:
    return levels[0].new_empty(rois.shape[0], levels[0].shape[1], *size)


@torch.library.custom_op('mmps::deform_conv', mutates_args=())
def deform_conv(
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
    """A deformable convolution, as :func:`mmps.compat.torch_kernels.deform_conv`."""
    first, second, third = ((y, x) for y, x in (stride, padding, dilation))
    return torch_kernels.deform_conv(feats, offset, mask, weight, bias, first, second, third, groups)


@deform_conv.register_fake
def _(feats: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, *_: Any) -> Tensor:
    return feats.new_empty(feats.shape[0], weight.shape[0], *offset.shape[2:])


@torch.library.custom_op('mmps::keep_by_nms', mutates_args=())
def keep_by_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
    """Greedy non-maximum suppression of each image's boxes (B, N, 4) with a score (B, N) above 0.

    Returns:
        (B, N), 1 for the up to ``limit`` boxes of an image that are kept, else 0.
    """
    kept = torch.zeros_like(scores)
    for of_image, image_boxes, image_scores in zip(kept, boxes, scores, strict=True):
        (counted,) = (image_scores > 0).nonzero(as_tuple=True)
        found = torch_kernels.nms(image_boxes[counted], image_scores[counted], iou_threshold)[:limit]
        of_image[counted[found]] = 1
    return kept


@keep_by_nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
    return torch.empty_like(scores)


@torch.library.custom_op('mmps::leading_rows', mutates_args=())
def leading_rows(rows: Tensor) -> Tensor:
    """Cuts rows (B, K, C), of which the last column is above 0 in the first ones of each image only, to the longest of these
    beginnings, or to one row. This is the only operator whose output has a shape that depends on data."""
    longest = int((rows[..., -1] > 0).sum(1).amax())
    return rows[:, : max(1, longest)].clone()


@leading_rows.register_fake
def _(rows: Tensor) -> Tensor:
    count = torch.library.get_ctx().new_dynamic_size(min=1, max=rows.shape[1])
    return rows.new_empty(rows.shape[0], count, rows.shape[2])


def _onnx_roi_align(levels, rois, level_of, size, scales, sampling_ratio, aligned):  # type: ignore[no-untyped-def]
    def of_level(feats, some, scale):  # type: ignore[no-untyped-def]
        return op.RoiAlign(
            feats,
            op.Slice(some, op.Constant(value_ints=[1]), op.Constant(value_ints=[5]), op.Constant(value_ints=[1])),
            op.Cast(op.Squeeze(op.Gather(some, op.Constant(value_ints=[0]), axis=1), op.Constant(value_ints=[1])), to=7),
            coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel',
            output_height=size[0],
            output_width=size[1],
            sampling_ratio=sampling_ratio,
            spatial_scale=scale,
        )

    if len(levels) == 1:
        return of_level(levels[0], rois, scales[0])
    count = op.Slice(op.Shape(rois), op.Constant(value_ints=[0]), op.Constant(value_ints=[1]))
    shape = op.Concat(count, op.Constant(value_ints=[levels[0].shape[1], *size]), axis=0)
    pooled = op.Expand(op.Constant(value_float=0.0), shape)
    for number, (feats, scale) in enumerate(zip(levels, scales, strict=True)):
        places = op.Transpose(op.NonZero(op.Equal(level_of, op.Constant(value_int=number))), perm=[1, 0])
        pooled = op.ScatterND(pooled, places, of_level(feats, op.GatherND(rois, places), scale))
    return pooled


def _onnx_deform_conv(feats, offset, mask, weight, bias, stride, padding, dilation, groups):  # type: ignore[no-untyped-def]
    height, width = weight.shape[2:]
    return op.DeformConv(
        feats,
        weight,
        offset,
        bias,
        mask,
        strides=stride,
        pads=[*padding, *padding],
        dilations=dilation,
        group=groups,
        kernel_shape=[height, width],
        offset_group=offset.shape[1] // (2 * height * width),
    )


def _onnx_keep_by_nms(boxes, scores, iou_threshold, limit):  # type: ignore[no-untyped-def]
    found = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[limit]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[0.0]),
    )
    places = op.Gather(found, op.Constant(value_ints=[0, 2]), axis=1)  # image and box; all are of one class
    ones = op.Expand(op.Constant(value_floats=[1.0]), op.Slice(op.Shape(found), [0], [1], [0]))
    return op.ScatterND(op.Mul(scores, op.Constant(value_floats=[0.0])), places, ones)


def _onnx_leading_rows(rows):  # type: ignore[no-untyped-def]
    marks = op.Slice(rows, op.Constant(value_ints=[-1]), op.Constant(value_ints=[2**31]), op.Constant(value_ints=[2]))
    counts = op.ReduceSum(
        op.Cast(op.Greater(marks, op.Constant(value_float=0.0)), to=7), op.Constant(value_ints=[1, 2]), keepdims=0
    )
    longest = op.Max(op.ReduceMax(counts, op.Constant(value_ints=[0]), keepdims=1), op.Constant(value_ints=[1]))
    return op.Slice(rows, op.Constant(value_ints=[0]), longest, op.Constant(value_ints=[1]))


TRANSLATIONS: dict[Callable, Callable] = {
    torch.ops.mmps.roi_align.default: _onnx_roi_align,
    torch.ops.mmps.deform_conv.default: _onnx_deform_conv,
    torch.ops.mmps.keep_by_nms.default: _onnx_keep_by_nms,
    torch.ops.mmps.leading_rows.default: _onnx_leading_rows,
}
