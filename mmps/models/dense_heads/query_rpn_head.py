"""The region proposal network of QEEPS. Shapes: B images, L levels, A anchors per point, C channels."""

import torch
import torch.nn.functional as F
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor, nn

from mmps.models.query_guidance import Excitation
from mmps.registry import MODELS

from .rpn_head import AllRanksRPNHead


@MODELS.register_module()
class QueryRPNHead(AllRanksRPNHead):
    """An RPN with a second one, QRPN, that finds only the query (Munjal et al., CVPR 2019, figure 2).

    QRPN excites the maps by the query's pooled features and scores the same anchors. A proposal's score is the mean of both
    probabilities, which ranks like their sum. Without a query this is the plain RPN.
    """

    def _init_layers(self) -> None:
        super()._init_layers()
        self.query_excitation = Excitation(self.in_channels, self.in_channels)
        self.query_conv = nn.Conv2d(self.in_channels, self.feat_channels, 3, padding=1)
        self.query_cls = nn.Conv2d(self.feat_channels, self.num_base_priors, 1)

    def query_scores(self, feats: tuple[Tensor, ...], query_feats: Tensor) -> list[Tensor]:
        """Returns the logits of the query's person.

        Args:
            feats: L maps (B, C, H_i, W_i).
            query_feats: The pooled features (B, C, h, w) of one query per image.

        Returns:
            L tensors (B, A, H_i, W_i), float32.
        """
        factors = self.query_excitation(query_feats.mean((2, 3)))[:, :, None, None]
        return [self.query_cls(F.relu(self.query_conv(level * factors))).float() for level in feats]

    def query_loss_and_predict(
        self, feats: tuple[Tensor, ...], query_feats: Tensor, samples: SampleList, wanted: list[int], proposal_cfg: dict
    ) -> tuple[dict[str, Tensor], InstanceList]:
        """Returns the RPN's losses, with ``loss_query_rpn``, and the proposals.

        Args:
            wanted: For each image the index of the query's person in ``gt_instances``, or -1.
        """
        scores, deltas = self(feats)
        query_scores = self.query_scores(feats, query_feats)
        persons, ignored, metas = unpack_gt_instances(samples)
        losses = self.loss_by_feat(scores, deltas, persons, metas, ignored)
        query_persons = [
            each[index : index + 1] if index >= 0 else each[:0] for each, index in zip(persons, wanted, strict=True)
        ]
        losses['loss_query_rpn'] = self.loss_by_feat(query_scores, deltas, query_persons, metas, ignored)['loss_rpn_cls']
        joint = joint_scores(scores, query_scores)
        return losses, self.predict_by_feat(joint, deltas, batch_img_metas=metas, cfg=proposal_cfg)

    def query_predict(self, feats: tuple[Tensor, ...], query_feats: Tensor, samples: SampleList) -> InstanceList:
        """Returns the proposals of each image for its query."""
        scores, deltas = self(feats)
        joint = joint_scores(scores, self.query_scores(feats, query_feats))
        return self.predict_by_feat(joint, deltas, batch_img_metas=[sample.metainfo for sample in samples])


def joint_scores(scores: list[Tensor], query_scores: list[Tensor]) -> list[Tensor]:
    """Returns the logits of the means of two lists of probabilities that are given as logits."""
    return [torch.logit((a.sigmoid() + b.sigmoid()) / 2, eps=1e-6) for a, b in zip(scores, query_scores, strict=True)]
