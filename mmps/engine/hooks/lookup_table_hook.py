import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from mmps.distillation.lookup_table import load_lookup_table
from mmps.models.memory import IdentityMemory
from mmps.registry import HOOKS


@HOOKS.register_module()
class LookupTableHook(Hook):
    """Fixes the lookup table of the identity memory to a teacher's: the re-id part of Munjal et al. (BMVC 2019).

    Of a model with several memories (AlignPS with a RoI head) only ``model.memory`` is fixed, that of the embeddings which are
    searched; the other learns as ever.

    Args:
        path: What ``tools/export_lookup_table.py`` wrote.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It is no lookup table, or one for another training set or embedding size; or a checkpoint to resume from
            was trained with another one.
    """

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
        """Weights have been loaded since: a table among them is not to stay."""
        memory = memory_of(runner)
        if runner._resume and not torch.allclose(memory.lut.cpu(), self.table, rtol=0, atol=1e-5):
            raise ValueError(f'the checkpoint to resume from was trained with another lookup table than {self.path}')
        memory.fix(self.table)


def memory_of(runner: Runner) -> IdentityMemory:
    return (runner.model.module if is_model_wrapper(runner.model) else runner.model).memory
