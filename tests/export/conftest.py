"""Small detectors that find persons in random images, as modules and as files."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmps.models.detectors.base import PersonSearchDetector
from mmps.registry import MODELS


@pytest.fixture
def build_finder(mmps_scope) -> Callable[[dict], PersonSearchDetector]:
    """build_finder(config) -> a detector that finds somebody in random images."""

    def build(config: dict) -> PersonSearchDetector:
        from small_exports import find_somebody

        torch.manual_seed(0)
        detector = MODELS.build(copy.deepcopy(config))
        detector.init_weights()
        return find_somebody(detector)

    return build


@pytest.fixture
def written(tmp_path) -> Callable[..., Path]:
    """written(detector, its config, options) -> the file that it is exported to."""

    def write(detector: PersonSearchDetector, config: dict, options: Any = None, **entries) -> Path:
        from small_exports import config_for_export

        from mmps.export import export_onnx

        checkpoint, out = tmp_path / 'weights.pth', tmp_path / 'model.onnx'
        torch.save(dict(state_dict=detector.state_dict()), checkpoint)
        export_onnx(config_for_export(config, **entries), str(checkpoint), out, options)
        return out

    return write
