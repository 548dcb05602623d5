from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmps.registry import HOOKS


@HOOKS.register_module()
class SkippedStepHook(Hook):
    """Restores the buffers of the model (identity memory, running statistics) when the loss scaler skips a step.

    So weights, memory and statistics always match, and the values of an overflow, which may be NaN, reach none of them.

    Without a loss scaler (``AmpOptimWrapper``) the hook does nothing. With one it copies the buffers of all modules in
    training mode before the first batch of each step: 11 MB for the memory of CUHK-SYSU. It adds no synchronization with the
    device. All ranks skip the same steps, because they share their gradients.

    Args:
        patience: How many steps in a row may be skipped. A dynamic loss scale, which is halved each time, falls from 65,536
            to less than 1 in 17 steps.

    Raises:
        FloatingPointError: More steps in a row are skipped. Then the loss scale is not the cause of the overflow.
    """

    priority = 'HIGH'  # before the hooks that save or average the model

    def __init__(self, patience: int = 20) -> None:
        self.patience = patience
        self.num_skipped = 0
        self.skipped: bool | Tensor = True
        self.saved_buffers: list[tuple[Tensor, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        self.active = has_loss_scaler(runner)
        if self.active:
            runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """Notes that a step is taken. The scaler always calls a fused optimizer, and tells it with ``found_inf`` to skip."""
        self.skipped = getattr(optimizer, 'found_inf', False)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self.active and not self.saved_buffers:
            self.saved_buffers = [
                (buffer, buffer.clone())
                for module in runner.model.modules()
                if module.training
                for buffer in module.buffers(recurse=False)
            ]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        self.restored = True  # until the last batch of the step decides it
        if not self.active or not runner.optim_wrapper.should_update():
            return
        if self.skipped:
            for buffer, before in self.saved_buffers:
                buffer.copy_(before)
        self.num_skipped = self.num_skipped + 1 if self.skipped else 0
        self.saved_buffers, self.restored, self.skipped = [], bool(self.skipped), True
        if self.num_skipped > self.patience:
            losses = ', '.join(
                f'{name} = {torch.as_tensor(value).item()}' for name, value in (outputs or {}).items() if 'loss' in name
            )
            raise FloatingPointError(
                f'iteration {runner.iter + 1}: the loss scaler skipped {self.num_skipped} steps in a row '
                f'({losses}); training stopped'
            )


def has_loss_scaler(runner: Runner) -> bool:
    """Tells whether the training uses a loss scaler."""
    wrapper = runner.optim_wrapper
    return isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()
