from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.structures import SampleList
from mmrazor.models import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmps.distillation.images import ImageConversion
from mmps.models.checkpoint import load_exactly
from mmps.registry import MODELS
from mmps.structures import jitter_boxes, person_boxes


@MODELS.register_module()
class PersonSearchDistill(SingleTeacherDistill):
    """Distils a person-search teacher into a student, any detector into any other.

    Recorders, connectors, losses and their mappings are MMRazor's ``ConfigurableDistiller``. Both models look at the same
    images, each in its own normalisation, and embed the same persons: the ground-truth boxes of the batch, moved by the same
    jitter. The teacher runs its feature extractor and, if a recorder reads embeddings, ``embed``; no assigner, sampler, loss
    or other head.

    A checkpoint holds the student under its own names, so that the plain student's config loads it, and what the distiller
    has learnt (connectors) under ``distiller.``; the teacher, which does not change, is not stored.

    Args:
        teacher_ckpt: The teacher's checkpoint. It must fit the teacher exactly.
        box_jitter: How far a box's edges move, as a part of its width or height.
        **kwargs: As MMRazor's ``SingleTeacherDistill`` has them: distiller, teacher, architecture (the student), ...; but
            the teacher is never trained and the student always is.

    Raises:
        FileNotFoundError: The teacher's checkpoint is missing.
        ValueError: It is of another architecture.
    """

    def __init__(self,
                 *,
                 architecture: dict | nn.Module,
                 teacher_ckpt: str | None = None,
                 box_jitter: float = 0.0,
                 **kwargs):
        if isinstance(architecture, dict):
            architecture = MODELS.build(architecture)
        with torch.random.fork_rng(devices=[]):  # so that the student starts where it would without a teacher
            super().__init__(architecture=architecture, teacher_ckpt=None, teacher_trainable=False,
                             student_trainable=True, **kwargs)
        self.box_jitter = box_jitter
        if teacher_ckpt:
            load_exactly(self.teacher, teacher_ckpt, 'teacher_ckpt')
            for module in self.teacher.modules():
                module._is_init = True  # the runner's weight initialisation must not touch it
        self.for_teacher = ImageConversion(self.student.data_preprocessor, self.teacher.data_preprocessor)
        self._register_state_dict_hook(_keep_student)

    @property
    def memory(self) -> nn.Module:
        """The student's identity memory."""
        return self.student.memory

    def train(self, mode: bool = True) -> 'PersonSearchDistill':
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, batch_inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """(B, 3, H, W) images and their samples -> the student's own losses (``student.*``) and ``distill.*``."""
        if self.distillation_stopped:
            return add_prefix(self.student.loss(batch_inputs, data_samples), 'student')

        distiller, boxes = self.distiller, jitter_boxes(person_boxes(data_samples), self.box_jitter)
        distiller.set_deliveries_override(False)
        with torch.no_grad(), distiller.teacher_recorders, distiller.deliveries:
            feats = self.teacher.extract_feat(self.for_teacher(batch_inputs, data_samples))
            if reads_persons(distiller.teacher_recorders):
                self.teacher.embed(feats, boxes)

        losses = {}
        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries:
            feats = self.student.extract_feat(batch_inputs)
            if self.calculate_student_loss:
                losses = add_prefix(self.student.loss_from_feats(feats, data_samples), 'student')
            if reads_persons(distiller.student_recorders):
                with fixed_statistics(self.student):
                    self.student.embed(feats, boxes)

        losses.update(add_prefix(distiller.compute_distill_losses(), 'distill'))
        for recorders in (distiller.teacher_recorders, distiller.student_recorders):
            for recorder in recorders.recorders.values():
                recorder.reset_data_buffer()  # or the batch's graph would live until the next one
        return losses

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Reads what :func:`_keep_student` wrote."""
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = key[len(prefix):]
            if name.split('.')[0] not in ('architecture', 'distiller', 'teacher'):
                state_dict[f'{prefix}architecture.{name}'] = state_dict.pop(key)
        state_dict.update({f'{prefix}teacher.{name}': value for name, value in self.teacher.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *args)


def _keep_student(module: nn.Module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """State-dict hook: the student's entries under its own names, the teacher's dropped."""
    for key in list(state_dict):
        if key.startswith(f'{prefix}teacher.'):
            del state_dict[key]
        elif key.startswith(f'{prefix}architecture.'):
            state_dict[prefix + key[len(f'{prefix}architecture.'):]] = state_dict.pop(key)


@contextmanager
def fixed_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms use their running statistics and leave them alone: a batch has few persons, and the student's statistics
    are to be those of its own training."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def reads_persons(recorders) -> bool:
    """Whether any of the recorders needs the detector to embed the batch's persons."""
    return any(recorder.source == 'embed' for recorder in recorders.recorders.values())
