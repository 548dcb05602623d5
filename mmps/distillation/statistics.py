import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MODE = os.environ.get('STATS', 'own')


@contextmanager
def fixed_statistics(model: nn.Module) -> Iterator[None]:
    """Makes batch norms use their running statistics without updating them."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


class OwnStatistics:
    """Makes the batch norms of a student treat the boxes of the distillation as those of its own losses.

    In its own losses, a batch norm uses the statistics of that batch and updates its running statistics. In the distillation
    it uses the same statistics of the same batch again, with their gradient, and updates nothing. So both see the embedding
    that the test sees, and a shift of all features has no effect in either. (With running statistics in the distillation, its
    gradient shifts the mean before the norm, which nothing pulls back. With the statistics of the distilled persons alone, an
    embedding would be normalized otherwise than in a test: NAE normalizes over persons and background.)

    A batch norm that the own losses have not used keeps its running statistics.

    Args:
        model: The student.
    """

    def __init__(self, model: nn.Module):
        self.norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
        self.known: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Records the mean and the variance of each batch norm's last input."""
        hooks = [norm.register_forward_pre_hook(self._record) for norm in self.norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _record(self, norm: nn.Module, args: tuple[Tensor]) -> None:
        features = args[0].detach() if MODE == 'detached' else args[0]
        if features.numel() > features.shape[1]:  # more than one row
            dims = [dim for dim in range(features.ndim) if dim != 1]
            variance, mean = torch.var_mean(features, dims, correction=0)
            self.known[norm] = mean, variance

    @contextmanager
    def reused(self) -> Iterator[None]:
        """Makes the batch norms use the recorded statistics, without updating anything."""
        if MODE == 'running':
            with fixed_statistics(self):
                yield
            return
        if MODE == 'batch':
            for norm in self.norms:
                norm.track_running_stats = False
            yield
            for norm in self.norms:
                norm.track_running_stats = True
            return
        hooks = [norm.register_forward_hook(self._normalize) for norm in self.norms if norm in self.known]
        with fixed_statistics(self):
            try:
                yield
            finally:
                for hook in hooks:
                    hook.remove()

    def modules(self):
        return self.norms

    def _normalize(self, norm: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        mean, variance = self.known[norm]
        shape = [1, -1, *[1] * (args[0].ndim - 2)]
        scaled = (args[0] - mean.view(shape)) * (variance + norm.eps).rsqrt().view(shape)
        return scaled * norm.weight.view(shape) + norm.bias.view(shape)
