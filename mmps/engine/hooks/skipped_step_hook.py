import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmps.registry import HOOKS


@HOOKS.register_module()
class SkippedStepHook(Hook):
    """Takes back what the forward passes of a step that the loss scaler skips have left in the model: identity memories, the
    running statistics of normalization. So weights, memory and statistics always belong together, and the values of an
    overflow, which may be NaN, reach none of them.

    It does nothing without a loss scaler (``AmpOptimWrapper``). With one it copies the buffers of the modules that train
    before the first of the batches whose gradients a step accumulates: 11 MB for CUHK-SYSU's memory. It asks the device for
    nothing that the scaler does not ask for. All ranks skip the same steps, since they share their gradients.

    Args:
        patience: How many steps in a row may be skipped. A dynamic loss scale, which is halved each time, goes down from
            65,536 to less than 1 in 17.

    Raises:
        FloatingPointError: More than that: what overflows is not the loss scale's doing.
    """

    priority = 'HIGH'  # before what saves the model or averages it

    def __init__(self, patience: int = 20) -> None:
        self.patience = patience
        self.num_skipped = 0
        self.skipped: bool | Tensor = True
        self.kept: list[tuple[Tensor, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        self.active = has_loss_scaler(runner)
        if self.active:
            runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """The scaler calls a step that it does not skip; a fused optimizer is always called and is told what was found."""
        self.skipped = getattr(optimizer, 'found_inf', False)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        if self.active and not self.kept:
            self.kept = [
                (buffer, buffer.clone())
                for module in runner.model.modules()
                if module.training
                for buffer in module.buffers(recurse=False)
            ]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        self.took_back = True  # or not: that is known when the gradients of all their batches are there
        if not self.active or not runner.optim_wrapper.should_update():
            return
        if self.skipped:
            for buffer, before in self.kept:
                buffer.copy_(before)
        self.num_skipped = self.num_skipped + 1 if self.skipped else 0
        self.kept, self.took_back, self.skipped = [], bool(self.skipped), True
        if self.num_skipped > self.patience:
            losses = ', '.join(
                f'{name} = {torch.as_tensor(value).item()}' for name, value in (outputs or {}).items() if 'loss' in name
            )
            raise FloatingPointError(
                f'iteration {runner.iter + 1}: {self.num_skipped} steps in a row were skipped by the loss '
                f'scaler ({losses}); stopped'
            )


def has_loss_scaler(runner: Runner) -> bool:
    wrapper = runner.optim_wrapper
    return isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()
