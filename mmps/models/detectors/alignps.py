import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps.models.detectors.base import PersonSearchDetector
from mmps.models.detectors.feature_levels import check_strides, feature_levels
from mmps.models.losses import OIMLoss
from mmps.models.memory import IdentityMemory
from mmps.models.precision import keep_boxes_float32
from mmps.registry import MODELS


@MODELS.register_module()
class AlignPS(PersonSearchDetector, SingleStageDetector):
    """AlignPS (Yan et al., CVPR 2021): a one-stage, anchor-free person-search detector.

    With a RoI head it is RoI-AlignPS (Yan et al., arXiv 2109.00211): the dense head detects; the RoI head trains on those
    detections and gives the embeddings. Its losses get the prefix ``roi_``. Then :meth:`extract_feat` returns the levels of
    the neck and, as the last, the backbone level that the RoI head pools from.

    Args:
        bbox_head: An :class:`~mmps.models.dense_heads.AlignPSHead`. Its test_cfg is ``test_cfg``.
        roi_head: A RoI head with ``loss``, ``embed`` and a ``reid_loss`` that owns the identity memory. Its configs are
            ``train_cfg.rcnn`` and ``test_cfg.rcnn``. ``train_cfg.rpn_proposal``, or else ``test_cfg``, selects the
            detections that it trains on.
        roi_level: Index of the backbone level that it pools from.

    Raises:
        ValueError: Neck and head disagree on the number of levels or channels, or the backbone has no level ``roi_level``.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        bbox_head: dict,
        roi_head: dict | None = None,
        roi_level: int = 2,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(backbone, neck, bbox_head, train_cfg, test_cfg, data_preprocessor, init_cfg)
        levels = feature_levels(self.backbone, self.neck)
        check_strides(levels, 'bbox_head', self.bbox_head.strides, self.bbox_head.in_channels)
        if roi_head is not None:
            self._add_roi_head(roi_head, roi_level)
        keep_boxes_float32(self)

    def _add_roi_head(self, roi_head: dict, roi_level: int) -> None:
        if not 0 <= roi_level < len(self.neck.in_channels):
            raise ValueError(
                f'AlignPS: roi_level is {roi_level}, but in_channels of the neck names '
                f'{len(self.neck.in_channels)} backbone levels: expected 0 to {len(self.neck.in_channels) - 1}'
            )
        self.roi_level = roi_level
        self.roi_head = MODELS.build(
            {**roi_head, 'train_cfg': self.train_cfg and self.train_cfg['rcnn'], 'test_cfg': self.test_cfg['rcnn']}
        )
        self.memory.companions.append(self.bbox_head.reid_loss.memory)

    @property
    def with_roi_head(self) -> bool:
        return hasattr(self, 'roi_head')

    @property
    def reid_loss(self) -> OIMLoss:
        return (self.roi_head if self.with_roi_head else self.bbox_head).reid_loss

    @property
    def memory(self) -> IdentityMemory:
        return self.reid_loss.memory

    @property
    def dense_head(self) -> nn.Module:
        return self.bbox_head

    def run_dense_head(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        return self.bbox_head(feats[:-1] if self.with_roi_head else feats)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> the levels of the neck, the finest first; with a RoI head also the backbone level that it pools."""
        levels = self.backbone(batch_inputs)
        return (*self.neck(levels), levels[self.roi_level]) if self.with_roi_head else self.neck(levels)

    def loss_from_feats(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        if not self.with_roi_head:
            return self.bbox_head.loss(feats, batch_data_samples)
        proposal_cfg = self.train_cfg.get('rpn_proposal', self.test_cfg)
        losses, proposals = self.bbox_head.loss_and_predict(feats[:-1], batch_data_samples, proposal_cfg)
        roi_losses = self.roi_head.loss(feats[-1:], proposals, batch_data_samples)
        return losses | {f'roi_{name}': value for name, value in roi_losses.items()}

    def detect(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> InstanceList:
        results = self.bbox_head.predict(feats, batch_data_samples)
        if self.with_roi_head:
            for result in results:
                del result.embeddings
        return results

    def embed_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        return self.roi_head.embed(feats[-1:], boxes) if self.with_roi_head else self.bbox_head.embed(feats, boxes)

    def embed_in_place(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        return self.embed_boxes(feats, boxes) if self.with_roi_head else self.bbox_head.embed_centres(feats, boxes)

    def refine_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.bbox_head.refine_boxes(feats, boxes)

    def embed_remaining(
        self, feats: tuple[Tensor, ...], results: InstanceList, given: list[list[InstanceData]], boxes: list[list[Tensor]]
    ) -> None:
        if self.with_roi_head:
            return super().embed_remaining(feats, results, given, boxes)
        if not any(given):
            return
        # The detections already have embeddings. The head may give a box the embedding of the detection that it overlaps most.
        all_boxes = [torch.cat([result.bboxes[:0], *of_image]) for result, of_image in zip(results, boxes, strict=True)]
        for of_image, found in zip(given, self.bbox_head.embed(feats, all_boxes, results), strict=True):
            for instances, part in zip(of_image, found.split([len(each) for each in of_image]), strict=True):
                instances.embeddings = part

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple:
        return self.run_dense_head(self.extract_feat(batch_inputs))
