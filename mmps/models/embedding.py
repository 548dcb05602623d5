"""Heads that turn the features of persons into embeddings. Shapes: N persons, or boxes, of a batch; D embedding size."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmps.registry import MODELS


class RowNorm(nn.BatchNorm1d):
    """Batch norm that takes any number of rows also in training: of fewer than two it uses the running statistics."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.by_running_statistics(rows) if self.training and len(rows) < 2 else super().forward(rows)

    def by_running_statistics(self, rows: Tensor) -> Tensor:
        """As in evaluation, also in training; the statistics stay as they are."""
        return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


@MODELS.register_module()
class BNLinear(BaseModule):
    """A fully connected layer and a batch norm, float32 from there on: SeqNet's BN-neck (AAAI 2021), NAE's projections.

    Both start with weights of standard deviation 0.01, as in SeqNet's code.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__([dict(type='Normal', layer='Linear', std=0.01), dict(type='Normal', layer='BatchNorm1d', std=0.01)])
        self.linear = nn.Linear(in_features, out_features)
        self.norm = RowNorm(out_features)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_features) -> (N, out_features)."""
        return self.norm(self.linear(features).float())


@MODELS.register_module()
class EmbeddingHead(BaseModule):
    """Turns the pooled features of persons into embeddings: fully connected layers, then L2-normalization.

    With ``roi_feat_size=None`` the features are averaged over the box first, as OIM does on res5 (Xiao et al., CVPR 2017);
    with a size they are flattened, which keeps where on the body a feature lies, as heads over an FPN do.

    Args:
        in_channels: C of the pooled features.
        embed_dims: D.
        roi_feat_size: Height and width (h, w) of the pooled features, or None.
        fc_dims: Widths of hidden layers, each followed by a ReLU.
        batch_norm: Standardise every dimension before the L2-normalization, as NAE (Chen et al., CVPR 2020) does. In
            training it needs two persons; of a single one it uses the running statistics.
        init_cfg: Default: weights of standard deviation 0.01.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int = 256,
        roi_feat_size: Sequence[int] | None = None,
        fc_dims: Sequence[int] = (),
        batch_norm: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg or dict(type='Normal', layer='Linear', std=0.01))
        self.embed_dims = embed_dims
        self.pool = nn.AdaptiveAvgPool2d(1) if roi_feat_size is None else nn.Identity()
        widths = [in_channels * (roi_feat_size[0] * roi_feat_size[1] if roi_feat_size else 1), *fc_dims]
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], embed_dims))
        self.norm = RowNorm(embed_dims) if batch_norm else None

    def forward(self, roi_feats: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, D), L2-normalized, float32; N may be 0."""
        embeddings = self.layers(self.pool(roi_feats).flatten(1)).float()
        if self.norm is not None:
            embeddings = self.norm(embeddings)
        return F.normalize(embeddings)


@MODELS.register_module()
class NormAwareEmbedding(BaseModule):
    """Norm-aware embedding (Chen et al., CVPR 2020, section 3.2): its direction says who it is, its length whether anybody.

    Each kind of features of a box is projected; the projections together are the embedding. Their norm, through a batch norm
    of one channel, is the logit of the box holding a person.

    Args:
        in_channels: Sizes of the kinds of features, for SeqNet's res4 and res5 (1024, 2048).
        embed_dims: D, shared out evenly, what is left over to the last kinds.
    """

    def __init__(self, in_channels: Sequence[int], embed_dims: int = 256):
        super().__init__()
        self.embed_dims = embed_dims
        kinds = len(in_channels)
        widths = [(embed_dims + kind) // kinds for kind in range(kinds)]
        self.projectors = ModuleList(BNLinear(*sizes) for sizes in zip(in_channels, widths, strict=True))
        self.rescaler = RowNorm(1)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """One (N, C_k) tensor a kind -> embeddings (N, D), L2-normalized, and person logits (N,), both float32; N may be 0."""
        projected = torch.cat([project(kind) for project, kind in zip(self.projectors, feats, strict=True)], dim=1)
        norms = torch.linalg.vector_norm(projected, dim=1, keepdim=True)
        return projected / norms.clamp(min=1e-12), self.rescaler(norms).squeeze(1)
