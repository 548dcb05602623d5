"""Shared heads that turn pooled features into vectors. Shapes: R RoIs, C channels, (h, w) the pooled size."""

from typing import Any

import torch.nn.functional as F
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmps.registry import MODELS


@MODELS.register_module()
class PooledResLayer(ResLayer):
    """Applies a ResNet stage to RoI features and takes the maximum over the box (res5 in SeqNet, AAAI 2021).

    Args:
        with_input: Whether to return the maximum of the RoI features too, for norm-aware embedding.
        **kwargs: Arguments of MMDetection's ``ResLayer``.
    """

    def __init__(self, *args: Any, with_input: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.with_input = with_input

    def forward(self, roi_feats: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(R, C, h, w) -> (R, C'), or, with ``with_input``, ((R, C), (R, C'))."""
        pooled = F.adaptive_max_pool2d(super().forward(roi_feats), 1).flatten(1)
        return (F.adaptive_max_pool2d(roi_feats, 1).flatten(1), pooled) if self.with_input else pooled


@MODELS.register_module()
class RoIFCs(BaseModule):
    """Applies two fully connected layers to flattened RoI features, like the box heads over an FPN.

    Args:
        in_channels: C.
        roi_feat_size: h = w.
        fc_dims: Width of both layers.
    """

    def __init__(self, in_channels: int, roi_feat_size: int, fc_dims: int):
        super().__init__(dict(type='Xavier', distribution='uniform', layer='Linear'))
        self.layers = nn.Sequential(
            nn.Linear(in_channels * roi_feat_size**2, fc_dims), nn.ReLU(), nn.Linear(fc_dims, fc_dims), nn.ReLU()
        )

    def forward(self, roi_feats: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, h, w) -> the flattened features (R, C * h * w) and the output of the layers (R, fc_dims)."""
        flat = roi_feats.flatten(1)
        return flat, self.layers(flat)
