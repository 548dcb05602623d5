"""The only file that works around upstream. Each function names the versions that need it and does nothing elsewhere."""
import os
import pickle
import sys
import tarfile
import types
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version

import mmengine
import numpy as np
import torch
from mmengine._strategy import FSDPStrategy
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import RUNNERS, STRATEGIES
from mmengine.runner import FlexibleRunner
from mmengine.utils import digit_version
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

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
        torch.serialization.add_safe_globals([
            HistoryBuffer, _known_as('builtins.getattr', _statistic), _known_as('numpy.dtype', _number_type),
            _known_as('_codecs.encode', _encode), np.ndarray, *dtypes,
            *(_known_as(f'numpy.{module}.multiarray.{function.__name__}', lambda *args, function=function: function(*args))
              for module in ('core', '_core') for function in (reconstruct, scalar))])


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


def launch_by_mpi() -> None:
    """mmengine 0.10.7, launcher ``mpi``: it never says which of a machine's devices is a rank's, so all would be the first.

    Open MPI's variables are handed on as those that torch reads; on one machine that machine is the master.

    Raises:
        ValueError: The process was not started by Open MPI's ``mpirun``, or by one on several machines without MASTER_ADDR.
    """
    ranks = {name: os.environ.get(f'OMPI_COMM_WORLD_{name}') for name in ('RANK', 'SIZE', 'LOCAL_RANK', 'LOCAL_SIZE')}
    if None in ranks.values():
        raise ValueError("--launcher mpi: OMPI_COMM_WORLD_RANK and the like are not set: start it with Open MPI's mpirun")
    if ranks['SIZE'] == ranks['LOCAL_SIZE']:
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    elif 'MASTER_ADDR' not in os.environ:
        raise ValueError('--launcher mpi: several machines need MASTER_ADDR, the address of rank 0: mpirun -x MASTER_ADDR=...')
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ.update(RANK=ranks['RANK'], WORLD_SIZE=ranks['SIZE'], LOCAL_RANK=ranks['LOCAL_RANK'])


def launch_on_cpu(cfg: Config) -> None:
    """mmengine 0.10.7, launchers ``pytorch`` and ``mpi``, no accelerator: it asks CUDA for a device whatever the backend is.

    The gloo group is made here, and the model is wrapped without a device. A rank waits for another as long as NCCL does, ten
    minutes, or ``env_cfg.dist_cfg.timeout`` seconds; gloo's own patience is half an hour.
    """
    if digit_version('0.10.7') >= MMENGINE and cfg.get('launcher') in ('pytorch', 'mpi') and get_device() == 'cpu':
        if not torch.distributed.is_initialized():
            patience = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 600)
            torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=patience))
        unused = cfg.get('find_unused_parameters', False)
        wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=unused)
        cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}


@RUNNERS.register_module()
class ShardedRunner(FlexibleRunner):
    """mmengine 0.10.7: ``FlexibleRunner`` loads weights before the hooks' ``before_run``, ``Runner`` after it.

    The identity memory gets its size there, and what is loaded is compared with it.
    """

    def load_or_resume(self) -> None:
        if not self._has_loaded and (self._resume or self._load_from):
            self.call_hook('before_run')
        super().load_or_resume()


@STRATEGIES.register_module()
class ShardedStrategy(FSDPStrategy):
    """MMEngine's strategy for models that one device does not hold (FSDP), with checkpoints as ``Runner`` writes them.

    mmengine 0.10.7: gradients are clipped by the norm of a rank's own shard, an optimizer's state is loaded with the arguments
    of torch 2.0, and an interrupted checkpoint stays under its name. torch 2.13: FSDP does not expect that a model renames what
    it saves; on the CPU it wants a CUDA device, "offloading" to the CPU frees the very weights that it means to copy, and saves
    one of AdamW's moments for both. Buffers, so the identity memory, are not sharded.

    Args:
        blocks: Class names of the modules that are sharded, each gathered for its own forward and backward only. They must be
            called as modules. The rest of the model (heads, whose other methods are called too) is gathered for the whole step.
        model_wrapper: Arguments of MMEngine's ``MMFullyShardedDataParallel``.
        **kwargs: As ``FSDPStrategy`` has them.

    Raises:
        ValueError: The model has no such block.
    """

    def __init__(self, *, blocks: tuple[str, ...] = ('BasicBlock', 'Bottleneck'), model_wrapper: dict | None = None, **kwargs):
        self.blocks = set(blocks)
        on_cpu = get_device() == 'cpu'
        device = dict(device_id=torch.device('cpu')) if on_cpu else {}
        wrapper = dict(type='MMFullyShardedDataParallel', auto_wrap_policy=self.shards) | device | (model_wrapper or {})
        whole = dict(rank0_only=True, offload_to_cpu=not on_cpu)
        super().__init__(model_wrapper=wrapper, **kwargs, state_dict_cfg=dict(
            state_dict_type='FULL_STATE_DICT', state_dict_config=dict(type='FullStateDictConfig', **whole),
            optim_state_dict_config=dict(type='FullOptimStateDictConfig', **whole)))

    def shards(self, module: nn.Module, recurse: bool, **kwargs) -> bool:
        """torch's wrap policy: whether to look into a module (``recurse``), or to shard it."""
        return recurse or type(module).__name__ in self.blocks

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if not any(self.shards(module, recurse=False) for module in model.modules()):
            raise ValueError(f'ShardedStrategy: no module of the model is a {" or a ".join(sorted(self.blocks))}: set blocks')
        return super()._wrap_model(model)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper | dict, model: nn.Module | None = None) -> BaseOptimWrapper:
        optim_wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(optim_wrapper, 'clip_func', None) is nn.utils.clip_grad_norm_:
            optim_wrapper.clip_func = lambda parameters, **limits: model.clip_grad_norm_(**limits)
        return optim_wrapper

    def model_state_dict(self) -> dict:
        model, hooks = self.model.module, self.model.module._state_dict_hooks
        model._state_dict_hooks = type(hooks)()
        state_dict = super().model_state_dict()
        model._state_dict_hooks = hooks
        for hook in hooks.values():
            hook(model, state_dict, '', {})
        return state_dict

    def load_optim_state_dict(self, state_dict: dict) -> None:
        optimizer = self.optim_wrapper.optimizer
        optimizer.load_state_dict(FSDP.optim_state_dict_to_load(self.model, optimizer, state_dict))

    def save_checkpoint(self, filename: str, **kwargs) -> None:
        super().save_checkpoint(f'{filename}.tmp', **kwargs)
        if is_main_process():
            os.replace(f'{filename}.tmp', filename)


# MMEngine resolves ``mmps::config.py`` for the packages in this table only.
MODULE2PACKAGE.setdefault('mmps', 'mmps')
import_mmrazor_models()
allow_mmengine_checkpoints()
load_weights_only()
