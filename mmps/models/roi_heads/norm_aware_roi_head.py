"""The RoI head of NAE. Shapes: R RoIs of a batch, N_i boxes of image i, D embedding size; boxes are in input-image pixels."""

from dataclasses import dataclass
from typing import Any

import torch
from mmcv.ops import nms
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmps.dist import losses_over_ranks
from mmps.models.roi_heads.person_search_roi_head import PersonSearchRoIHead
from mmps.models.roi_heads.sampling import SampledRoIs, positive_ids, positives, sample_rois
from mmps.registry import MODELS
from mmps.structures import jitter_boxes


@dataclass
class BoxOutputs:
    """The outputs of a norm-aware head for R boxes: embeddings (R, D), person logits (R,), box deltas (R, 4)."""

    embeddings: Tensor
    logits: Tensor
    deltas: Tensor


@MODELS.register_module()
class NormAwareRoIHead(PersonSearchRoIHead):
    """The RoI head of NAE (Chen et al., CVPR 2020): the norm of the embedding is the person score; boxes are regressed too.

    The shared head gives the kinds of features that the embedding head takes. The last kind also goes to the box head. The
    box head does not classify (``with_cls=False``); its ``loss_cls`` gets the logits from the norm.

    Args:
        confidence_weighted: Whether the embedding of a detection is multiplied by its score, so that uncertain detections
            get lower similarities (NAE, section 3.4: class-weighted similarity; SeqNet: confidence-weighted similarity).
        **kwargs: Arguments of :class:`PersonSearchRoIHead`.
    """

    def __init__(self, *, confidence_weighted: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.confidence_weighted = confidence_weighted

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Computes ``loss_cls``, ``loss_bbox`` and ``loss_reid``.

        The first two are averaged over the RoIs of all ranks, with one collective of 8 bytes.
        """
        return self.loss_from_rois(x, sample_rois(self, rpn_results_list, batch_data_samples), batch_data_samples)

    def loss_from_rois(self, x: tuple[Tensor, ...], samples: list[SampledRoIs], batch_data_samples: SampleList) -> dict:
        rois = bbox2roi([sample.priors for sample in samples])
        moved = (
            bbox2roi(jitter_boxes([sample.pos_priors for sample in samples], self.reid_jitter))
            if self.reid_jitter
            else rois[:0]
        )
        # Together, because the head ends in a batch norm.
        outputs = self.describe(x, torch.cat([rois, moved]))
        deltas, logits = outputs.deltas[: len(rois)], outputs.logits[: len(rois)]
        person = positives(samples)
        targets = self.bbox_head.bbox_coder.encode(
            *(torch.cat(each) for each in zip(*((s.pos_priors, s.pos_gt_bboxes) for s in samples), strict=True))
        )
        losses = dict(loss_bbox=self.bbox_head.loss_bbox(deltas[person], targets, avg_factor=max(len(rois), 1)))
        embeddings = outputs.embeddings[len(rois) :] if self.reid_jitter else outputs.embeddings[person]
        # Without RoIs the mean would be NaN.
        labels = person.new_zeros(len(rois)).index_fill_(0, person, 1)
        losses['loss_cls'] = self.bbox_head.loss_cls(logits, labels) if len(rois) else logits.sum()
        return dict(
            losses_over_ranks(losses, len(rois)),
            loss_reid=self.reid_loss(
                embeddings, positive_ids(samples, batch_data_samples), most_sightings=samples[0].most_sightings
            ),
        )

    def drop_boxes(self) -> None:
        super().drop_boxes()
        self.embedding_head.rescaler.requires_grad_(False)  # it gives the person score, which is then not used

    def embed_positives(self, x: tuple[Tensor, ...], samples: list[SampledRoIs]) -> Tensor:
        # In training all RoIs, also background, go through the batch norms.
        return torch.cat(self.embed(x, [sample.priors for sample in samples]))[positives(samples)]

    def describe(self, x: tuple[Tensor, ...], rois: Tensor) -> BoxOutputs:
        """Runs the head on RoIs (R, 5): index of the image, x1 y1 x2 y2."""
        feats = self.box_features(x, rois)
        embeddings, logits = self.embedding_head(feats)
        return BoxOutputs(embeddings, logits, self.bbox_head(feats[-1])[1])

    def box_features(self, x: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, ...]:
        """Pools the RoIs and runs the shared head: one (R, C_k) tensor per kind of features."""
        return self.shared_head(self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois))

    def predict(self, x: tuple[Tensor, ...], proposals: InstanceList, batch_data_samples: SampleList) -> InstanceList:
        """Detects persons: bboxes in input-image pixels, scores, labels and embeddings."""
        return self.refine(x, [each.bboxes for each in proposals], None, batch_data_samples)

    def refine(
        self, x: tuple[Tensor, ...], boxes: list[Tensor], scores: list[Tensor] | None, batch_data_samples: SampleList
    ) -> InstanceList:
        """Turns boxes into detections. Without given ``scores`` (N_i,) per image, the norms of the embeddings give them.

        The embedding is that of the box before regression, as in the code of NAE and SeqNet.
        """
        counts = [len(each) for each in boxes]
        outputs = self.describe(x, bbox2roi(boxes))
        scores = outputs.logits.sigmoid().split(counts) if scores is None else scores
        deltas, embeddings = outputs.deltas.split(counts), outputs.embeddings.split(counts)
        return [
            self._suppress(decode(self, image_boxes, image_deltas, sample), image_scores, image_embeddings)
            for image_boxes, image_deltas, image_scores, image_embeddings, sample in zip(
                boxes, deltas, scores, embeddings, batch_data_samples, strict=True
            )
        ]

    def _suppress(self, boxes: Tensor, scores: Tensor, embeddings: Tensor) -> InstanceData:
        """Applies score threshold, minimal size and NMS to the boxes of one image."""
        cfg = self.test_cfg
        kept = (scores > cfg.score_thr) & (boxes[:, 2:] - boxes[:, :2] >= 1e-2).all(1)
        boxes, scores, embeddings = boxes[kept], scores[kept], embeddings[kept]
        kept = nms(boxes, scores, cfg.nms['iou_threshold'])[1][: cfg.max_per_img]
        boxes, scores, embeddings = boxes[kept], scores[kept], embeddings[kept]
        if self.confidence_weighted:
            embeddings = embeddings * scores[:, None]
        return InstanceData(bboxes=boxes, scores=scores, labels=kept.new_zeros(len(kept)), embeddings=embeddings)

    def refine_boxes(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns person logits (P,), from the norms of the embeddings, and refined boxes (P, 4) of given boxes."""
        outputs = self.describe(x, bbox2roi(boxes))
        return outputs.logits, self.bbox_head.bbox_coder.decode(torch.cat(list(boxes)), outputs.deltas)

    def embed(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """Embeds given boxes: list of (N_i, D), L2-normalized; N_i may be 0."""
        embeddings, _ = self.embedding_head(self.box_features(x, bbox2roi(boxes)))
        return list(embeddings.split([len(image_boxes) for image_boxes in boxes]))


def decode(head: StandardRoIHead, boxes: Tensor, deltas: Tensor, sample: DetDataSample) -> Tensor:
    """Applies deltas (N, 4) to the boxes (N, 4) of one image and clips the result to the image."""
    return head.bbox_head.bbox_coder.decode(boxes, deltas, max_shape=sample.metainfo['img_shape'])
