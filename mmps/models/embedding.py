from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmps.registry import MODELS


@MODELS.register_module()
class EmbeddingHead(BaseModule):
    """Turns the pooled features of persons into embeddings: fully connected layers, then L2-normalisation.

    With ``roi_feat_size=None`` the features are averaged over the box first, as OIM does on res5 (Xiao et al., CVPR 2017);
    with a size they are flattened, which keeps where on the body a feature lies, as heads over an FPN do.

    Args:
        in_channels: C of the pooled features.
        embed_dims: D.
        roi_feat_size: Height and width (h, w) of the pooled features, or None.
        fc_dims: Widths of hidden layers, each followed by a ReLU.
        batch_norm: Standardise every dimension before the L2-normalisation, as NAE (Chen et al., CVPR 2020) does. In
            training it needs two persons; of a single one it uses the running statistics.
        init_cfg: Default: weights of standard deviation 0.01.
    """

    def __init__(self,
                 in_channels: int,
                 embed_dims: int = 256,
                 roi_feat_size: Sequence[int] | None = None,
                 fc_dims: Sequence[int] = (),
                 batch_norm: bool = False,
                 init_cfg: dict | None = None):
        super().__init__(init_cfg or dict(type='Normal', layer='Linear', std=0.01))
        self.embed_dims = embed_dims
        self.pool = nn.AdaptiveAvgPool2d(1) if roi_feat_size is None else nn.Identity()
        widths = [in_channels * (roi_feat_size[0] * roi_feat_size[1] if roi_feat_size else 1), *fc_dims]
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], embed_dims))
        self.norm = nn.BatchNorm1d(embed_dims) if batch_norm else None

    def forward(self, roi_feats: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, D), L2-normalised, float32; N may be 0."""
        embeddings = self.layers(self.pool(roi_feats).flatten(1)).float()
        if self.norm is not None:
            embeddings = self._standardise(embeddings)
        return F.normalize(embeddings)

    def _standardise(self, embeddings: Tensor) -> Tensor:
        norm = self.norm
        if self.training and len(embeddings) < 2:
            return F.batch_norm(embeddings, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(embeddings)
