"""A pretended GPU, which shows on any machine what a real one would be asked for.

Its tensors say that they are on a device, and the CPU computes them. So each operator that makes the host wait for a GPU, and
each operator that gets tensors of both, is seen where a GPU would see it. PyTorch 2.9 or newer has the device that it needs.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Union
from unittest.mock import patch

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import instance_data
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from mmps.compat import operators, torch_kernels

aten = torch.ops.aten
NAME = 'pretended'
# The size of the result depends on values, or a value decides: the host has to wait for it.
WAITING = {
    aten._local_scalar_dense,
    aten.bincount,
    aten.equal,
    aten.masked_select,
    aten.nonzero,
    aten.repeat_interleave,
    aten.unique_dim,
    aten._unique,
    aten._unique2,
    aten.unique_consecutive,
    aten.unique_dim_consecutive,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
MAKING = {torch.tensor, torch.as_tensor, torch.asarray}  # from values of the host
READING = {Tensor.tolist, Tensor.numpy, Tensor.__array__}


@dataclass
class Record:
    """What a GPU would have been asked for.

    Attributes:
        waits: How often the host would wait, by place (file:line of the innermost caller that is not PyTorch, relative to its
            package) and operator.
        operators: The number of operators that were dispatched.
    """

    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    operators: int = 0

    def ours(self) -> int:
        """Returns the number of waits in mmps's own lines."""
        return sum(count for (place, _), count in self.waits.items() if place.startswith('mmps/'))


class PretendedTensor(Tensor):
    """A tensor that says that it is on the pretended device. ``held`` is the CPU's."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> 'PretendedTensor':
        return Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device(),
            requires_grad=False,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f'PretendedTensor({self.held})'

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _compute(operator, args, kwargs or {})


@cache
def device() -> torch.device:
    """Returns the pretended device. The first call registers it, for as long as the process lives."""
    from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

    class Module(_DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.float16, torch.bfloat16]

    _setup_privateuseone_for_python_backend(NAME, Module())
    return torch.device(NAME, 0)


def to_pretended(model: nn.Module) -> nn.Module:
    """Moves the parameters and buffers of a model to the pretended device, in place."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and not isinstance(weight, PretendedTensor):
                module._parameters[name] = nn.Parameter(PretendedTensor(weight.detach()), weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None and not isinstance(buffer, PretendedTensor):
                module._buffers[name] = PretendedTensor(buffer)
        if isinstance(module, BaseDataPreprocessor):
            module._device = device()
    return model


@contextmanager
def pretended_device() -> Iterator[Record]:
    """Computes operators on the pretended device, and records them.

    Raises:
        RuntimeError: An operator gets tensors of both devices, as on a GPU.
    """
    record = Record()
    indices: Any = Union[instance_data.IndexType, PretendedTensor]  # MMEngine lists the devices  # noqa: UP007
    with (
        patch.object(instance_data, 'IndexType', indices),
        patch.object(operators, 'elsewhere', _Compiled(record)),
        _Operators(record),
        _Values(record),
    ):
        yield record


class _Compiled:
    """MMCV's operators as a GPU has them compiled: one operator each. The host waits for NMS, whose output has any size."""

    def __init__(self, record: Record):
        self.record = record

    def __getattr__(self, name: str) -> Callable:
        def kernel(*args: Any) -> Any:
            self.record.operators += 1
            if name == 'nms':
                self.record.waits[place(sys._getframe(1)), name] += 1
            found = getattr(torch_kernels, name)(*tree_map(_held, args))
            return tree_map(lambda value: PretendedTensor(value) if _is_host(value) else value, found)

        return kernel


class _Operators(TorchDispatchMode):
    def __init__(self, record: Record):
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if any(isinstance(leaf, PretendedTensor) for leaf in leaves) or _is_pretended(kwargs.get('device')):
            self.record.operators += 1
            if waits(operator, args, kwargs, leaves):
                self.record.waits[place(sys._getframe(1)), operator.overloadpacket.__name__] += 1
        return _compute(operator, args, kwargs)


class _Values(TorchFunctionMode):
    """Tensors made of values of the host: PyTorch copies them to their device without an operator."""

    def __init__(self, record: Record):
        super().__init__()
        self.record = record

    def __torch_function__(self, function: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        to_device = _is_pretended(kwargs.get('device'))
        if function is Tensor.new_tensor and isinstance(args[0], PretendedTensor) and kwargs.get('device') is None:
            function, to_device = torch.tensor, True
            kwargs.setdefault('dtype', args[0].dtype)
            args = args[1:]
        if function in READING and isinstance(args[0], PretendedTensor):
            self.record.waits[place(sys._getframe(1)), function.__name__] += 1
            return function(_held(args[0].detach()), *args[1:], **kwargs)
        if function in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], PretendedTensor):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(each, list) for each in index):
                self.record.waits[place(sys._getframe(1)), 'indexing by a list'] += 1
                index = tuple(PretendedTensor(torch.tensor(each)) if isinstance(each, list) else each for each in index)
                args = (args[0], index, *args[2:])
        if function in MAKING and to_device and not isinstance(args[0], Tensor):
            self.record.waits[place(sys._getframe(1)), function.__name__] += 1
            return PretendedTensor(function(*args, **{**kwargs, 'device': 'cpu'}))
        return function(*args, **kwargs)


def waits(operator: Any, args: tuple, kwargs: dict, leaves: list) -> bool:
    """Returns whether the host would wait for the device, or the device's queue for a copy from the host."""
    packet = operator.overloadpacket
    if packet in WAITING:
        return kwargs.get('output_size') is None
    if packet in INDEXING:
        if packet is not aten.index and args[2].numel() == 1 and len(args[1]) == 1 and args[1][0].dtype == torch.bool:
            return False  # PyTorch fills by the mask
        return any(each.dtype in (torch.bool, torch.uint8) or _is_host(each) for each in args[1] if each is not None)
    if packet is aten._to_copy:
        moves = 'device' in kwargs and _is_pretended(kwargs['device']) != isinstance(args[0], PretendedTensor)
        return moves and not kwargs.get('non_blocking')
    if packet is aten.copy_:
        return isinstance(args[0], PretendedTensor) != isinstance(args[1], PretendedTensor) and not any(args[2:])
    return False


def place(frame: FrameType | None) -> str:
    """Returns the place of the innermost caller outside PyTorch: that in mmps if it is nearer than one of another package."""
    while frame is not None:
        name = frame.f_code.co_filename
        if '/torch/' not in name and name != __file__ and 'contextlib' not in name:
            parts = Path(name).parts
            start = next((i for i, part in enumerate(parts) if part in ('site-packages', 'mmps', 'tests', 'tools')), 0)
            return f'{"/".join(parts[start + (parts[start] == "site-packages") :])}:{frame.f_lineno}'
        frame = frame.f_back
    return 'backward'


def _is_pretended(where: Any) -> bool:
    return where is not None and torch.device(where).type == NAME


def _is_host(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, PretendedTensor)


def _held(value: Any) -> Any:
    if isinstance(value, PretendedTensor):
        return value.held
    return torch.device('cpu') if isinstance(value, torch.device) else value


def _compute(operator: Any, args: tuple, kwargs: dict) -> Any:
    leaves = tree_leaves((args, kwargs))
    pretended = any(isinstance(leaf, PretendedTensor) for leaf in leaves)
    if pretended and operator.overloadpacket not in (*INDEXING, aten.copy_, aten._to_copy):
        strangers = [leaf for leaf in leaves if _is_host(leaf) and leaf.ndim > 0]
        if strangers:
            raise RuntimeError(
                f'{operator}: expected all tensors on the same device, but one, {tuple(strangers[0].shape)}, is on the CPU'
            )
    if kwargs.get('device') is not None:
        pretended = _is_pretended(kwargs['device'])
    found = operator(*tree_map(_held, args), **tree_map(_held, kwargs))
    if not pretended:
        return found
    found = tree_map(lambda value: PretendedTensor(value) if _is_host(value) else value, found)
    return return_and_correct_aliasing(operator, args, kwargs, found)
