import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from mmps.distillation.lookup_table import load_lookup_table
from mmps.models.memory import IdentityMemory
from mmps.registry import HOOKS


@HOOKS.register_module()
class LookupTableHook(Hook):
    """Fixes the lookup table of the identity memory to that of a teacher: the re-id part of Munjal et al. (BMVC 2019).

    In a model with several memories (AlignPS with a RoI head) it fixes only ``model.memory``, the memory of the embeddings
    that are used for the search. The others keep learning.

    Args:
        path: The output file of ``tools/export_lookup_table.py``.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file holds no lookup table, or one for another training set or embedding size; or the checkpoint to
            resume from was trained with another table.
    """

    table: Tensor

    priority = 'HIGH'  # after IdentityHook, which gives the memory its size

    def __init__(self, path: str) -> None:
        self.path = path

    def before_run(self, runner: Runner) -> None:
        if not isinstance(runner._train_loop, BaseLoop):  # a test
            return
        header, self.table = load_lookup_table(self.path)
        memory = memory_of(runner)
        header.check(self.path, runner.train_loop.dataloader.dataset, memory)
        memory.fix(self.table)
        runner.logger.info(f'Identity memory: the lookup table is fixed to {self.path}, of {header.teacher}')

    def before_train(self, runner: Runner) -> None:
        """Fixes the table again, because loaded weights may have replaced it."""
        memory = memory_of(runner)
        if runner._resume and not torch.allclose(memory.lut.cpu(), self.table, rtol=0, atol=1e-5):
            raise ValueError(f'the checkpoint to resume from was trained with another lookup table than {self.path}')
        memory.fix(self.table)


def memory_of(runner: Runner) -> IdentityMemory:
    """Returns the identity memory of the runner's model, which may be wrapped."""
    return (runner.model.module if is_model_wrapper(runner.model) else runner.model).memory
