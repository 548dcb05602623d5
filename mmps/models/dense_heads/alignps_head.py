"""The head of AlignPS.

Shapes: B images, P = H x W points of the finest level, G the largest number of persons in an image, N_i boxes of image i,
K positive points of a batch, D channels of the finest level and of an embedding. Boxes are in input-image pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import batched_nms
from mmdet.models.dense_heads import FCOSHead
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.models.box_deltas import clip_boxes
from mmps.models.dense_heads.points import (
    assign_points,
    centerness_of,
    counts_of,
    embeddings_of_best,
    pad_rows,
    sample_at_centres,
)
from mmps.models.embedding_heads import RowNorm
from mmps.models.sharded_memory import ShardedMemory
from mmps.registry import MODELS
from mmps.structures import person_boxes

Outputs = tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]  # of AlignPSHead.forward


@MODELS.register_module()
class AlignPSHead(FCOSHead):
    """The head of AlignPS (Yan et al., CVPR 2021): an FCOS head on the re-id map.

    The re-id map is the finest level minus its mean over the image. It feeds the towers, and each of its points holds the
    embedding of the person whose box the point regresses. Persons of all sizes belong to the finest level. The coarser
    levels, which exist only in training, are background.

    Args:
        in_channels: D.
        reid_loss: Called with the positive points' embeddings (K, D) and person_ids (K,); owns the identity memory as
            ``memory``.
        triplet_loss: Called with the same and the lookup table before its update; None = no triplet loss.
        embed_from: Where the embedding of a given box is read. 'centre': at its centre, bilinearly. 'best_detection': as
            published, at the point of the detection that overlaps it most, or at its centre if none overlaps.
        batch_norm: Whether a batch norm over the persons precedes the L2-normalization, as in NAE and ``EmbeddingHead``. The
            paper has none. In a map that also detects, features that all persons share are large. Without the norm, a
            network trained from scratch would give all persons similar embeddings.
        **kwargs: Arguments of ``FCOSHead``, except ``num_classes``, which is 1. ``regress_ranges`` has no effect.

    Raises:
        ValueError: ``embed_from`` is another word, or the embedding size of the identity memory is not ``in_channels``.
    """

    scales: nn.ModuleList

    def __init__(
        self,
        in_channels: int,
        *,
        reid_loss: dict,
        triplet_loss: dict | None = None,
        embed_from: str = 'centre',
        batch_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(num_classes=1, in_channels=in_channels, **kwargs)
        if embed_from not in ('centre', 'best_detection'):
            raise ValueError(f"AlignPSHead: embed_from is {embed_from!r}: expected 'centre' or 'best_detection'")
        self.embed_from = embed_from
        self.reid_loss = MODELS.build(reid_loss)
        self.triplet_loss = MODELS.build(triplet_loss) if triplet_loss else None
        if self.reid_loss.memory.embed_dims != in_channels:
            raise ValueError(
                f'AlignPSHead: in_channels is {in_channels}, embed_dims of reid_loss is '
                f'{self.reid_loss.memory.embed_dims}: they must agree, because the map holds the embeddings'
            )
        if self.triplet_loss is not None and isinstance(self.reid_loss.memory, ShardedMemory):
            raise ValueError('AlignPSHead: triplet_loss reads the whole lookup table: set sharded=False in reid_loss')
        self.embedding_norm = RowNorm(in_channels) if batch_norm else nn.Identity()
        # The coarser levels regress no boxes, so their scales get no gradient, which distributed training would wait for.
        self.scales[1:].requires_grad_(False)

    def reid_map(self, feats: Sequence[Tensor]) -> Tensor:
        """Returns the embeddings of all points before normalization: (B, D, H, W)."""
        return feats[0] - feats[0].mean((2, 3), keepdim=True)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """Runs the head on levels (B, D, H_i, W_i), the finest first.

        Returns:
            One list over levels each of person logits (B, 1, H_i, W_i), distances to the box edges (B, 4, H_i, W_i) and
            centerness logits (B, 1, H_i, W_i); and the re-id map (B, D, H, W).
        """
        reid_map = self.reid_map(feats)
        return (*super().forward((reid_map, *feats[1:])), reid_map)

    def loss(self, feats: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Computes ``loss_cls``, ``loss_bbox``, ``loss_centerness``, ``loss_reid`` and ``loss_triplet`` over all ranks.

        The first three take one collective of up to 8 bytes each.
        """
        outputs: Outputs = self(feats)
        return self.loss_by_feat(*outputs, batch_data_samples)

    def loss_and_predict(
        self, feats: Sequence[Tensor], batch_data_samples: SampleList, proposal_cfg: dict | None = None
    ) -> tuple[dict[str, Tensor], InstanceList]:
        """Computes the losses and, without gradients, the detections that ``proposal_cfg`` (default: ``test_cfg``) selects."""
        outputs: Outputs = self(feats)
        losses = self.loss_by_feat(*outputs, batch_data_samples)
        with torch.no_grad():
            shapes = [sample.img_shape for sample in batch_data_samples]
            return losses, self.predict_by_feat(*outputs, shapes, proposal_cfg)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor],
        reid_map: Tensor,
        batch_data_samples: SampleList,
    ) -> dict[str, Tensor]:
        boxes = pad_rows(person_boxes(batch_data_samples))
        person_ids = pad_rows([sample.gt_instances.person_ids for sample in batch_data_samples])
        points = self._points(reid_map)
        person = assign_points(points.flatten(0, 1), boxes, self._radius).unflatten(1, points.shape[:2])
        count, sightings = counts_of(person, person_ids)
        # Positive points come first in the stable order of "is background", in the order of the map.
        place = (person < 0).flatten().byte().argsort(stable=True)[:count]
        image, place = place // points[..., 0].numel(), place % points[..., 0].numel()
        y, x = place // points.shape[1], place % points.shape[1]
        person_at, point = person[image, y, x], points[y, x]

        # (B, sum of H_i * W_i): all points of all levels. Those of the coarser levels are background.
        scores = torch.cat([level.flatten(1) for level in cls_scores], dim=1)
        labels = (person < 0).long().flatten(1)
        labels = F.pad(labels, (0, scores.shape[1] - labels.shape[1]), value=1)
        losses = dict(
            loss_cls=self.loss_cls(
                scores.reshape(-1, 1).float(), labels.flatten(), avg_factor=mean_over_ranks(len(image) + len(person))
            )
        )

        target = boxes[image, person_at]
        found = self.bbox_coder.decode(point, self._in_pixels(bbox_preds[0][image, :, y, x]))
        centerness = centerness_of(point - target[:, :2], target[:, 2:] - point)
        losses['loss_bbox'] = self.loss_bbox(
            found, target, weight=centerness, avg_factor=mean_over_ranks(centerness.sum(), at_least=1e-6)
        )
        losses['loss_centerness'] = self.loss_centerness(
            centernesses[0][image, 0, y, x].float(), centerness, avg_factor=mean_over_ranks(len(image), at_least=1)
        )

        embeddings = self.describe(reid_map[image, :, y, x], of_persons=True)
        ids = person_ids[image, person_at]
        if self.triplet_loss is not None:  # before the memory is updated
            losses['loss_triplet'] = self.triplet_loss(embeddings, ids, self.reid_loss.memory.lut)
        losses['loss_reid'] = self.reid_loss(embeddings, ids, most_sightings=sightings)
        return losses

    def predict(self, feats: Sequence[Tensor], batch_data_samples: SampleList, rescale: bool = False) -> InstanceList:
        """Detects persons on the finest level: bboxes (N, 4), scores and labels (N,), embeddings (N, D) of each image.

        Gradients flow through the embeddings to the re-id map. Boxes, scores and labels have none.
        """
        outputs: Outputs = self(feats[:1])
        results = self.predict_by_feat(*outputs, [sample.img_shape for sample in batch_data_samples])
        if rescale:
            for result, sample in zip(results, batch_data_samples, strict=True):
                result.bboxes = result.bboxes / result.bboxes.new_tensor(sample.scale_factor).repeat(2)
        return results

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor],
        reid_map: Tensor,
        img_shapes: Sequence[Sequence[int]],
        cfg: dict | None = None,
    ) -> InstanceList:
        """Does the work of :meth:`predict`.

        A score is probability times centerness and is used for ranking and NMS. The score threshold applies to the
        probability alone.
        """
        cfg = self.test_cfg if cfg is None else cfg
        with torch.no_grad():
            probabilities = cls_scores[0].flatten(1).float().sigmoid()
            scores = probabilities * centernesses[0].flatten(1).float().sigmoid()
            distances = self._in_pixels(bbox_preds[0]).flatten(2).transpose(1, 2)
            points = self._points(reid_map).flatten(0, 1).expand(len(scores), -1, -1)
            boxes = self.bbox_coder.decode(points, distances)
            clip_boxes(boxes, img_shapes)
            limit = cfg.get('nms_pre', -1)
            scores, top = scores.topk(min(limit, scores.shape[1]) if limit > 0 else scores.shape[1])
            passed = probabilities.gather(1, top) > cfg['score_thr']
            order = (~passed).byte().argsort(dim=1, stable=True)  # those that passed first, still by their scores
            scores, top = scores.gather(1, order), top.gather(1, order)
            boxes = boxes.gather(1, top[..., None].expand(-1, -1, 4))
            counts = passed.sum(1).tolist()  # the host waits for their numbers, once for the batch
        # A loop over images, because each keeps another number of boxes.
        return [
            self._suppress(image_boxes[:count], image_scores[:count], image_points[:count], embeddings, cfg)
            for count, image_boxes, image_scores, image_points, embeddings in zip(
                counts, boxes, scores, top, reid_map.flatten(2), strict=True
            )
        ]

    def _suppress(self, boxes: Tensor, scores: Tensor, points: Tensor, embeddings: Tensor, cfg: dict) -> InstanceData:
        labels = torch.zeros_like(points)
        found, kept = batched_nms(boxes, scores, labels, cfg['nms'], class_agnostic=True)
        count = cfg.get('max_per_img', -1)
        found, kept = (rows[: count if count > 0 else None] for rows in (found, kept))
        return InstanceData(
            bboxes=found[:, :4],
            scores=found[:, 4],
            labels=labels[kept],
            embeddings=self.describe(embeddings[:, points[kept]].T),
        )

    def embed_centres(self, feats: Sequence[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Embeds given boxes, one (N_i, 4) tensor per image, at their centres: list of (N_i, D), L2-normalized, float32."""
        values = sample_at_centres(self.reid_map(feats), boxes, self.strides[0])
        return list(self.describe(values, of_persons=True).split([len(of_image) for of_image in boxes]))

    def embed(self, feats: Sequence[Tensor], boxes: list[Tensor], detections: InstanceList | None = None) -> list[Tensor]:
        """Embeds given boxes as ``embed_from`` says.

        Args:
            boxes: One (N_i, 4) tensor per image; N_i may be 0.
            detections: The output of :meth:`predict` for these images, if known. Only 'best_detection' uses it.

        Returns:
            list of (N_i, D), L2-normalized, float32. Gradients flow to the re-id map.
        """
        at_centres = self.embed_centres(feats, boxes)
        if self.embed_from == 'centre':
            return at_centres
        reid_map = self.reid_map(feats)
        if detections is None:
            with torch.no_grad():
                outputs: Outputs = self(feats[:1])
            whole = [side * self.strides[0] for side in reid_map.shape[2:]]
            detections = self.predict_by_feat(*outputs[:3], reid_map, [whole] * len(reid_map))
        return [embeddings_of_best(*of_image) for of_image in zip(boxes, detections, at_centres, strict=True)]

    def refine_boxes(self, feats: Sequence[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Reads person logits (P,) and regressed boxes (P, 4) at the centres of given boxes."""
        (logits, *_), (distances, *_), *_ = self(feats[:1])
        values = sample_at_centres(torch.cat([logits, self._in_pixels(distances)], 1), boxes, self.strides[0])
        flat = torch.cat(list(boxes))
        return values[:, 0], self.bbox_coder.decode((flat[:, :2] + flat[:, 2:]) / 2, values[:, 1:])

    def describe(self, values: Tensor, of_persons: bool = False) -> Tensor:
        """(N, D) values of the re-id map -> embeddings (N, D), L2-normalized, float32.

        In training the batch norm uses its running statistics unless the values are those of persons, because proposals are
        mostly background.
        """
        norm = self.embedding_norm
        if self.training and not of_persons and isinstance(norm, RowNorm):
            return F.normalize(norm.by_running_statistics(values.float()))
        return F.normalize(norm(values.float()))

    @property
    def _radius(self) -> float:
        """Returns the largest distance, in pixels along each axis, between the centre of a person and its points."""
        return self.center_sample_radius * self.strides[0] if self.center_sampling else torch.inf

    def _points(self, reid_map: Tensor) -> Tensor:
        """Returns the positions of the finest level's points in the image: (H, W, 2)."""
        size = reid_map.shape[2:]
        points = self.prior_generator.single_level_grid_priors(size, 0, torch.float32, reid_map.device)
        return points.unflatten(0, size)

    def _in_pixels(self, distances: Tensor) -> Tensor:
        """Converts distances to pixels. FCOSHead gives them in strides in training, and in pixels otherwise."""
        return distances * self.strides[0] if self.norm_on_bbox and self.training else distances
