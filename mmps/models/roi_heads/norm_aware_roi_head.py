"""Shapes: R RoIs of a batch, N_i boxes of image i, D embedding size; boxes are in input-image pixels."""

from dataclasses import dataclass

import torch
from mmcv.ops import nms
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmps.dist import losses_over_ranks
from mmps.models.roi_heads.person_search_roi_head import PersonSearchRoIHead
from mmps.models.roi_heads.sampling import positive_ids, positives, sample_rois
from mmps.registry import MODELS


@dataclass
class BoxOutputs:
    """What a norm-aware head says of R boxes: embeddings (R, D), person logits (R,), box deltas (R, 4)."""

    embeddings: Tensor
    logits: Tensor
    deltas: Tensor


@MODELS.register_module()
class NormAwareRoIHead(PersonSearchRoIHead):
    """The RoI head of NAE (Chen et al., CVPR 2020): one embedding whose norm says person or not; and box regression.

    Its shared head gives the kinds of features that the embedding wants; the last kind goes to the box head, which does not
    classify (``with_cls=False``) and whose ``loss_cls`` takes the norm's logits.

    Args:
        confidence_weighted: A detection's embedding is multiplied by its score, so that the similarity of an uncertain
            detection counts less (class-weighted similarity, section 3.4 there; confidence-weighted in SeqNet).
        **kwargs: :class:`PersonSearchRoIHead`'s.
    """

    def __init__(self, *, confidence_weighted: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.confidence_weighted = confidence_weighted

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """``loss_cls`` and ``loss_bbox``, means over the RoIs of all ranks (one collective of 8 bytes), and ``loss_reid``."""
        samples = sample_rois(self, rpn_results_list, batch_data_samples)
        rois = bbox2roi([sample.priors for sample in samples])
        outputs = self.describe(x, rois)
        losses = self.bbox_head.loss_and_target(None, outputs.deltas, rois, samples, self.train_cfg)['loss_bbox']
        person = positives(samples)
        # The mean over no RoIs would not be a number.
        losses['loss_cls'] = self.bbox_head.loss_cls(outputs.logits, person.long()) if len(rois) else outputs.logits.sum()
        return dict(
            losses_over_ranks(losses, len(rois)),
            loss_reid=self.reid_loss(outputs.embeddings[person], positive_ids(samples, batch_data_samples)),
        )

    def describe(self, x: tuple[Tensor, ...], rois: Tensor) -> BoxOutputs:
        """(R, 5): index of the image, x1 y1 x2 y2."""
        feats = self.box_features(x, rois)
        embeddings, logits = self.embedding_head(feats)
        return BoxOutputs(embeddings, logits, self.bbox_head(feats[-1])[1])

    def box_features(self, x: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, ...]:
        return self.shared_head(self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois))

    def predict(self, x: tuple[Tensor, ...], proposals: InstanceList, batch_data_samples: SampleList) -> InstanceList:
        """Detections in input-image pixels: bboxes, scores, labels and embeddings."""
        return self.refine(x, [each.bboxes for each in proposals], None, batch_data_samples)

    def refine(
        self, x: tuple[Tensor, ...], boxes: list[Tensor], scores: list[Tensor] | None, batch_data_samples: SampleList
    ) -> InstanceList:
        """Detections from boxes, with the scores that are given, or else those of the embeddings' norms.

        The embedding is that of the box before regression, as in both papers' code.
        """
        counts = [len(each) for each in boxes]
        outputs = self.describe(x, bbox2roi(boxes))
        scores = outputs.logits.sigmoid().split(counts) if scores is None else scores
        deltas, embeddings = outputs.deltas.split(counts), outputs.embeddings.split(counts)
        return [
            self._suppress(decode(self, *of_image[:2], sample), *of_image[2:])
            for *of_image, sample in zip(boxes, deltas, scores, embeddings, batch_data_samples, strict=True)
        ]

    def _suppress(self, boxes: Tensor, scores: Tensor, embeddings: Tensor) -> InstanceData:
        """One image's detections: over the threshold, of a size, without duplicates."""
        cfg = self.test_cfg
        kept = (scores > cfg.score_thr) & (boxes[:, 2:] - boxes[:, :2] >= 1e-2).all(1)
        boxes, scores, embeddings = boxes[kept], scores[kept], embeddings[kept]
        kept = nms(boxes, scores, cfg.nms['iou_threshold'])[1][: cfg.max_per_img]
        boxes, scores, embeddings = boxes[kept], scores[kept], embeddings[kept]
        if self.confidence_weighted:
            embeddings = embeddings * scores[:, None]
        return InstanceData(bboxes=boxes, scores=scores, labels=kept.new_zeros(len(kept)), embeddings=embeddings)

    def refine_boxes(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Person logits (P,), those of the embeddings' norms, and refined boxes (P, 4) of given boxes."""
        outputs = self.describe(x, bbox2roi(boxes))
        return outputs.logits, self.bbox_head.bbox_coder.decode(torch.cat(list(boxes)), outputs.deltas)

    def embed(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """The embeddings of given boxes: list of (N_i, D), L2-normalized. An image may have none."""
        embeddings, _ = self.embedding_head(self.box_features(x, bbox2roi(boxes)))
        return list(embeddings.split([len(image_boxes) for image_boxes in boxes]))


def decode(head: StandardRoIHead, boxes: Tensor, deltas: Tensor, sample) -> Tensor:
    """(N, 4) boxes of one image, moved by (N, 4) deltas and clipped to it."""
    return head.bbox_head.bbox_coder.decode(boxes, deltas, max_shape=sample.metainfo['img_shape'])
