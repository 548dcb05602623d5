"""Shared heads whose output is the features of a box as vectors. Shapes: R RoIs, C channels, (h, w) the pooled size."""

import torch.nn.functional as F
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmps.registry import MODELS


@MODELS.register_module()
class PooledResLayer(ResLayer):
    """A ResNet stage on RoI features, then the maximum over the box (SeqNet, AAAI 2021: res5).

    Args:
        with_input: Give the maximum of the RoI features too, as norm-aware embedding wants.
        **kwargs: MMDetection's.
    """

    def __init__(self, *args, with_input: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.with_input = with_input

    def forward(self, roi_feats: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(R, C, h, w) -> (R, C'), or ((R, C), (R, C'))."""
        pooled = F.adaptive_max_pool2d(super().forward(roi_feats), 1).flatten(1)
        return (F.adaptive_max_pool2d(roi_feats, 1).flatten(1), pooled) if self.with_input else pooled


@MODELS.register_module()
class RoIFCs(BaseModule):
    """Two fully connected layers on flattened RoI features, as heads over an FPN have them.

    Args:
        in_channels: C.
        roi_feat_size: h = w.
        fc_dims: Width of both.
    """

    def __init__(self, in_channels: int, roi_feat_size: int, fc_dims: int):
        super().__init__(dict(type='Xavier', distribution='uniform', layer='Linear'))
        self.layers = nn.Sequential(
            nn.Linear(in_channels * roi_feat_size**2, fc_dims), nn.ReLU(), nn.Linear(fc_dims, fc_dims), nn.ReLU()
        )

    def forward(self, roi_feats: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, h, w) -> (R, C * h * w) before and (R, fc_dims) after the layers."""
        flat = roi_feats.flatten(1)
        return flat, self.layers(flat)
