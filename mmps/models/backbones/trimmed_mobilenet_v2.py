from typing import Any

from mmdet.models.backbones import MobileNetV2

from mmps.registry import MODELS


@MODELS.register_module()
class TrimmedMobileNetV2(MobileNetV2):
    """MMDetection's ``MobileNetV2`` (Sandler et al., CVPR 2018) without the layers after the last output.

    Nobody uses their results, and DDP raises an error for weights that never get a gradient.

    Args:
        out_indices: 1, 2, 4 and 6 are the stages with strides 4, 8, 16 and 32 and 24, 32, 96 and 320 channels.
        **kwargs: Arguments of ``MobileNetV2``.
    """

    layers: list[str]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        last = max(self.out_indices) + 1
        for name in self.layers[last:]:
            delattr(self, name)
        self.layers = self.layers[:last]
