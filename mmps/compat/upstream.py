"""Works around bugs of other packages. Each function names the versions that need it and does nothing for the others."""

import os
import pickle
import sys
import tarfile
import types
from collections.abc import Callable
from importlib.metadata import version
from typing import IO, Any

import mmengine
import numpy as np
import torch
from mmengine.config import config as mmengine_config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

TORCH = digit_version(torch.__version__.split('+')[0])
MMENGINE = digit_version(mmengine.__version__)


class _Unavailable:
    """Stands in for a class of MMRazor's quantization settings. It can be imported, but not created."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise ImportError(f"MMRazor's quantization does not run on torch {torch.__version__}: it needs torch 1.13")


class _QuantizationStandIn(types.ModuleType):
    __all__: list[str] = []
    __path__: list[str] = []

    def __getattr__(self, name: str) -> type[_Unavailable]:
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (_Unavailable,), {})


def import_mmrazor_models() -> None:
    """Makes ``import mmrazor.models`` work for mmrazor 1.0.0 on torch >= 2.

    MMRazor's quantization settings import private names that torch has moved. mmps does not quantize, so stand-ins replace
    three modules first.
    """
    if digit_version('2.0.0') <= TORCH and version('mmrazor') == '1.0.0' and 'mmrazor.structures' not in sys.modules:
        for name in ('quantization', 'quantization.backend_config', 'quantization.qconfig'):
            name = f'mmrazor.structures.{name}'
            sys.modules[name] = _QuantizationStandIn(name)
    import mmrazor.models  # noqa: F401


def _statistic(owner: type, name: str) -> Callable:
    """Replaces ``getattr`` in MMEngine's checkpoints: allows only the statistics of a log history."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'refused to load: getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _number_type(name: str, *_: object) -> np.dtype:
    """Replaces ``numpy.dtype`` in MMEngine's checkpoints: allows only five number types, and never a copy of one.

    A file can change the state of a copied dtype, for example to read plain bytes as Python objects. NumPy's own dtypes are
    shared and cannot be changed.
    """
    if name not in ('f8', 'f4', 'i8', 'i4', 'b1'):
        raise pickle.UnpicklingError(f'refused to load: dtype({name!r})')
    return np.dtype(name)


def _encode(text: str, encoding: str) -> bytes:
    """Replaces ``_codecs.encode``, by which bytes are written there. torch < 2.6 does not allow it."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'refused to load: text in {encoding!r}')
    return text.encode('latin1')


def _known_as(name: str, function: Callable) -> Callable:
    """Renames the function to the name that files call it by: torch < 2.6 looks at the function's own name only."""
    function.__module__, _, function.__qualname__ = name.rpartition('.')
    function.__name__ = function.__qualname__
    return function


def allow_mmengine_checkpoints() -> None:
    """Lets a weights-only ``torch.load`` read the checkpoints of mmengine <= 0.10.7.

    Beside tensors they hold log histories and the NumPy arrays in these, of NumPy 1 and 2. Exactly those are allowed; the
    check stays on.
    """
    if digit_version('0.10.7') >= MMENGINE:
        reconstruct, scalar = (value.__reduce__()[0] for value in (np.empty(0), np.float64(0)))
        dtypes = [type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'bool')]
        torch.serialization.add_safe_globals(
            [
                HistoryBuffer,
                _known_as('builtins.getattr', _statistic),
                _known_as('numpy.dtype', _number_type),
                _known_as('_codecs.encode', _encode),
                np.ndarray,
                *dtypes,
                *(
                    _known_as(f'numpy.{module}.multiarray.{name}', lambda *args, function=function: function(*args))
                    for module in ('core', '_core')
                    for name, function in (('_reconstruct', reconstruct), ('scalar', scalar))
                ),
            ]
        )


def load_weights_only() -> None:
    """Makes ``torch.load`` of torch < 2.6 read weights only by default, and refuse tar archives.

    Otherwise it runs code from the file. For the oldest format, a tar archive, it does so even with ``weights_only=True``
    (CVE-2025-32434). The environment variable ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=0`` restores torch's default.
    """
    if digit_version('2.6.0') <= TORCH:
        return
    os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    load = torch.serialization._legacy_load

    def without_tar(file: IO[bytes], *args: Any, **kwargs: Any) -> Any:
        if tarfile.is_tarfile(file):
            raise pickle.UnpicklingError('a tar archive, the format of torch before 0.1.10, is not read')
        file.seek(0)
        return load(file, *args, **kwargs)

    torch.serialization._legacy_load = without_tar  # type: ignore[assignment]  # the same arguments, passed on


def format_configs_once() -> None:
    """Formats the text of a config once per process. mmengine <= 0.10.7 does it again for every checkpoint.

    It takes more than a second for a distilled run.
    """
    if digit_version('0.10.7') < MMENGINE:
        return
    format_code, formatted = mmengine_config.FormatCode, {}

    def format_once(code: str, **settings: Any) -> tuple[str, bool]:
        key = code, repr(settings)
        if key not in formatted:
            formatted[key] = format_code(code, **settings)
        return formatted[key]

    mmengine_config.FormatCode = format_once


# MMEngine resolves ``mmps::config.py`` only for the packages in this table.
MODULE2PACKAGE.setdefault('mmps', 'mmps')
import_mmrazor_models()
allow_mmengine_checkpoints()
load_weights_only()
format_configs_once()
