"""What makes detectors fit for mixed precision: coordinates stay float32.

float16 tells pixels apart up to 2,048, bfloat16 up to 256.
"""

from collections.abc import Mapping

import torch
from mmdet.models.dense_heads.anchor_head import AnchorHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from torch import nn


def keep_boxes_float32(model: nn.Module) -> None:
    """Keeps a detector's boxes in float32 under autocast.

    What its anchor and box heads give becomes float32 before boxes are decoded from it. Its RoI extractors get float32
    features, or they would round the boxes to the features' type.
    """
    for module in model.modules():
        if isinstance(module, AnchorHead | BBoxHead):
            module.register_forward_hook(_float32_outputs)
        elif isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(_float32_inputs)


def _float32_outputs(module: nn.Module, inputs: tuple, outputs):
    return float32(outputs)


def _float32_inputs(module: nn.Module, inputs: tuple) -> tuple:
    return float32(inputs)


def float32(values):
    """Every floating-point tensor in nested lists, tuples and dicts as float32."""
    if isinstance(values, torch.Tensor):
        return values.float() if values.is_floating_point() else values
    if isinstance(values, Mapping):
        return {name: float32(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(float32(value) for value in values)
    return values
