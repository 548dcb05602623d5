from typing import NoReturn

import torch
from mmengine.model import BaseModel
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor

from mmps.distillation.recorders import Boxes, run_recorded

from .base import Teacher


class StudentItself(Teacher):
    """The student teaches itself: the recorders read its outputs for the true boxes, without gradient.

    Args:
        student: The student. It is no submodule of the teacher, so a checkpoint holds its weights only once.
    """

    def __init__(self, student: BaseModel):
        super().__init__()
        self._student = (student,)  # the tuple hides the module from nn.Module

    @property
    def network(self) -> BaseModel:
        return self._student[0]

    def levels(self) -> NoReturn:
        raise ValueError('a student that teaches itself answers for boxes only: to compare feature maps, name a teacher')

    @torch.no_grad()
    def record_from_student(self, recorders: RecorderManager, feats: tuple[Tensor, ...], boxes: Boxes) -> dict[str, Tensor]:
        with recorders:
            run_recorded(self.network, recorders, feats, boxes)
        return {}
