from typing import Any

from mmdet.models.task_modules import AnchorGenerator
from torch import Tensor

from mmps.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RoundedAnchorGenerator(AnchorGenerator):
    """Rounds anchors to whole pixels, like the RPN of torchvision, which SeqNet and NAE were trained with."""

    def gen_single_level_base_anchors(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().gen_single_level_base_anchors(*args, **kwargs).round()
