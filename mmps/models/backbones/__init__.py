from .efficientnet_lite import EfficientNetLite
from .trimmed_mobilenet_v2 import TrimmedMobileNetV2

__all__ = ['EfficientNetLite', 'TrimmedMobileNetV2']
