from mmdet.models.task_modules import AnchorGenerator
from torch import Tensor

from mmps.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RoundedAnchorGenerator(AnchorGenerator):
    """Anchors of whole pixels, as torchvision's RPN has them, on which SeqNet and NAE were trained."""

    def gen_single_level_base_anchors(self, *args, **kwargs) -> Tensor:
        return super().gen_single_level_base_anchors(*args, **kwargs).round()
