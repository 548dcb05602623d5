import copy
from typing import Any

from mmdet.models.backbones import EfficientNet

from mmps.registry import MODELS


def _without_excitation(settings: list) -> list:
    """Copies MMDetection's table of EfficientNet blocks and sets every squeeze-and-excitation ratio to 0."""
    settings = copy.deepcopy(settings)
    for stage in settings:
        for block in stage:
            block[2] = 0
    return settings


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """EfficientNet-Lite0 (Tan and Le, ICML 2019; TensorFlow's Lite models): no squeeze and excitation, ReLU6.

    Args:
        out_indices: 1 to 5 are the stages with strides 2, 4, 8, 16 and 32 and 16, 24, 40, 112 and 320 channels; 6 is the
            last convolution.
        **kwargs: Arguments of MMDetection's ``EfficientNet``.
    """

    layer_settings = {'b': _without_excitation(EfficientNet.layer_settings['b'])}

    def __init__(self, out_indices: tuple[int, ...] = (6,), act_cfg: dict = dict(type='ReLU6'), **kwargs: Any):  # noqa: B006
        super().__init__(arch='b0', out_indices=out_indices, act_cfg=act_cfg, **kwargs)
