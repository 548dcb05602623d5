"""The only file that works around upstream. Each function names the versions that need it and does nothing elsewhere."""

import os
import pickle
import sys
import tarfile
import types
from collections.abc import Callable
from importlib.metadata import version

import mmengine
import numpy as np
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

TORCH = digit_version(torch.__version__.split('+')[0])
MMENGINE = digit_version(mmengine.__version__)


class _Unavailable:
    """Base of the classes that stand in for MMRazor's quantization settings: may be named, not used."""

    def __init__(self, *args, **kwargs):
        raise ImportError(f"MMRazor's quantization does not run on torch {torch.__version__}: it needs torch 1.13")


class _QuantizationStandIn(types.ModuleType):
    __all__ = ()
    __path__ = ()

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (_Unavailable,), {})


def import_mmrazor_models() -> None:
    """mmrazor 1.0.0 on torch >= 2: its quantization settings are built at import from private torch names that moved.

    Nothing in mmps quantizes, so three modules are stood in for before ``mmrazor.models`` is imported.
    """
    if digit_version('2.0.0') <= TORCH and version('mmrazor') == '1.0.0' and 'mmrazor.structures' not in sys.modules:
        for name in ('quantization', 'quantization.backend_config', 'quantization.qconfig'):
            name = f'mmrazor.structures.{name}'
            sys.modules[name] = _QuantizationStandIn(name)
    import mmrazor.models  # noqa: F401


def _statistic(owner: type, name: str):
    """What ``getattr`` means in MMEngine's checkpoints: one of the statistics that a log history carries."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'refused to load: getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _number_type(name: str, *_) -> np.dtype:
    """What ``numpy.dtype`` means there: a type of numbers, which nothing that follows in the file can change.

    NumPy's own types are shared, and take no new state. A copy of one does, fields of objects over plain bytes too.
    """
    if name not in ('f8', 'f4', 'i8', 'i4', 'b1'):
        raise pickle.UnpicklingError(f'refused to load: dtype({name!r})')
    return np.dtype(name)


def _encode(text: str, encoding: str) -> bytes:
    """How bytes are written there; torch < 2.6 does not know it."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'refused to load: text in {encoding!r}')
    return text.encode('latin1')


def _known_as(name: str, function: Callable) -> Callable:
    """The function under the name by which files call it: torch < 2.6 takes a function's own name only."""
    function.__module__, _, function.__qualname__ = name.rpartition('.')
    function.__name__ = function.__qualname__
    return function


def allow_mmengine_checkpoints() -> None:
    """mmengine 0.10.7: MMEngine's checkpoints hold more than the weights that a weights-only ``torch.load`` takes.

    Exactly what they hold beside tensors is allowed (log histories and the NumPy arrays in them, of NumPy 1 and 2); the check
    stays on.
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
                    _known_as(
                        f'numpy.{module}.multiarray.{function.__name__}', lambda *args, function=function: function(*args)
                    )
                    for module in ('core', '_core')
                    for function in (reconstruct, scalar)
                ),
            ]
        )


def load_weights_only() -> None:
    """torch < 2.6: ``torch.load`` runs what a file says unless told not to, and for its oldest format even then.

    That format, a tar archive, is what CVE-2025-32434 is about. ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=0`` in the environment leaves
    the first part to the caller, as torch has it.
    """
    if digit_version('2.6.0') <= TORCH:
        return
    os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    load = torch.serialization._legacy_load

    def without_tar(file, *args, **kwargs):
        if tarfile.is_tarfile(file):
            raise pickle.UnpicklingError('a tar archive, the format of torch before 0.1.10, is not read')
        file.seek(0)
        return load(file, *args, **kwargs)

    torch.serialization._legacy_load = without_tar


# MMEngine resolves ``mmps::config.py`` for the packages in this table only.
MODULE2PACKAGE.setdefault('mmps', 'mmps')
import_mmrazor_models()
allow_mmengine_checkpoints()
load_weights_only()
