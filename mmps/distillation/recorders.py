"""Records what a detector's methods take and return. So a config fits any detector, whatever its modules are called.

MMRazor appends ``Recorder`` to a config's type: ``dict(type='MethodOutputs', source='embed')`` is a ``MethodOutputsRecorder``.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from types import MethodType
from typing import Any, ClassVar, NamedTuple

from mmdet.structures import SampleList
from mmengine.model import BaseModel
from mmrazor.models.task_modules import RecorderManager
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import Tensor, nn

from mmps.distillation.losses.feature import standardise
from mmps.distillation.losses.full_precision import full_precision
from mmps.distillation.pairing import Level, average, levels_of
from mmps.models.sharded_memory import ShardedMemory
from mmps.registry import TASK_UTILS, did_you_mean
from mmps.structures import person_boxes


class _MethodRecorder(BaseRecorder):
    """Records calls of a method while the recorder is entered.

    Args:
        source: A method of the model, or of one of its parts: 'dense_head.forward'.
    """

    def __init__(self, source: str):
        super().__init__(source)
        self.recording = False

    def prepare_from_model(self, model: nn.Module) -> None:
        *path, name = self.source.split('.')
        owner = find(model, path)
        method = getattr(owner, name, None)
        if not isinstance(method, MethodType):
            methods = [each for each in dir(type(owner)) if not each.startswith('_')] if owner is not None else []
            near = did_you_mean(self.source, ['.'.join([*path, each]) for each in methods] + list(dict(model.named_modules())))
            raise ValueError(f"{type(self).__name__}: {type(model).__name__} has no method '{self.source}'{near}")
        # A bound method, not a closure over the model: a copy of the model (as EMA makes) must call its own method.
        setattr(owner, name, MethodType(self._recorded(method.__func__), owner))

    def _recorded(self, function: Callable) -> Callable:

        @wraps(function)
        def call(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
            output = function(model, *args, **kwargs)
            if self.recording:
                self.data_buffer.append(self.choose(args, output))
            return output

        return call

    @abstractmethod
    def choose(self, args: tuple, output: Any) -> Any:
        """Returns what is recorded of a call."""

    def __enter__(self) -> None:
        super().__enter__()
        self.recording = True

    def __exit__(self, *exc: object) -> None:
        self.recording = False


@TASK_UTILS.register_module()
class MethodInputsRecorder(_MethodRecorder):
    """Records the positional arguments of each call. ``data_idx`` selects one of them."""

    def choose(self, args: tuple, output: Any) -> Any:
        return args


@TASK_UTILS.register_module()
class MethodOutputsRecorder(_MethodRecorder):
    """Records what each call returned. ``data_idx`` selects one item of it."""

    def choose(self, args: tuple, output: Any) -> Any:
        return output


@TASK_UTILS.register_module()
class FeatureMapsRecorder(MethodOutputsRecorder):
    """Records the feature maps that each call returned, as {stride: (B, C, H, W)}. ``data_idx`` selects a stride.

    Maps that the detector has only in training are left out. If no map has the stride, the coarsest finer one is averaged over
    the larger cells.

    Args:
        source: The method that returns them.
        standardised: Whether every channel is scaled to mean 0 and variance 1 over the batch. So a loss that sums squared
            differences has the same size for any teacher.
    """

    def __init__(self, source: str = 'extract_feat', standardised: bool = False):
        super().__init__(source)
        self.standardised = standardised
        self.levels: list[Level] = []

    def prepare_from_model(self, model: nn.Module) -> None:
        self.levels = levels_of(model)
        super().prepare_from_model(model)

    def choose(self, args: tuple, output: tuple[Tensor, ...]) -> dict[int, Tensor]:
        maps = {level.stride: output[level.index] for level in self.levels}
        return {stride: standardise(full_precision(each)) for stride, each in maps.items()} if self.standardised else maps

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> Any:
        maps = super().get_record_data(record_idx)
        return maps if data_idx is None else average(maps, data_idx)


@TASK_UTILS.register_module()
class BatchRecorder(BaseRecorder):
    """Records what a batch holds.

    Args:
        source: ``samples``; ``boxes``, the annotated boxes of the persons, one (N_i, 4) tensor per image; or ``sizes``, the
            (height, width) of each image without its padding. All are in input-image pixels.
    """

    SOURCES: ClassVar[dict[str, Callable[[SampleList], list]]] = dict(
        samples=list, boxes=person_boxes, sizes=lambda samples: [sample.img_shape[:2] for sample in samples]
    )

    def prepare_from_model(self, model: nn.Module) -> None:
        if self.source not in self.SOURCES:
            raise ValueError(f'BatchRecorder: source is {self.source!r}: expected one of {list(self.SOURCES)}')

    def record(self, samples: SampleList) -> None:
        self.data_buffer.append(self.SOURCES[self.source](samples))


@TASK_UTILS.register_module()
class AttributeRecorder(BaseRecorder):
    """Records a tensor attribute when the recorder is entered, e.g. ``memory.lut`` before the batch updates it.

    It records a copy if the model is in training mode, and the tensor itself otherwise: a teacher's table does not change.
    """

    def prepare_from_model(self, model: nn.Module) -> None:
        *owner, name = self.source.split('.')
        if name == 'lut' and isinstance(find(model, owner), ShardedMemory):
            raise ValueError(f'{type(self).__name__}: {self.source} is spread over the ranks: set sharded=False in its loss')
        if not isinstance(find(model, self.source.split('.')), Tensor):
            near = did_you_mean(self.source, [*model.state_dict(), 'memory.lut', 'memory.queue'])
            raise ValueError(f"{type(self).__name__}: {type(model).__name__} has no tensor '{self.source}'{near}")
        self._model = [model]  # in a list: a recorder must not own the model as a submodule

    def __enter__(self) -> None:
        super().__enter__()
        value, training = attrgetter(self.source)(self._model[0]), self._model[0].training
        self.data_buffer.append(value.clone() if training else value)


def check_module(source: str, model: nn.Module) -> None:
    """Raises ValueError, with similar names, if the model has no such module. MMRazor's own error is an assertion."""
    names = list(dict(model.named_modules()))
    if source not in names:
        raise ValueError(f"{type(model).__name__} has no module '{source}' to record{did_you_mean(source, names)}")


def find(owner: Any, path: list[str]) -> Any:
    """Returns the attribute at the end of a path of names, or None if one of them is missing."""
    for name in path:
        owner = getattr(owner, name, None)
    return owner


class Boxes(NamedTuple):
    """The boxes of each image that a model embeds, (N_i, 4), and that it refines, (M_i, 4), in input-image pixels."""

    to_embed: list[Tensor]
    to_refine: list[Tensor]


def run_recorded(
    model: BaseModel, recorders: RecorderManager, feats: tuple[Tensor, ...], boxes: Boxes, dense_head: bool = True
) -> None:
    """Calls the methods of a detector that recorders read. The detector's own losses need not call them.

    Args:
        feats: The output of the feature extractor, which has run.
        dense_head: Whether to run the dense head if a recorder reads it. A student's own losses have run it.
    """
    if dense_head and reads(recorders, 'dense_head'):
        model.run_dense_head(feats)
    if reads(recorders, 'embed'):
        model.embed(feats, boxes.to_embed, in_place=True)
    if reads(recorders, 'refine_boxes'):
        model.refine_boxes(feats, boxes.to_refine)


def reads(recorders: RecorderManager, source: str) -> bool:
    """Returns whether a recorder reads this method or part."""
    return any(recorder.source.split('.')[0] == source for recorder in recorders.recorders.values())
