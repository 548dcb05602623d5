from typing import Any

import torch
from mmdet.structures import SampleList
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmrazor.models import BaseAlgorithm, SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS as RAZOR_MODELS
from torch import Tensor, nn

from mmps.distillation.distiller import PersonSearchDistiller
from mmps.distillation.recorders import Boxes, reads, run_recorded
from mmps.distillation.statistics import OwnStatistics
from mmps.distillation.teachers import DetectorTeacher, StudentItself, Teacher, TeachingHead
from mmps.registry import MODELS
from mmps.structures import jitter_boxes, sample_background_boxes, with_area


@MODELS.register_module()
class PersonSearchDistill(SingleTeacherDistill):
    """Distils a person-search teacher into a student. Any detector can teach any other.

    Both models see the same images, each in its own normalization, and the same persons: the ground-truth boxes of the batch,
    moved by the same jitter. A teacher (:class:`~mmps.distillation.teachers.Teacher`) runs its feature extractor and the
    methods that a recorder reads: ``embed`` of the persons, ``refine_boxes`` of the persons and of as many background boxes,
    and the dense head. It runs no assigner, sampler, loss or other head.

    A checkpoint holds the student under its own names, so the plain student's config loads it, and the distiller's weights
    (connectors) under ``distiller.``. A teacher that learns is there as ``distiller.teacher.``. Other teachers do not change
    and are not stored.

    Args:
        architecture: The student.
        teacher: A detector, its config file as ``dict(cfg_path=...)``, or a :class:`~mmps.distillation.CachedTeacher`. With
            None, the student teaches itself.
        teacher_ckpt: The detector's checkpoint. It must fit the detector exactly.
        distiller: Config of a :class:`~mmps.distillation.PersonSearchDistiller`.
        teacher_input: What the teacher gets. With 'rois', it is a :class:`~mmps.models.detectors.CropReIDHead` that gets the
            RoIs and the features of the student's re-id head and learns on (HKD,
            :class:`~mmps.distillation.teachers.TeachingHead`). All others get 'images'.
        mutual: Whether the distillation losses also train a teacher that learns, as in HKD's code.
        box_jitter: How far the edges of a box move at most, as a fraction of its width or height.
        student_boxes: The boxes that the student embeds. With 'shared', they are the teacher's. With 'detected', the student
            regresses them from the jittered boxes, and the teacher gets the ground-truth boxes.
        warmup: Number of iterations over which the distillation losses grow linearly from 0 to their weights.
        teacher_autocast: The type that the teacher computes in, 'float16' or 'bfloat16'. None = as the student.
        teacher_channels_last: Whether the teacher's maps are in channels-last memory, which is faster for convolutions.
        teacher_compile: Whether the teacher's backbone and neck go through ``torch.compile``.
        teacher_kept_maps: How many GiB of the teacher's feature maps are kept in memory. They are kept on the CPU only, in
            trainings whose pipeline changes an image only by mirroring it. Then most steps do not run the teacher's backbone.
        **kwargs: As in MMRazor's ``SingleTeacherDistill``. The student is always trained.

    Raises:
        FileNotFoundError: The teacher's checkpoint is missing.
        ValueError: The checkpoint is of another architecture, a recorder reads something that its model does not have, or no
            levels fit.
    """

    def __init__(
        self,
        *,
        architecture: dict | BaseModel,
        distiller: dict,
        teacher: dict | BaseModel | None = None,
        teacher_ckpt: str | None = None,
        teacher_input: str = 'images',
        mutual: bool = True,
        box_jitter: float = 0.0,
        student_boxes: str = 'shared',
        warmup: int = 0,
        teacher_autocast: str | None = None,
        teacher_channels_last: bool = True,
        teacher_compile: bool = False,
        teacher_kept_maps: float = 2,
        **kwargs: Any,
    ):
        if student_boxes not in ('shared', 'detected'):
            raise ValueError(f"PersonSearchDistill: student_boxes is {student_boxes!r}: expected 'shared' or 'detected'")
        if teacher_input not in ('images', 'rois'):
            raise ValueError(f"PersonSearchDistill: teacher_input is {teacher_input!r}: expected 'images' or 'rois'")
        kind = distiller.get('type')
        kind = MODELS.get(kind) if isinstance(kind, str) else kind
        if not (isinstance(kind, type) and issubclass(kind, PersonSearchDistiller)):
            raise ValueError(f"distiller.type is {distiller.get('type')!r}: expected 'PersonSearchDistiller'")
        student = MODELS.build(architecture) if isinstance(architecture, dict) else architecture
        with torch.random.fork_rng(devices=[]):  # so the student starts with the same weights as without a teacher
            built_teacher = build_teacher(
                teacher,
                student,
                checkpoint=teacher_ckpt,
                gets_rois=teacher_input == 'rois',
                mutual=mutual,
                autocast=teacher_autocast,
                channels_last=teacher_channels_last,
                compiled=teacher_compile,
                kept_maps=teacher_kept_maps,
            )
            super().__init__(
                architecture=student,
                distiller={**distiller, 'student': student, 'teacher': built_teacher},
                teacher=built_teacher,
                teacher_ckpt=None,
                teacher_trainable=built_teacher.learns,
                student_trainable=True,
                **kwargs,
            )
        self.student_boxes = student_boxes
        self.box_jitter = box_jitter
        self.teacher_jitter = box_jitter if student_boxes == 'shared' else 0.0
        self.warmup = warmup
        self.teacher.check_jitter(self.teacher_jitter)
        self._register_state_dict_hook(_keep_student)

    @property
    def memory(self) -> nn.Module:
        """Returns the student's identity memory."""
        return self.student.memory

    def train(self, mode: bool = True) -> 'PersonSearchDistill':
        BaseAlgorithm.train(self, mode)
        self.teacher.train(mode and self.teacher.learns)
        return self

    def loss(self, batch_inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Computes the student's own losses (``student.*``) and the distillation losses (``distill.*``).

        A teacher that learns adds its own losses (``teacher.*``).

        Args:
            batch_inputs: (B, 3, H, W), from the student's preprocessor.
            data_samples: B samples.
        """
        student, teacher, distiller = self.student, self.teacher, self.distiller
        if self.distillation_stopped:
            return add_prefix(student.loss(batch_inputs, data_samples), 'student')

        boxes = self._choose_boxes(data_samples)
        distiller.set_deliveries_override(False)
        with torch.no_grad(), distiller.deliveries:
            teacher.record_from_images(distiller.teacher_recorders, batch_inputs, data_samples, boxes)

        losses = {}
        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries:
            distiller.record_batch(data_samples)
            feats = student.extract_feat(batch_inputs)
            statistics = OwnStatistics(student)
            if self.calculate_student_loss:
                with statistics.recorded(), teacher.watch_student():
                    losses = add_prefix(student.loss_from_feats(feats, data_samples), 'student')
            with statistics.reused():
                own_boxes = self._boxes_of_student(feats, boxes)
                run_recorded(student, distiller.student_recorders, feats, own_boxes, not self.calculate_student_loss)
        with statistics.reused():
            losses.update(add_prefix(teacher.record_from_student(distiller.teacher_recorders, feats, boxes), 'teacher'))

        losses.update(add_prefix(self._warmed_up(distiller.compute_distill_losses()), 'distill'))
        distiller.clear()
        return losses

    def _choose_boxes(self, samples: SampleList) -> Boxes:
        persons = self.teacher.choose_boxes(samples, self.teacher_jitter)
        recorders = self.distiller.student_recorders, self.distiller.teacher_recorders
        if not any(reads(each, 'refine_boxes') for each in recorders):
            return Boxes(persons, persons)
        background = sample_background_boxes(persons)
        return Boxes(persons, [torch.cat(of_image) for of_image in zip(persons, background, strict=True)])

    def _boxes_of_student(self, feats: tuple[Tensor, ...], boxes: Boxes) -> Boxes:
        """Returns the boxes that the student embeds: the shared ones, or those that it regresses itself."""
        if self.student_boxes == 'shared':
            return boxes
        start = jitter_boxes(boxes.to_embed, self.box_jitter)
        with torch.no_grad():  # the class's method, because recorders must not see this call
            _, found = type(self.student).refine_boxes(self.student, feats, start)
        return Boxes(list(with_area(found).split([len(of_image) for of_image in start])), boxes.to_refine)

    def _warmed_up(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.warmup:
            return losses
        step = MessageHub.get_current_instance().get_info('iter', self.warmup)
        return {name: loss * min(1.0, step / self.warmup) for name, loss in losses.items()}

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Loads a state dict that :func:`_keep_student` has renamed."""
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = key[len(prefix) :]
            if name.startswith('distiller.teacher.'):
                state_dict[prefix + name.removeprefix('distiller.')] = state_dict.pop(key)
            elif name.split('.')[0] not in ('architecture', 'distiller', 'teacher'):
                state_dict[f'{prefix}architecture.{name}'] = state_dict.pop(key)
        for name, value in self.teacher.state_dict().items():
            state_dict.setdefault(f'{prefix}teacher.{name}', value)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _keep_student(module: PersonSearchDistill, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """Gives a state dict's entries of the student their own names. It is a state-dict hook.

    A teacher's entries are dropped, or, if it learns, moved to ``distiller.teacher.``.
    """
    for key in list(state_dict):
        if key.startswith(f'{prefix}teacher.'):
            value = state_dict.pop(key)
            if module.teacher.learns:
                state_dict[f'{prefix}distiller.{key[len(prefix) :]}'] = value
        elif key.startswith(f'{prefix}architecture.'):
            state_dict[prefix + key[len(f'{prefix}architecture.') :]] = state_dict.pop(key)


def build_teacher(
    teacher: dict | BaseModel | None,
    student: BaseModel,
    checkpoint: str | None,
    gets_rois: bool = False,
    mutual: bool = True,
    **settings: Any,
) -> Teacher:
    """Builds the teacher of a config.

    Args:
        teacher: Config or module of a detector or of a teacher. ``dict(cfg_path=FILE)`` stands for the model of another config,
            which is a file or a package's config like ``mmps::oim/NAME.py``. None = the student itself.
        student: The student.
        checkpoint: The detector's checkpoint.
        gets_rois: Whether the teacher is a head that gets the student's RoIs and learns on.
        mutual: Whether the distillation losses train such a head too.
        settings: Further arguments of :class:`~mmps.distillation.teachers.DetectorTeacher`. Other teachers ignore them.

    Raises:
        ValueError: A teacher that is no detector has a ``checkpoint``, or there is no teacher to get the RoIs.
    """
    if isinstance(teacher, dict):
        file = teacher.get('cfg_path')
        is_file = file is not None and '::' not in file
        if is_file and (teacher.get('pretrained') or teacher.keys() - {'cfg_path', 'pretrained'}):
            raise ValueError(f'teacher: expected only cfg_path={file!r}, got {dict(teacher)}; teacher_ckpt names a checkpoint')
        teacher = RAZOR_MODELS.build(Config.fromfile(file).model if is_file else teacher)
    if gets_rois:
        if teacher is None:
            raise ValueError("PersonSearchDistill: teacher_input='rois' needs a teacher, which is a CropReIDHead")
        return TeachingHead(teacher, student, checkpoint, mutual)
    if teacher is not None and not isinstance(teacher, Teacher):
        return DetectorTeacher(teacher, student.data_preprocessor, checkpoint, **settings)
    if checkpoint:
        raise ValueError(
            'PersonSearchDistill: teacher_ckpt needs a detector as teacher; a CachedTeacher has its own argument checkpoint'
        )
    return StudentItself(student) if teacher is None else teacher
