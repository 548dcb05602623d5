"""The only file that works around upstream. Each function names the versions that need it and does nothing elsewhere."""
import pickle
import sys
import types
from importlib.metadata import version

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.device import get_device
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


def allow_mmengine_checkpoints() -> None:
    """mmengine 0.10.7 on torch >= 2.6: ``torch.load`` is weights-only, MMEngine's checkpoints hold more than weights.

    Exactly what they hold beside tensors is allowed (log histories and the NumPy arrays in them); the check stays on.
    """
    if digit_version('2.6.0') <= TORCH and digit_version('0.10.7') >= MMENGINE:
        reconstruct, scalar = (value.__reduce__()[0] for value in (np.empty(0), np.float64(0)))
        dtypes = [type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'bool')]
        statistics = [(_statistic, f'{module}.getattr') for module in ('builtins', '__builtin__')]
        torch.serialization.add_safe_globals(
            [HistoryBuffer, *statistics, reconstruct, scalar, np.ndarray, np.dtype, *dtypes])


def launch_on_cpu(cfg: Config) -> None:
    """mmengine 0.10.7, launcher ``pytorch``, no accelerator: it asks CUDA for a device whatever the backend is.

    The gloo group is made here, and the model is wrapped without a device.
    """
    if digit_version('0.10.7') >= MMENGINE and cfg.get('launcher') == 'pytorch' and get_device() == 'cpu':
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')
        unused = cfg.get('find_unused_parameters', False)
        wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=unused)
        cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}


# MMEngine resolves ``mmps::config.py`` for the packages in this table only.
MODULE2PACKAGE.setdefault('mmps', 'mmps')
import_mmrazor_models()
allow_mmengine_checkpoints()
