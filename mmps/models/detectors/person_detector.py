from typing import Any

from mmdet.models.detectors import TwoStageDetector
from torch import Tensor, nn

from mmps.models.precision import keep_boxes_float32
from mmps.models.roi_heads.person_search_roi_head import assess_boxes
from mmps.registry import MODELS


@MODELS.register_module()
class PersonDetector(TwoStageDetector):
    """A detector without a re-id branch, which can teach a detector (the specialized detector of Munjal et al., BMVC 2019).

    It is MMDetection's two-stage detector, with one class and a ``StandardRoIHead``, and loads its checkpoints. It adds the
    members of :class:`~mmps.models.detectors.base.PersonSearchDetector` that a distiller reads. Its detections have no
    embeddings: ``mmdet.VOCMetric`` scores them, ``PersonSearchMetric`` cannot.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        keep_boxes_float32(self)

    @property
    def dense_head(self) -> nn.Module:
        return self.rpn_head

    def run_dense_head(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        return self.rpn_head(feats)

    def refine_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        return assess_boxes(self.roi_head, feats, boxes)
