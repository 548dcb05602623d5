from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def fixed_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms use their running statistics and leave them alone: a batch has few persons, and a student's statistics are
    to be those of its own training."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
