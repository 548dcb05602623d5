"""Heads that turn the features of persons into embeddings. Shapes: N persons or boxes of a batch, D embedding size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmps.registry import MODELS


class RowNorm(nn.BatchNorm1d):
    """Batch norm that accepts any number of rows. In training it uses the running statistics for fewer than two rows."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.by_running_statistics(rows) if self.training and len(rows) < 2 else super().forward(rows)

    def by_running_statistics(self, rows: Tensor) -> Tensor:
        """Normalizes with the running statistics, also in training, and does not update them."""
        return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


@contextmanager
def without_updates(module: nn.Module) -> Iterator[None]:
    """Keeps the running statistics of a module's batch norms. In training they still use the statistics of their batch."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@MODELS.register_module()
class BNLinear(BaseModule):
    """Applies a fully connected layer and a batch norm: SeqNet's BN-neck (AAAI 2021) and NAE's projections.

    The output is float32. Both layers start with weights of standard deviation 0.01, as in SeqNet's code.
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
    """Turns the pooled features of persons into embeddings with fully connected layers and L2-normalization.

    With ``roi_feat_size=None`` it first averages the features over the box, as OIM does on res5 (Xiao et al., CVPR 2017).
    With a size it flattens them, as heads over an FPN do. This keeps the positions of the features on the body.

    Args:
        in_channels: C of the pooled features.
        embed_dims: D.
        roi_feat_size: Height and width (h, w) of the pooled features, or None.
        fc_dims: Widths of the hidden layers. A ReLU follows each.
        batch_norm: Whether a batch norm precedes the L2-normalization, as in NAE (Chen et al., CVPR 2020). In training it
            uses the running statistics for fewer than two persons.
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
    """Norm-aware embedding (Chen et al., CVPR 2020, section 3.2): the direction is the identity, the norm the person score.

    It projects each kind of features of a box and concatenates the projections. The direction of the result is the embedding.
    Its norm, after a batch norm of one channel, is the person logit of the box.

    Args:
        in_channels: Sizes of the kinds of features, for SeqNet's res4 and res5 (1024, 2048).
        embed_dims: D, divided evenly among the kinds. The last kinds get the remainder.
    """

    def __init__(self, in_channels: Sequence[int], embed_dims: int = 256):
        super().__init__()
        self.embed_dims = embed_dims
        kinds = len(in_channels)
        widths = [(embed_dims + kind) // kinds for kind in range(kinds)]
        self.projectors = ModuleList(BNLinear(*sizes) for sizes in zip(in_channels, widths, strict=True))
        self.rescaler = RowNorm(1)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """One (N, C_k) tensor per kind -> L2-normalized embeddings (N, D) and person logits (N,), both float32; N may be 0."""
        projected = torch.cat([project(kind) for project, kind in zip(self.projectors, feats, strict=True)], dim=1)
        norms = torch.linalg.vector_norm(projected, dim=1, keepdim=True)
        return projected / norms.clamp(min=1e-12), self.rescaler(norms).squeeze(1)
