"""Writes a trained detector as an ONNX file that :mod:`mmps_runtime` runs."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.export import Dim

from mmps.fileio.atomic import write_atomic
from mmps.fileio.checkpoint import load_exactly, model_fingerprint
from mmps.models.detectors.base import PersonSearchDetector
from mmps.registry import MODELS
from mmps.version import __version__
from mmps_runtime.about import INPUTS, KEY, OUTPUTS, About

from .graph import PersonSearchGraph, most_persons
from .half import store_half
from .operators import OPSET, TRANSLATIONS

MOST_PERSONS = 100  # of an image, unless asked for
LARGEST_BATCH, MOST_GIVEN, LARGEST_SIDE = 256, 4096, 16384


@dataclass(frozen=True)
class ExportOptions:
    """How a detector is exported.

    Args:
        size: Height and width of the input, rounded up to multiples of the model's divisor. None = any size.
        persons: K, how many persons of an image are found at most. None = as ``test_cfg`` says, but at most 100.
        half: Store the weights in float16. The arithmetic stays float32.
        unroll: Write deformable convolutions as GridSample, which OpenVINO and older versions of ONNX Runtime have.

    Raises:
        ValueError: A value is out of range.
    """

    size: tuple[int, int] | None = None
    persons: int | None = None
    half: bool = False
    unroll: bool = False

    def __post_init__(self) -> None:
        if self.persons is not None and self.persons < 1:
            raise ValueError(f'persons: expected 1 or more, got {self.persons}')
        if self.size is not None and not all(32 <= side <= LARGEST_SIDE for side in self.size):
            raise ValueError(f'size: expected 32 to {LARGEST_SIDE} pixels, got {self.size[0]} {self.size[1]}')


def export_onnx(config: str | Config, checkpoint: str, out: str | Path, options: ExportOptions | None = None) -> About:
    """Writes a trained detector as an ONNX file. Of a distilled run it writes the student.

    Args:
        config: Config of the detector or of the distilled run, or its path.
        checkpoint: Path of its checkpoint. Every tensor must fit.
        out: The file to write.

    Returns:
        What the file says of the model.

    Raises:
        OSError: A file is missing, or cannot be written.
        ValueError: The checkpoint is of another model, or the detector is none that can be exported.
    """
    options = options or ExportOptions()
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    if 'model' not in cfg or 'test_dataloader' not in cfg:
        raise ValueError(f'{cfg.filename}: expected a config with a model and a test_dataloader')
    description = cfg.model.get('architecture', cfg.model)
    with DefaultScope.overwrite_default_scope('mmps'):
        detector = MODELS.build(description)
    graph = PersonSearchGraph(detector, 1, options.unroll)  # refuses other detectors before anything is read
    load_exactly(detector, checkpoint, 'checkpoint')
    graph = PersonSearchGraph(detector, options.persons or min(most_persons(detector), MOST_PERSONS), options.unroll).eval()
    divisor = int(detector.data_preprocessor.pad_size_divisor)
    size = options.size and (-(-options.size[0] // divisor) * divisor, -(-options.size[1] // divisor) * divisor)
    model = to_onnx(graph, divisor, size)
    fingerprint = model_fingerprint(description, checkpoint, detector.state_dict())
    about = About(
        model=class_name(detector),
        persons=graph.persons,
        embed_dims=detector.memory.embed_dims,
        size=size,
        scale=test_scale(cfg),
        divisor=divisor,
        score_thr=float(cfg.get('score_thr', 0.5)),
        thresholds=thresholds(detector.test_cfg),
        fingerprint=fingerprint,
        precision='float16' if options.half else 'float32',
        version=__version__,
    )
    if options.half:
        store_half(model)
    write_model(model, about, out)
    return about


def to_onnx(graph: nn.Module, divisor: int, size: tuple[int, int] | None) -> onnx.ModelProto:
    """Returns a :class:`PersonSearchGraph` as ONNX, for any number of images and of given boxes."""
    height, width = size or (4 * divisor, 6 * divisor)
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    given = torch.tensor([8.0, 8, 24, 24]).expand(2, 3, 4).contiguous()
    batch, boxes = Dim('batch', min=1, max=LARGEST_BATCH), Dim('boxes', min=1, max=MOST_GIVEN)
    rows, columns = (Dim(name, min=1, max=LARGEST_SIDE // divisor) for name in ('rows', 'columns'))
    sides: dict[int, Any] = {1: divisor * rows, 2: divisor * columns} if size is None else {}
    with warnings.catch_warnings(), quiet('torch.onnx', 'onnxscript'), torch.no_grad():
        warnings.simplefilter('ignore')
        arguments: tuple[Tensor, ...] = (images, torch.tensor([[height, width]] * 2), given)
        traced = torch.export.export(graph, arguments, dynamic_shapes=({0: batch, **sides}, {0: batch}, {0: batch, 1: boxes}))
        program = torch.onnx.export(
            traced,
            input_names=INPUTS,
            output_names=OUTPUTS,
            opset_version=OPSET,
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    assert program is not None  # it is only where the exporter writes the file itself
    model = program.model_proto
    without_traces(model)
    return model


def without_traces(model: onnx.ModelProto) -> None:
    """Removes what the exporter notes of the modules' classes and files, which is a third of a small model's file."""
    for each in (*model.graph.node, *model.graph.value_info, model.graph):
        each.ClearField('doc_string')
        each.ClearField('metadata_props')
    model.producer_name, model.producer_version = 'mmps', __version__


def write_model(model: onnx.ModelProto, about: About, out: str | Path) -> None:
    """Writes a graph with its metadata."""
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=about.to_text())
    with write_atomic(out) as file:
        file.write(model.SerializeToString())


def class_name(detector: PersonSearchDetector) -> str:
    """Returns the class of a detector, and that of its RoI head if it has one."""
    head = getattr(detector, 'roi_head', None)
    return type(detector).__name__ + (f'/{type(head).__name__}' if head is not None else '')


def thresholds(test_cfg: ConfigDict, prefix: str = '') -> dict[str, float]:
    """Returns the thresholds in a ``test_cfg``, such as ``rcnn.nms.iou_threshold``."""
    found: dict[str, float] = {}
    for name, value in test_cfg.items():
        if isinstance(value, dict):
            found |= thresholds(value, f'{prefix}{name}.')
        elif name in ('score_thr', 'iou_threshold'):
            found[f'{prefix}{name}'] = float(value)
    return found


def test_scale(cfg: Config) -> tuple[int, int]:
    """Returns the scale within which a config's test resizes images."""
    for step in cfg.test_dataloader.dataset.pipeline:
        if step['type'].endswith('Resize'):
            if not step.get('keep_ratio', False):
                raise ValueError(f'{cfg.filename}: expected a test that keeps the ratio of images')
            return step['scale'][0], step['scale'][1]
    raise ValueError(f'{cfg.filename}: expected a test that resizes images')


class quiet:
    """Keeps loggers from printing anything but errors."""

    def __init__(self, *names: str) -> None:
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
