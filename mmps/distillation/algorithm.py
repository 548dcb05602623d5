from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from mmdet.structures import SampleList
from mmengine.logging import MessageHub
from mmrazor.models import BaseAlgorithm, SingleTeacherDistill
from mmrazor.models.task_modules import RecorderManager
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS as RAZOR_MODELS
from torch import Tensor, nn

from mmps.distillation.images import ImageConversion
from mmps.distillation.levels import fit_levels, has_words, levels_of, pair_levels
from mmps.distillation.losses.precision import guard_losses
from mmps.distillation.recorders import BatchRecorder, check_module
from mmps.distillation.statistics import fixed_statistics
from mmps.fileio.checkpoint import load_exactly
from mmps.registry import MODELS
from mmps.structures import jitter_boxes, person_boxes, sample_background_boxes, with_area


class Boxes(NamedTuple):
    """Of each image the boxes that a model embeds, and those that it assesses: (N_i, 4) and (M_i, 4), input-image pixels."""

    embedded: list[Tensor]
    assessed: list[Tensor]


@MODELS.register_module()
class PersonSearchDistill(SingleTeacherDistill):
    """Distils a person-search teacher into a student, any detector into any other.

    Recorders, connectors, losses and their mappings are MMRazor's ``ConfigurableDistiller``; the levels that are compared may
    be left open (:func:`~mmps.distillation.levels.fit_levels`). Both models look at the same images, each in its own
    normalization, and at the same persons: the ground-truth boxes of the batch, moved by the same jitter. The teacher runs its
    feature extractor and what a recorder reads: ``embed`` of the persons, ``refine_boxes`` of the persons and of as many
    background boxes, the dense head; no assigner, sampler, loss or other head.

    A checkpoint holds the student under its own names, so that the plain student's config loads it, and what the distiller
    has learnt (connectors) under ``distiller.``; the teacher, which does not change, is not stored.

    Args:
        architecture: The student.
        teacher: None = the student teaches itself (HKD): the teacher's recorders then read what it says of the true boxes,
            without gradient. A :class:`~mmps.distillation.CachedTeacher` gives embeddings computed before.
        teacher_ckpt: The teacher's checkpoint. It must fit the teacher exactly.
        distiller: Config of MMRazor's ``ConfigurableDistiller``.
        box_jitter: How far a box's edges move, as a part of its width or height.
        student_boxes: Which boxes the student embeds: 'shared', the teacher's; or 'detected', those that it regresses itself
            from the jittered ones, while the teacher gets the true ones.
        warmup: Over how many iterations the distillation's losses grow from 0 to their weights, linearly.
        teacher_autocast: 'float16' or 'bfloat16': what the teacher computes in; None = as the student.
        teacher_channels_last: The teacher keeps its maps in channels-last memory, which convolutions prefer.
        teacher_compile: The teacher's backbone and neck go through ``torch.compile``.
        **kwargs: As MMRazor's ``SingleTeacherDistill`` has them; but the teacher is never trained and the student always is.

    Raises:
        FileNotFoundError: The teacher's checkpoint is missing.
        ValueError: It is of another architecture; a recorder reads what the models do not have; no levels fit each other.
    """

    def __init__(
        self,
        *,
        architecture: dict | nn.Module,
        distiller: dict,
        teacher: dict | nn.Module | None = None,
        teacher_ckpt: str | None = None,
        box_jitter: float = 0.0,
        student_boxes: str = 'shared',
        warmup: int = 0,
        teacher_autocast: str | None = None,
        teacher_channels_last: bool = True,
        teacher_compile: bool = False,
        **kwargs,
    ):
        if student_boxes not in ('shared', 'detected'):
            raise ValueError(f"PersonSearchDistill: student_boxes is {student_boxes!r}: expected 'shared' or 'detected'")
        if teacher_autocast not in (None, 'float16', 'bfloat16'):
            raise ValueError(
                f"PersonSearchDistill: teacher_autocast is {teacher_autocast!r}: expected 'float16', 'bfloat16' or None"
            )
        if isinstance(architecture, dict):
            architecture = MODELS.build(architecture)
        with torch.random.fork_rng(devices=[]):  # so that the student starts where it would without a teacher
            if isinstance(teacher, dict):
                teacher = RAZOR_MODELS.build(teacher)
            distiller, self.level_copies = fit_distiller(distiller, architecture, teacher)
            check_sources(distiller, architecture, teacher)
            if teacher is None:
                self._teach_itself(architecture, RAZOR_MODELS.build(distiller), **kwargs)
            else:
                super().__init__(
                    architecture=architecture,
                    distiller=distiller,
                    teacher=teacher,
                    teacher_ckpt=None,
                    teacher_trainable=False,
                    student_trainable=True,
                    **kwargs,
                )
        guard_losses(self.distiller.distill_losses)
        self.box_jitter = box_jitter
        self.student_boxes = student_boxes
        self.warmup = warmup
        if is_cached(teacher) and teacher.box_jitter != (box_jitter if student_boxes == 'shared' else 0):
            raise ValueError(
                f'PersonSearchDistill: box_jitter is {box_jitter} with {student_boxes} boxes, the cached teacher '
                f'embedded boxes with box_jitter {teacher.box_jitter}: write a cache from this config'
            )
        if teacher_ckpt:
            load_exactly(self.teacher, teacher_ckpt, 'teacher_ckpt')
            for module in self.teacher.modules():
                module._is_init = True  # the runner's weight initialisation must not touch it
        self._prepare_teacher(teacher_autocast, teacher_channels_last, teacher_compile)
        self._register_state_dict_hook(_keep_student)

    @property
    def memory(self) -> nn.Module:
        """The student's identity memory."""
        return self.student.memory

    def train(self, mode: bool = True) -> 'PersonSearchDistill':
        BaseAlgorithm.train(self, mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def loss(self, batch_inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """(B, 3, H, W) images and their samples -> the student's own losses (``student.*``) and ``distill.*``."""
        if self.distillation_stopped:
            return add_prefix(self.student.loss(batch_inputs, data_samples), 'student')

        distiller, student = self.distiller, self.student
        shared = self._choose_boxes(data_samples)
        distiller.set_deliveries_override(False)
        if self.teacher is not None:
            with torch.no_grad(), distiller.teacher_recorders, distiller.deliveries:
                self._ask_teacher(batch_inputs, data_samples, shared)

        losses = {}
        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries:
            for recorder in distiller.student_recorders.recorders.values():
                if isinstance(recorder, BatchRecorder):
                    recorder.record(data_samples)
            feats = student.extract_feat(batch_inputs)
            if self.calculate_student_loss:
                losses = add_prefix(student.loss_from_feats(feats, data_samples), 'student')
            with fixed_statistics(student):
                ask(student, distiller.student_recorders, feats, self._student_boxes(feats, shared))
                if self.teacher is None:  # after its own part: the student's recorders, too, see what is asked
                    with torch.no_grad(), distiller.teacher_recorders:
                        ask(student, distiller.teacher_recorders, feats, shared)

        losses.update(add_prefix(self._distill_losses(), 'distill'))
        for recorders in (distiller.teacher_recorders, distiller.student_recorders):
            for recorder in recorders.recorders.values():
                recorder.reset_data_buffer()  # or the batch's graph would live until the next one
        return losses

    def _teach_itself(self, architecture: nn.Module, distiller: nn.Module, **kwargs) -> None:
        """What MMRazor's initialisation does, without a teacher."""
        BaseAlgorithm.__init__(self, architecture=architecture, **kwargs)
        self.teacher, self.distiller = None, distiller
        self.calculate_student_loss, self.distillation_stopped = True, False
        distiller.prepare_from_student(architecture)
        distiller.prepare_from_teacher(architecture)

    def _prepare_teacher(self, autocast: str | None, channels_last: bool, compiled: bool) -> None:
        self.teacher_dtype = getattr(torch, autocast) if autocast else None
        self.teacher_format = torch.channels_last if channels_last else torch.contiguous_format
        if self.teacher is None or is_cached(self.teacher):
            return
        self.for_teacher = ImageConversion(self.student.data_preprocessor, self.teacher.data_preprocessor)
        self.teacher.to(memory_format=self.teacher_format)
        if compiled:
            for name, part in self.teacher.named_children():
                if name in ('backbone', 'neck', 'reid'):
                    part.compile()

    def _choose_boxes(self, samples: SampleList) -> Boxes:
        if is_cached(self.teacher):
            embedded = self.teacher.boxes(samples)
        else:
            embedded = person_boxes(samples)
            if self.student_boxes == 'shared':
                embedded = jitter_boxes(embedded, self.box_jitter)
        asked = any(
            reads(each, 'refine_boxes') for each in (self.distiller.student_recorders, self.distiller.teacher_recorders)
        )
        beside = sample_background_boxes(embedded) if asked else embedded
        return Boxes(embedded, [torch.cat(of_image) for of_image in zip(embedded, beside, strict=True)])

    def _student_boxes(self, feats: tuple[Tensor, ...], shared: Boxes) -> Boxes:
        """The student's own: where it says that the persons are, told roughly."""
        if self.student_boxes == 'shared':
            return shared
        start = jitter_boxes(shared.embedded, self.box_jitter)
        with torch.no_grad():  # the class's method: no recorder is to see this call
            _, found = type(self.student).refine_boxes(self.student, feats, start)
        return Boxes(list(with_area(found).split([len(of_image) for of_image in start])), shared.assessed)

    def _ask_teacher(self, images: Tensor, samples: SampleList, boxes: Boxes) -> None:
        recorders = self.distiller.teacher_recorders
        if is_cached(self.teacher):
            self.teacher.embed(samples, boxes.embedded)
            return
        images = self.for_teacher(images, samples).contiguous(memory_format=self.teacher_format)
        with torch.autocast(images.device.type, self.teacher_dtype) if self.teacher_dtype else nullcontext():
            ask(self.teacher, recorders, self.teacher.extract_feat(images), boxes)
        if self.teacher_dtype or self.teacher_format == torch.channels_last:
            for recorder in recorders.recorders.values():  # what losses expect: not every one takes another type or layout
                recorder.data_buffer[:] = plain(recorder.data_buffer)

    def _distill_losses(self) -> dict[str, Tensor]:
        """Weighed by the warm-up; of a loss that every level has its mean."""
        losses = self.distiller.compute_distill_losses()
        for name, copies in self.level_copies.items():
            losses[name] = torch.stack([losses.pop(copy) for copy in copies]).mean()
        if self.warmup:
            step = MessageHub.get_current_instance().get_info('iter', self.warmup)
            losses = {name: loss * min(1.0, step / self.warmup) for name, loss in losses.items()}
        return losses

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Reads what :func:`_keep_student` wrote."""
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = key[len(prefix) :]
            if name.split('.')[0] not in ('architecture', 'distiller', 'teacher'):
                state_dict[f'{prefix}architecture.{name}'] = state_dict.pop(key)
        if self.teacher is not None:
            state_dict.update({f'{prefix}teacher.{name}': value for name, value in self.teacher.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *args)


def _keep_student(module: nn.Module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """State-dict hook: the student's entries under its own names, the teacher's dropped."""
    for key in list(state_dict):
        if key.startswith(f'{prefix}teacher.'):
            del state_dict[key]
        elif key.startswith(f'{prefix}architecture.'):
            state_dict[prefix + key[len(f'{prefix}architecture.') :]] = state_dict.pop(key)


def fit_distiller(cfg: dict, student: nn.Module, teacher: nn.Module | None) -> tuple[dict, dict[str, list[str]]]:
    """Without what no loss reads, and with :func:`~mmps.distillation.levels.fit_levels` where the config leaves levels open."""
    cfg = used_parts(cfg)
    if not has_words(cfg):
        return cfg, {}
    ours = levels_of(student.train())
    theirs = ours if teacher is None else levels_of(teacher.eval())
    return fit_levels(cfg, pair_levels(ours, theirs))


def used_parts(cfg: dict) -> dict:
    """The distiller's config without recorders and connectors that no mapping names: a recorder makes a model run what it
    reads, and a connector without gradient stops distributed training."""
    records = [record for mapping in (cfg.get('loss_forward_mappings') or {}).values() for record in mapping.values()]
    used = {(bool(record['from_student']), record['recorder']) for record in records}
    connectors = {record.get('connector') for record in records}
    parts = dict(
        student_recorders=lambda name: (True, name) in used,
        teacher_recorders=lambda name: (False, name) in used,
        connectors=lambda name: name in connectors,
    )
    return {
        **cfg,
        **{
            part: {name: each for name, each in (cfg.get(part) or {}).items() if is_used(name)}
            for part, is_used in parts.items()
        },
    }


def check_sources(cfg: dict, student: nn.Module, teacher: nn.Module | None) -> None:
    """Raises ValueError where a teacher has no re-id branch to read, or a model no module of a name that is to be recorded."""
    for role, model in (('student', student), ('teacher', student if teacher is None else teacher)):
        for name, recorder in cfg[f'{role}_recorders'].items():
            if recorder['source'].split('.')[0] in ('embed', 'memory') and not hasattr(model, 'embed'):
                raise ValueError(
                    f'the {role} is a {type(model).__name__}, which has no re-id branch: the recorder {name!r} '
                    f'reads its {recorder["source"]!r}; expected a person-search detector'
                )
            if recorder['type'].split('.')[-1] in ('ModuleInputs', 'ModuleOutputs'):
                check_module(recorder['source'], model)


def ask(model: nn.Module, recorders: RecorderManager, feats: tuple[Tensor, ...], boxes: Boxes) -> None:
    """Runs what the recorders read and the model's features do not give. A student's dense head runs for its own losses."""
    if reads(recorders, 'dense_head') and not model.training:
        model.run_dense_head(feats)
    if reads(recorders, 'embed'):
        model.embed(feats, boxes.embedded)
    if reads(recorders, 'refine_boxes'):
        model.refine_boxes(feats, boxes.assessed)


def reads(recorders: RecorderManager, source: str) -> bool:
    return any(recorder.source.split('.')[0] == source for recorder in recorders.recorders.values())


def is_cached(teacher: nn.Module | None) -> bool:
    """Whether it is one that has embeddings of certain boxes only, and so says which."""
    return hasattr(teacher, 'boxes')


def plain(record: Any) -> Any:
    """Half-precision tensors in float32, all of them in the usual memory layout."""
    if isinstance(record, Tensor):
        return (record.float() if record.is_floating_point() else record).contiguous()
    return type(record)(map(plain, record)) if isinstance(record, list | tuple) else record
