from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmps.engine.hooks.skipped_step_hook import SkippedStepHook, has_loss_scaler
from mmps.registry import HOOKS


@HOOKS.register_module()
class StopOnInvalidLossHook(Hook):
    """Stops the training when a loss is NaN or infinite, before a checkpoint is written, and names the loss.

    It ignores steps that a loss scaler skips if a :class:`SkippedStepHook` handles them.

    Args:
        interval: Iterations between two checks.

    Raises:
        FloatingPointError: A loss is NaN or infinite.
    """

    def __init__(self, interval: int = 1):
        self.interval = interval
        self.skipped_step_hooks: list[SkippedStepHook] = []

    def before_train(self, runner: Runner) -> None:
        self.skipped_step_hooks = [
            hook for hook in runner.hooks if isinstance(hook, SkippedStepHook) and has_loss_scaler(runner)
        ]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        if any(hook.restored for hook in self.skipped_step_hooks) or not self.every_n_train_iters(runner, self.interval):
            return
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items() if 'loss' in name}
        if not losses or torch.stack([value.float() for value in losses.values()]).isfinite().all():
            return
        named = ', '.join(f'{name} = {value.item()}' for name, value in losses.items() if not value.isfinite())
        raise FloatingPointError(
            f'iteration {runner.iter + 1}: {named}; training stopped, nothing was saved since the last checkpoint'
        )
