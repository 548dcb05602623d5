"""What makes detectors fit for mixed precision and for channels-last tensors.

Coordinates stay float32: float16 tells pixels apart up to 2,048, bfloat16 up to 256. MMCV's operators (2.1.0) read a tensor's
memory as if it was laid out plainly, whatever its strides say, and would give wrong values without a word.
"""
from collections.abc import Mapping

import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, RoIAlign
from mmdet.models.dense_heads.anchor_head import AnchorHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from torch import nn

from mmps.models.roi_heads.separable_roi_align import SeparableRoIAlign


def guard_operators(model: nn.Module) -> None:
    """Gives a detector's operators what they can work on, under autocast and in any memory format.

    What its anchor and box heads give becomes float32 before boxes are decoded from it. Its RoI extractors get float32
    features, or they would round the boxes to the features' type, and these, as what deformable convolutions get and their
    weights, in the plain layout; and they pool large features faster on a CPU (:class:`SeparableRoIAlign`). Deformable
    convolutions, which know no bfloat16 and work in the type of their offsets, get float32 offsets there.
    """
    for module in model.modules():
        if isinstance(module, AnchorHead | BBoxHead):
            module.register_forward_hook(_float32_outputs)
        elif isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(_float32_plain_inputs)
            for index, layer in enumerate(module.roi_layers):
                if type(layer) is RoIAlign:
                    module.roi_layers[index] = SeparableRoIAlign.like(layer)
        elif isinstance(module, DeformConv2d | ModulatedDeformConv2d):
            module.register_forward_pre_hook(_plain_inputs_and_weights)
            if hasattr(module, 'conv_offset'):
                module.conv_offset.register_forward_hook(_plain_offsets)


def _float32_outputs(module: nn.Module, inputs: tuple, outputs):
    return float32(outputs)


def _float32_plain_inputs(module: nn.Module, inputs: tuple) -> tuple:
    feats, *others = float32(inputs)
    return type(feats)(feat.contiguous() for feat in feats), *others


def _plain_inputs_and_weights(module: nn.Module, inputs: tuple) -> tuple:
    module.weight.data = module.weight.data.contiguous()
    return tuple(each.contiguous() for each in inputs)


def _plain_offsets(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    return (output.float() if output.dtype == torch.bfloat16 else output).contiguous()


def float32(values):
    """Every floating-point tensor in nested lists, tuples and dicts as float32."""
    if isinstance(values, torch.Tensor):
        return values.float() if values.is_floating_point() else values
    if isinstance(values, Mapping):
        return {name: float32(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(float32(value) for value in values)
    return values
