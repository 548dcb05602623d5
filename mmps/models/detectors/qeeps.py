"""QEEPS. Shapes: B images, each with one query; L levels; C channels; P queries, P = sum of N_i; D embedding size."""

from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import InstanceList
from mmengine.model import ModuleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmps.dist import losses_over_ranks
from mmps.models.detectors.base import check_boxes
from mmps.models.detectors.two_stage import TwoStagePersonSearch
from mmps.models.embedding_heads import without_updates
from mmps.models.query_guidance import Excitation, QuerySimilarity, choose_queries
from mmps.models.roi_heads.person_search_roi_head import loss_of_boxes
from mmps.models.roi_heads.sampling import positives, sample_rois
from mmps.registry import MODELS


@MODELS.register_module()
class QEEPS(TwoStagePersonSearch):
    """OIM guided by the query (Munjal et al., "Query-guided End-to-End Person Search", CVPR 2019).

    Three parts know the query: QSSE-Net (``excitations``) weighs the channels of query and gallery maps by both images, QRPN
    (in :class:`~mmps.models.dense_heads.QueryRPNHead`) proposes boxes that look like the query, and QSimNet (``similarity``)
    compares embeddings. Without a query the detector is OIM, also as a teacher. Training adds the losses of the guided search
    (``query.*``) to OIM's; each image is searched for a person of its partner (:func:`choose_queries`).

    Needs a ``QueryRPNHead``, and a ``PersonSearchRoIHead`` whose branches share the pooled features.

    Raises:
        ValueError: Another RPN head, or a RoI head with a ``reid_roi_extractor``.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not hasattr(self.rpn_head, 'query_predict'):
            raise ValueError(f"QEEPS: rpn_head: expected type='QueryRPNHead', got {type(self.rpn_head).__name__}")
        if self.roi_head.reid_roi_extractor is not None:
            raise ValueError('QEEPS: roi_head.reid_roi_extractor: expected None, since boxes and embeddings share features')
        channels, levels = self.rpn_head.in_channels, len(self.rpn_head.prior_generator.strides)
        self.excitations = ModuleList(Excitation(2 * channels, channels) for _ in range(levels))
        self.similarity = QuerySimilarity(self.memory.embed_dims)

    def loss_from_feats(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        losses = super().loss_from_feats(feats, batch_data_samples)
        with without_updates(self.roi_head):  # the statistics stay those of OIM, without a query
            guided = self.query_loss(feats, batch_data_samples)
        return losses | {f'query.{name}': value for name, value in guided.items()}

    def query_loss(self, feats: tuple[Tensor, ...], samples: SampleList) -> dict[str, Tensor]:
        """Computes the losses of a search in each image for a person of its partner."""
        partners, boxes, wanted = choose_queries(samples)
        partner_feats, partner_samples = tuple(level[partners] for level in feats), [samples[each] for each in partners]
        feats, query_feats = self.excite(feats, samples, self.describe_queries(partner_feats, partner_samples, boxes))
        losses, proposals = self.rpn_head.query_loss_and_predict(
            feats, query_feats, samples, wanted, self.train_cfg.get('rpn_proposal', self.test_cfg.rpn)
        )
        rois = sample_rois(self.roi_head, proposals, samples)
        results = loss_of_boxes(self.roi_head, feats, rois)
        # Embedded together, because a batch norm over the few queries alone would differ from that of a test.
        pooled = torch.cat([results['bbox_feats'][positives(rois)], self.share(query_feats)])
        *embeddings, of_queries = self.roi_head.embedding_head(pooled).split(
            [len(each.pos_priors) for each in rois] + [len(rois)]
        )
        repeated = [query.expand_as(each) for each, query in zip(embeddings, of_queries, strict=True)]
        same = torch.cat([each.pos_assigned_gt_inds == index for each, index in zip(rois, wanted, strict=True)])
        total = F.cross_entropy(self.similarity(torch.cat(embeddings), torch.cat(repeated)), same.long(), reduction='sum')
        mean = losses_over_ranks({'loss_similarity': total / max(len(same), 1)}, len(same))
        return losses | results['loss_bbox'] | mean

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: SampleList,
        rescale: bool = True,
        queries: InstanceData | None = None,
    ) -> SampleList:
        """Detects and embeds persons. With queries, one per image, it searches each image for its query.

        Args:
            queries: B queries from :meth:`describe_queries`. ``None``: predicts as OIM does.

        Returns:
            The samples, as from :meth:`PersonSearchDetector.predict`; with queries ``pred_instances`` are those of
            :meth:`search`.
        """
        if queries is None:
            return super().predict(batch_inputs, batch_data_samples, rescale)
        results = self.search(self.extract_feat(batch_inputs), batch_data_samples, queries, rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def describe_queries(self, feats: tuple[Tensor, ...], samples: SampleList, boxes: list[Tensor]) -> InstanceData:
        """Computes what a search needs to know of its queries.

        Args:
            feats: The output of :meth:`extract_feat` for the queries' images.
            samples: The data samples of these images.
            boxes: For each image the boxes (N_i, 4) of its queries, in input-image pixels.

        Returns:
            P queries, image by image: ``contexts`` (P, L, C), the means of their images' maps; ``feats`` (P, C, h, w), the
            pooled features of their boxes; ``levels`` (P,), the levels that these come from.
        """
        check_boxes(boxes, len(feats[0]))
        rois, extractor = bbox2roi(boxes), self.roi_head.bbox_roi_extractor
        return InstanceData(
            contexts=image_means(feats, samples)[rois[:, 0].long()],
            feats=extractor(feats[: extractor.num_inputs], rois),
            levels=extractor.map_roi_levels(rois, extractor.num_inputs),
        )

    def excite(
        self, feats: tuple[Tensor, ...], samples: SampleList, queries: InstanceData
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """QSSE-Net: multiplies the maps of B images and the pooled features of B queries by the same factors.

        Scaling channels and RoIAlign commute, so the queries' own maps are not needed.

        Returns:
            The maps, and the queries' pooled features (B, C, h, w).
        """
        both = torch.cat([queries.contexts, image_means(feats, samples)], dim=2)
        factors = torch.stack([excite(pooled) for excite, pooled in zip(self.excitations, both.unbind(1), strict=True)], 1)
        of_queries = factors[torch.arange(len(queries), device=factors.device), queries.levels]
        maps = tuple(level * each[:, :, None, None] for level, each in zip(feats, factors.unbind(1), strict=True))
        return maps, queries.feats * of_queries[:, :, None, None]

    def share(self, roi_feats: Tensor) -> Tensor:
        """Applies the shared head, if there is one, to pooled features (P, C, h, w)."""
        return self.roi_head.shared_head(roi_feats) if self.roi_head.with_shared_head else roi_feats

    def search(
        self, feats: tuple[Tensor, ...], samples: SampleList, queries: InstanceData, rescale: bool = True
    ) -> InstanceList:
        """Searches each of B images for its query.

        Args:
            feats: The output of :meth:`extract_feat` for the images.
            queries: B queries from :meth:`describe_queries`.
            rescale: Whether boxes are returned in original-image pixels.

        Returns:
            For each image bboxes (N, 4), scores (N,), labels (N,), embeddings (N, D) and similarities (N,): the log-odds that
            QSimNet gives to the query's person, since probabilities near 1 would tie.
        """
        feats, query_feats = self.excite(feats, samples, queries)
        results = self.roi_head.predict(feats, self.rpn_head.query_predict(feats, query_feats, samples), samples)
        embeddings = self.roi_head.embed(feats, [each.bboxes for each in results])
        of_queries = self.roi_head.embedding_head(self.share(query_feats))
        for result, sample, embedding, query in zip(results, samples, embeddings, of_queries, strict=True):
            other, same = self.similarity(embedding, query.expand_as(embedding)).unbind(1)
            result.embeddings, result.similarities = embedding, same - other
            if rescale:
                result.bboxes = result.bboxes / result.bboxes.new_tensor(sample.scale_factor).repeat(2)
        return results


def image_means(feats: tuple[Tensor, ...], samples: SampleList) -> Tensor:
    """Returns the means (B, L, C) of the maps over each image, without its padding."""
    means = []
    for image, sample in enumerate(samples):
        (height, width), (padded_height, padded_width) = sample.img_shape[:2], sample.batch_input_shape
        for level in feats:
            rows, columns = ceil(level.shape[2] * height / padded_height), ceil(level.shape[3] * width / padded_width)
            means.append(level[image, :, :rows, :columns].mean((1, 2)))
    return torch.stack(means).unflatten(0, (len(samples), -1))
