import copy

from mmdet.models.backbones import EfficientNet

from mmps.registry import MODELS


def _without_excitation(settings: list) -> list:
    """MMDetection's table of EfficientNet's blocks with a ratio of squeeze and excitation of 0 throughout."""
    settings = copy.deepcopy(settings)
    for stage in settings:
        for block in stage:
            block[2] = 0
    return settings


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """EfficientNet-Lite0 (Tan and Le, ICML 2019; TensorFlow's Lite models): no squeeze and excitation, ReLU6.

    Args:
        out_indices: 1 to 5 are the stages of strides 2, 4, 8, 16 and 32, with 16, 24, 40, 112 and 320 channels; 6 is the last
            convolution.
        **kwargs: As MMDetection's ``EfficientNet`` has them.
    """

    layer_settings = {'b': _without_excitation(EfficientNet.layer_settings['b'])}

    def __init__(self, out_indices: tuple[int, ...] = (6,), act_cfg: dict = dict(type='ReLU6'), **kwargs):  # noqa: B006
        super().__init__(arch='b0', out_indices=out_indices, act_cfg=act_cfg, **kwargs)
