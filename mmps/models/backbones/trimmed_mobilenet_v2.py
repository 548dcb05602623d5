from mmdet.models.backbones import MobileNetV2

from mmps.registry import MODELS


@MODELS.register_module()
class TrimmedMobileNetV2(MobileNetV2):
    """MMDetection's ``MobileNetV2`` (Sandler et al., CVPR 2018) without the layers after the last that is read.

    They would be computed for nothing, and DDP refuses weights that never have a gradient.

    Args:
        out_indices: 1, 2, 4 and 6 are the stages of strides 4, 8, 16 and 32, with 24, 32, 96 and 320 channels.
        **kwargs: As ``MobileNetV2`` has them.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        last = max(self.out_indices) + 1
        for name in self.layers[last:]:
            delattr(self, name)
        self.layers = self.layers[:last]
