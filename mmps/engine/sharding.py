"""Trains models that do not fit on one device: MMEngine's FSDP runner and strategy with repairs."""

import os
from typing import Any

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
    """Runs the hooks' ``before_run`` before it loads weights, as ``Runner`` does. mmengine 0.10.7 loads first.

    In ``before_run`` the identity memory gets its size, and loaded weights are checked against that size.
    """

    def load_or_resume(self) -> None:
        if not self._has_loaded and (self._resume or self._load_from):
            self.call_hook('before_run')
        super().load_or_resume()


@STRATEGIES.register_module()
class ShardedStrategy(FSDPStrategy):
    """MMEngine's FSDP strategy, with checkpoints in the format of ``Runner``. Buffers (the identity memory) are not sharded.

    It repairs these errors of mmengine 0.10.7: gradients are clipped by the norm of one rank's shard; the optimizer state is
    loaded with the arguments of torch 2.0; an interrupted checkpoint keeps its final name. And these of FSDP in torch 2.13: it
    fails if a model renames saved tensors; on the CPU it asks for a CUDA device; on the CPU, offloading frees the weights
    before they are copied, and saves one of AdamW's moments in place of both.

    Args:
        blocks: Class names of the modules that are sharded. Each is gathered only for its own forward and backward pass, and
            must be called as a module. The rest of the model is gathered for the whole step. Heads belong to it, because
            other methods of theirs are called too.
        model_wrapper: Arguments of MMEngine's ``MMFullyShardedDataParallel``.
        **kwargs: Arguments of ``FSDPStrategy``.

    Raises:
        ValueError: The model has no such block.
    """

    model: FSDP

    def __init__(
        self, *, blocks: tuple[str, ...] = ('BasicBlock', 'Bottleneck'), model_wrapper: dict | None = None, **kwargs: Any
    ):
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

    def shards(self, module: nn.Module, recurse: bool, **kwargs: Any) -> bool:
        """Is torch's wrap policy: tells whether to descend into a module (``recurse``) or to shard it."""
        return recurse or type(module).__name__ in self.blocks

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if not any(self.shards(module, recurse=False) for module in model.modules()):
            raise ValueError(f'ShardedStrategy: no module of the model is a {" or a ".join(sorted(self.blocks))}: set blocks')
        return super()._wrap_model(model)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper | dict, model: nn.Module | None = None) -> BaseOptimWrapper:
        optim_wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(optim_wrapper, 'clip_func', None) is nn.utils.clip_grad_norm_:
            optim_wrapper.clip_func = lambda parameters, **limits: self.model.clip_grad_norm_(**limits)
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

    def save_checkpoint(self, filename: str, **kwargs: Any) -> None:
        super().save_checkpoint(f'{filename}.tmp', **kwargs)
        if is_main_process():
            os.replace(f'{filename}.tmp', filename)
