from typing import Any

from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor, nn

from mmps.models.detectors.base import PersonSearchDetector
from mmps.models.detectors.feature_levels import check_extractor, check_strides, feature_levels
from mmps.models.losses import OIMLoss
from mmps.models.memory import IdentityMemory
from mmps.models.precision import keep_boxes_float32
from mmps.registry import MODELS


@MODELS.register_module()
class TwoStagePersonSearch(PersonSearchDetector, TwoStageDetector):
    """A two-stage person-search detector: MMDetection's two-stage detector, which also embeds detections and given boxes.

    Its RoI head must have ``embed``, ``refine_boxes`` and a ``reid_loss`` that owns the identity memory.

    Raises:
        ValueError: Backbone, neck and heads disagree on the number of levels or on their channels.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        levels = feature_levels(self.backbone, self.neck if self.with_neck else None)
        check_strides(levels, 'rpn_head', self.rpn_head.prior_generator.strides, self.rpn_head.in_channels)
        for name, module in self.roi_head.named_modules():
            if isinstance(module, SingleRoIExtractor):
                check_extractor(levels, f'roi_head.{name}', module.featmap_strides, module.out_channels)
        keep_boxes_float32(self)

    @property
    def reid_loss(self) -> OIMLoss:
        return self.roi_head.reid_loss

    @property
    def memory(self) -> IdentityMemory:
        return self.reid_loss.memory

    @property
    def dense_head(self) -> nn.Module:
        return self.rpn_head

    def run_dense_head(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        return self.rpn_head(feats)

    def loss_from_feats(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        proposal_cfg = self.train_cfg.get('rpn_proposal', self.test_cfg.rpn)
        # The RPN expects labels 0. All labels here are 0, so the samples need no copy.
        rpn_losses, proposals = self.rpn_head.loss_and_predict(feats, batch_data_samples, proposal_cfg=proposal_cfg)
        losses = {name if 'rpn' in name else f'rpn_{name}': value for name, value in rpn_losses.items()}
        return losses | self.roi_head.loss(feats, proposals, batch_data_samples)

    def detect(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> InstanceList:
        proposals = self.rpn_head.predict(feats, batch_data_samples, rescale=False)
        return self.roi_head.predict(feats, proposals, batch_data_samples)

    def embed_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        return self.roi_head.embed(feats, boxes)

    def refine_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.roi_head.refine_boxes(feats, boxes)
