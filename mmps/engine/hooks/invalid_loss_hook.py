import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmps.engine.hooks.skipped_step_hook import SkippedStepHook, has_loss_scaler
from mmps.registry import HOOKS


@HOOKS.register_module()
class StopOnInvalidLossHook(Hook):
    """Stops the training when a loss is NaN or infinite, before a checkpoint is written, and says which.

    A step that a loss scaler skips and :class:`SkippedStepHook` takes back is left to that hook.

    Args:
        interval: Iterations between two checks.
    """

    def __init__(self, interval: int = 1):
        self.interval = interval
        self.skipping: list[SkippedStepHook] = []

    def before_train(self, runner: Runner) -> None:
        self.skipping = [hook for hook in runner.hooks if isinstance(hook, SkippedStepHook) and has_loss_scaler(runner)]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        if any(hook.took_back for hook in self.skipping) or not self.every_n_train_iters(runner, self.interval):
            return
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items() if 'loss' in name}
        if not losses or torch.stack([value.float() for value in losses.values()]).isfinite().all():
            return
        named = ', '.join(f'{name} = {value.item()}' for name, value in losses.items() if not value.isfinite())
        raise FloatingPointError(f'iteration {runner.iter + 1}: {named}; stopped, nothing saved since the last checkpoint')
