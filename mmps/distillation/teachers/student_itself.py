from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from mmps.distillation.recorders import Boxes, run_recorded

from .base import Teacher


class StudentItself(Teacher):
    """The student teaches itself (HKD, ACM MM 2023): the recorders read its answers for the true boxes, without gradient.

    Args:
        student: The student. It is not a submodule: its weights are stored once.
    """

    def __init__(self, student: nn.Module):
        super().__init__()
        self._student = (student,)

    @property
    def network(self) -> nn.Module:
        return self._student[0]

    def after_student(self, recorders: RecorderManager, feats: tuple[Tensor, ...], boxes: Boxes) -> None:
        with recorders:
            run_recorded(self.network, recorders, feats, boxes)
