"""Keeps coordinates in float32 under mixed precision.

float16 represents whole pixels only up to 2,048, bfloat16 up to 256.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.dense_heads.anchor_head import AnchorHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from torch import nn


def keep_boxes_float32(model: nn.Module) -> None:
    """Keeps a detector's boxes in float32 under autocast.

    The outputs of anchor and box heads become float32 before boxes are decoded from them. RoI extractors get float32
    features, because they round the boxes to the type of the features.
    """
    for module in model.modules():
        if isinstance(module, AnchorHead | BBoxHead):
            module.register_forward_hook(_float32_outputs)
        elif isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(_float32_inputs)


def _float32_outputs(module: nn.Module, inputs: tuple, outputs: Any) -> Any:
    return float32(outputs)


def _float32_inputs(module: nn.Module, inputs: tuple) -> tuple:
    return float32(inputs)


def float32(values: Any) -> Any:
    """Converts all floating-point tensors in nested lists, tuples and dicts to float32."""
    if isinstance(values, torch.Tensor):
        return values.float() if values.is_floating_point() else values
    if isinstance(values, Mapping):
        return {name: float32(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(float32(value) for value in values)
    return values
