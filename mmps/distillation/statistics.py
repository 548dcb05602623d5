from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def fixed_statistics(model: nn.Module) -> Iterator[None]:
    """Makes batch norms use their running statistics without updating them.

    A batch has too few persons for statistics, and only the student's own training may update the student's.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
