"""Recorders of what a detector's methods take and give: they read any detector the same way, whatever its modules are called.

MMRazor adds ``Recorder`` to a config's type: ``dict(type='MethodOutputs', source='embed')`` is the second class here.
"""
from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from types import MethodType
from typing import Any

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import nn

from mmps.registry import TASK_UTILS


class _MethodRecorder(BaseRecorder):
    """Records calls of the model's method ``source`` while it is entered."""

    def __init__(self, source: str):
        super().__init__(source)
        self.recording = False

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        method = getattr(model, self.source, None)
        if not isinstance(method, MethodType):
            raise ValueError(f"{type(self).__name__}: {type(model).__name__} has no method '{self.source}'")
        # A bound method, not a closure over the model: a copy of the model (EMA makes one) must call its own.
        setattr(model, self.source, MethodType(self._recorded(method.__func__), model))

    def _recorded(self, function: Callable) -> Callable:

        @wraps(function)
        def call(model: nn.Module, *args, **kwargs):
            output = function(model, *args, **kwargs)
            if self.recording:
                self.data_buffer.append(self.choose(args, output))
            return output

        return call

    @abstractmethod
    def choose(self, args: tuple, output: Any) -> Any:
        """What of a call is recorded."""

    def __enter__(self) -> None:
        super().__enter__()
        self.recording = True

    def __exit__(self, *exc) -> None:
        self.recording = False


@TASK_UTILS.register_module()
class MethodInputsRecorder(_MethodRecorder):
    """The positional arguments of each call; ``data_idx`` chooses one of them."""

    def choose(self, args: tuple, output: Any) -> Any:
        return args


@TASK_UTILS.register_module()
class MethodOutputsRecorder(_MethodRecorder):
    """What each call returned; ``data_idx`` chooses an item of it."""

    def choose(self, args: tuple, output: Any) -> Any:
        return output


@TASK_UTILS.register_module()
class AttributeRecorder(BaseRecorder):
    """A tensor attribute as it is when the recording begins, e.g. ``memory.lut`` before this batch is written into it."""

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        self._model = [model]  # in a list: a recorder must not own the model as a submodule

    def __enter__(self) -> None:
        super().__enter__()
        self.data_buffer.append(attrgetter(self.source)(self._model[0]).clone())
