"""MMDetection's RPN head for many ranks and for a GPU. Shapes: B images, N anchors of an image, K sampled anchors."""

from typing import Any

import torch
from mmcv.ops import batched_nms, nms
from mmdet.models.dense_heads import RPNHead
from mmdet.models.utils import images_to_levels
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmps.dist import mean_over_ranks
from mmps.models.assignment import assign, fits, sampled
from mmps.models.box_deltas import clip_boxes
from mmps.registry import MODELS


@MODELS.register_module()
class AllRanksRPNHead(RPNHead):
    """MMDetection's RPN head with losses averaged over the sampled anchors of all ranks, not of each rank.

    This takes one collective of 8 bytes per step.

    With MMDetection's ``MaxIoUAssigner`` and ``RandomSampler``, as far as :func:`~mmps.models.assignment.fits` knows their
    options, it computes targets and proposals with shapes that do not depend on values. So the host seldom waits for a GPU:
    once per image, for NMS, and once per batch. Proposals and losses are MMDetection's, but for the random choice of anchors.
    """

    def get_anchors(self, featmap_sizes: list, batch_img_metas: list, device: torch.device | str = 'cuda') -> tuple:
        self._keep_anchors_on(device)
        return super().get_anchors(featmap_sizes, batch_img_metas, device)

    def _keep_anchors_on(self, device: torch.device | str) -> None:
        """Moves the base anchors, a few rows per level. MMDetection copies them in every step, and each copy waits."""
        generator = self.prior_generator
        if generator.base_anchors[0].device != torch.device(device):
            generator.base_anchors = [anchors.to(device) for anchors in generator.base_anchors]

    def get_targets(
        self,
        anchor_list: list,
        valid_flag_list: list,
        persons: InstanceList,
        metas: list[dict],
        batch_gt_instances_ignore: Any = None,
        **kwargs: Any,
    ) -> tuple:
        plain = self.train_cfg['allowed_border'] < 0 and self.train_cfg['pos_weight'] <= 0 and not self.reg_decoded_bbox
        if not (plain and fits(self.assigner, self.sampler)):
            *targets, count = super().get_targets(
                anchor_list, valid_flag_list, persons, metas, batch_gt_instances_ignore, **kwargs
            )[:5]
            return *targets, mean_over_ranks(count)
        anchors = torch.cat(anchor_list[0])
        found = [
            self._targets(anchors, torch.cat(flags), of_image.bboxes, None if ignored is None else ignored.bboxes)
            for flags, of_image, ignored in zip(
                valid_flag_list, persons, batch_gt_instances_ignore or [None] * len(persons), strict=True
            )
        ]
        *targets, counts = zip(*found, strict=True)
        sizes = [len(level) for level in anchor_list[0]]
        return *(images_to_levels(list(each), sizes) for each in targets), mean_over_ranks(torch.stack(counts).sum())

    def _targets(self, anchors: Tensor, usable: Tensor, persons: Tensor, ignored: Tensor | None) -> tuple[Tensor, ...]:
        """Returns the targets of one image: labels and their weights (N,), deltas and their weights (N, 4), and a count."""
        assigned = assign(anchors, persons, self.assigner, ignored, usable)
        chosen, taken, others, filled = sampled(assigned, self.sampler)
        size = len(anchors)
        positive, negative = chosen.where(taken, size), others.where(filled, size)  # row N takes those that are not sampled
        labels = assigned.new_ones(size + 1).index_fill_(0, positive, 0)
        weights = anchors.new_zeros(size + 1).index_fill_(0, torch.cat([positive, negative]), 1)
        deltas, delta_weights = anchors.new_zeros(2, size + 1, 4)
        if len(persons):
            targets = persons[(assigned[chosen] - 1).clamp(min=0)]
            deltas.index_copy_(0, positive, self.bbox_coder.encode(anchors[chosen], targets))
            delta_weights.index_fill_(0, positive, 1)
        count = taken.sum().clamp(min=1) + filled.sum().clamp(min=1)
        return labels[:size], weights[:size], deltas[:size], delta_weights[:size], count

    def loss_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        anchors: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: Any,
    ) -> tuple:
        if self.reg_decoded_bbox or not self.use_sigmoid_cls:
            return super().loss_by_feat_single(
                cls_score, bbox_pred, anchors, labels, label_weights, bbox_targets, bbox_weights, avg_factor
            )
        # MMDetection's losses ask the device whether a label or a weight is positive: not for labels of the shape of the
        # scores, and not without weights. The weights of deltas are 0 or 1, so they may weigh both sides instead.
        scores = cls_score.permute(0, 2, 3, 1).reshape(-1, 1)
        persons = (labels.reshape(-1, 1) == 0).to(scores)
        loss_cls = self.loss_cls(scores, persons, label_weights.reshape(-1, 1), avg_factor=avg_factor)
        weights = bbox_weights.reshape(-1, 4)
        deltas = bbox_pred.permute(0, 2, 3, 1).reshape(-1, 4)
        loss_bbox = self.loss_bbox(deltas * weights, bbox_targets.reshape(-1, 4) * weights, avg_factor=avg_factor)
        return loss_cls, loss_bbox

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: Any = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        cfg = self.test_cfg if cfg is None else cfg
        self._keep_anchors_on(cls_scores[0].device)
        if rescale or batch_img_metas is None or not self.use_sigmoid_cls or cfg.nms.get('type', 'nms') != 'nms':
            return super().predict_by_feat(cls_scores, bbox_preds, score_factors, batch_img_metas, cfg, rescale, with_nms)
        boxes, scores, levels = self._best_boxes(cls_scores, bbox_preds, batch_img_metas, cfg.get('nms_pre', -1))
        counts = [boxes.shape[1]] * len(boxes)
        if (smallest := cfg.get('min_bbox_size', -1)) >= 0:
            large = (boxes[..., 2:] - boxes[..., :2] > smallest).all(2)
            order = (~large).byte().argsort(dim=1, stable=True)
            boxes = boxes.gather(1, order[..., None].expand_as(boxes))
            scores, levels = scores.gather(1, order), levels[order]
            counts = large.sum(1).tolist()  # the host waits for their numbers, once for the batch
        else:
            levels = levels.expand(len(boxes), -1)
        return [
            suppress(of_image[:count], of_scores[:count], of_levels[:count], len(cls_scores), cfg)
            for of_image, of_scores, of_levels, count in zip(boxes, scores, levels, counts, strict=True)
        ]

    def _best_boxes(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], metas: list[dict], limit: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the boxes (B, M, 4), scores (B, M) and levels (M,) of the ``limit`` best anchors of each level."""
        priors = self.prior_generator.grid_priors(
            [level.shape[-2:] for level in cls_scores], dtype=cls_scores[0].dtype, device=cls_scores[0].device
        )
        kept = []
        for logits, deltas, anchors in zip(cls_scores, bbox_preds, priors, strict=True):
            scores = logits.detach().permute(0, 2, 3, 1).flatten(1).sigmoid()
            deltas = deltas.detach().permute(0, 2, 3, 1).reshape(len(scores), -1, 4)
            anchors = anchors.expand_as(deltas)
            if 0 < limit < scores.shape[1]:
                scores, best = scores.sort(dim=1, descending=True)
                scores, best = scores[:, :limit], best[:, :limit, None].expand(-1, -1, 4)
                deltas, anchors = deltas.gather(1, best), anchors.gather(1, best)
            kept.append((anchors, deltas, scores))
        anchors, deltas, scores = (torch.cat(each, dim=1) for each in zip(*kept, strict=True))
        boxes = self.bbox_coder.decode(anchors.reshape(-1, 4), deltas.reshape(-1, 4)).view_as(anchors)
        if self.bbox_coder.clip_border:
            clip_boxes(boxes, [meta['img_shape'] for meta in metas])
        levels = [torch.full((each.shape[1],), index, device=boxes.device) for index, (*_, each) in enumerate(kept)]
        return boxes, scores, torch.cat(levels)


def suppress(boxes: Tensor, scores: Tensor, levels: Tensor, num_levels: int, cfg: Any) -> InstanceData:
    """Runs NMS among the proposals of each level of one image: as MMCV's ``batched_nms``, without its copy to the device."""
    if len(boxes) == 0:
        kept = levels
    elif num_levels > 1 and len(boxes) >= cfg.nms.get('split_thr', 10000):
        kept = batched_nms(boxes, scores, levels, cfg.nms)[1]
    else:
        apart = boxes + (levels.to(boxes) * (boxes.max() + 1))[:, None] if num_levels > 1 else boxes
        kept = nms(apart, scores, cfg.nms['iou_threshold'])[1]
    kept = kept[: cfg.max_per_img]
    return InstanceData(bboxes=boxes[kept], scores=scores[kept], labels=torch.zeros_like(kept))
