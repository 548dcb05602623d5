"""Runs an exported person-search model with NumPy, OpenCV and ONNX Runtime or OpenVINO. It needs no PyTorch."""

from .about import About, ModelFileError
from .images import ImageError
from .model import Persons, PersonSearchModel, Prepared

__all__ = ['About', 'ImageError', 'ModelFileError', 'PersonSearchModel', 'Persons', 'Prepared']
