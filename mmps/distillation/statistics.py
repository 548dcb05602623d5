from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmps.distillation.losses.full_precision import full_precision


@contextmanager
def fixed_statistics(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Makes batch norms use their running statistics without updating them."""
    norms = [module for module in modules if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


class OwnStatistics:
    """Makes batch norms treat the boxes of the distillation as they treat those of the student's own losses.

    In its own losses a batch norm uses the statistics of that batch, and updates its running statistics. For the distillation
    it uses the same statistics again, with their gradient, and updates nothing. So both train the embedding that a test sees,
    and a shift of all features before the norm changes neither.

    With running statistics instead, the gradient of the distillation would shift the mean before the norm, and nothing would
    pull it back. With the statistics of the distilled persons, an embedding would be normalized otherwise than in a test: NAE
    normalizes over persons and background.

    A batch norm that the own losses have not used keeps its running statistics. With ``SyncBatchNorm`` the statistics are
    those of this rank's batch.

    Args:
        model: The student.
    """

    def __init__(self, model: nn.Module):
        self.norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
        self.known: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Records the mean and the variance of the first batch of each batch norm that is run inside the context."""
        hooks = [norm.register_forward_pre_hook(self._record) for norm in self.norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def reused(self) -> Iterator[None]:
        """Makes the batch norms use the recorded statistics."""
        hooks = [norm.register_forward_hook(self._normalize) for norm in self.known]
        try:
            with fixed_statistics(self.norms):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _record(self, norm: nn.Module, args: tuple[Tensor]) -> None:
        features = full_precision(args[0])
        if norm not in self.known and features.numel() > features.shape[1]:  # one value of a channel has no variance
            variance, mean = torch.var_mean(features, [dim for dim in range(features.ndim) if dim != 1], correction=0)
            self.known[norm] = mean, variance

    def _normalize(self, norm: _BatchNorm, args: tuple[Tensor], output: Tensor) -> Tensor:
        mean, variance = self.known[norm]
        shape = [1, -1, *[1] * (output.ndim - 2)]
        scaled = (args[0] - mean.view(shape)) * (variance + norm.eps).rsqrt().view(shape)
        return (scaled * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else scaled).to(output)
