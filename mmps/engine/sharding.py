"""Training a model that one device does not hold: MMEngine's FSDP runner and strategy, repaired."""

import os

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import RUNNERS, STRATEGIES
from mmengine.runner import FlexibleRunner
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP


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
        super().__init__(
            model_wrapper=wrapper,
            **kwargs,
            state_dict_cfg=dict(
                state_dict_type='FULL_STATE_DICT',
                state_dict_config=dict(type='FullStateDictConfig', **whole),
                optim_state_dict_config=dict(type='FullOptimStateDictConfig', **whole),
            ),
        )

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
