from collections.abc import Mapping, Sequence
from inspect import signature

import torch
from mmdet.structures import SampleList
from mmrazor.models import ConfigurableDistiller
from torch import Tensor, nn

from mmps.distillation.losses.full_precision import guard_losses
from mmps.distillation.pairing import Pair, apply_per_level, is_per_level, levels_of, pair_levels
from mmps.distillation.recorders import BatchRecorder, check_module, find
from mmps.distillation.teachers.base import Teacher
from mmps.models.roi_heads import PersonSearchRoIHead
from mmps.registry import MODELS, did_you_mean


@MODELS.register_module()
class PersonSearchDistiller(ConfigurableDistiller):
    """Extends MMRazor's ``ConfigurableDistiller`` with connectors and losses for every pair of feature maps.

    A connector or loss with ``per_level=True`` is copied once per pair of maps
    (:func:`~mmps.distillation.pairing.apply_per_level`). The value of such a loss is the mean over its copies. Losses get
    their inputs in float32. Recorders and connectors that no used loss reads are removed: a recorder makes a model run what
    it reads, and a connector without gradient stops distributed training.

    Args:
        student: The student, from the algorithm.
        teacher: The teacher, from the algorithm.
        losses: Names of the losses to use. None = all of ``distill_losses``.
        reid_jitter: The ``reid_jitter`` of the student's RoI heads: how far the RoIs of its re-id branch move in its own
            training, as a fraction of their size. A re-id branch without RoIs (AlignPS) ignores it.
        accompanies: A loss of the student, e.g. 'reid_loss', that the distillation losses are weighed against
            (:func:`follow_loss`). None = their weights are absolute.
        scale: Factor of all distillation losses.
        **parts: ``student_recorders``, ``teacher_recorders``, ``connectors``, ``distill_losses``, ``loss_forward_mappings`` and
            ``distill_deliveries``, as in ``ConfigurableDistiller``.

    Attributes:
        pairs: The pairs of feature maps that are compared. Empty if no loss is per level.
        level_copies: For each loss that is per level, the names of its copies.

    Raises:
        ValueError: A recorder reads something that its model does not have, a loss has no mapping, the student has no loss
            ``accompanies``, or no levels fit.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        teacher: Teacher,
        losses: Sequence[str] | None = None,
        reid_jitter: float = 0.0,
        accompanies: str | None = None,
        scale: float = 1.0,
        **parts: Mapping,
    ):
        cfg = used_parts(parts, losses)
        check_sources(cfg, student, teacher.network)
        if accompanies:
            cfg['distill_losses'] = follow_loss(cfg['distill_losses'], student, accompanies)
        pairs: list[Pair] = []
        if any(map(is_per_level, cfg['distill_losses'].values())):
            pairs = pair_levels(levels_of(student.train()), teacher.levels())
        cfg, level_copies = apply_per_level(cfg, pairs)
        super().__init__(**cfg)
        if reid_jitter:
            for head in student.modules():
                if isinstance(head, PersonSearchRoIHead):
                    head.reid_jitter = reid_jitter
        self.pairs, self.level_copies, self.scale = pairs, level_copies, scale
        guard_losses(self.distill_losses)

    def prepare_from_teacher(self, model: Teacher) -> None:
        super().prepare_from_teacher(model.network)

    def record_batch(self, samples: SampleList) -> None:
        """Fills the student's recorders that read the batch itself."""
        for recorder in self.student_recorders.recorders.values():
            if isinstance(recorder, BatchRecorder):
                recorder.record(samples)

    def compute_distill_losses(self) -> dict[str, Tensor]:
        losses = super().compute_distill_losses()
        for name, copies in self.level_copies.items():
            losses[name] = torch.stack([losses.pop(copy) for copy in copies]).mean()
        return {name: loss * self.scale for name, loss in losses.items()}

    def clear(self) -> None:
        """Empties the recorders. Otherwise the batch's graph would stay in memory until the next batch."""
        for recorders in (self.teacher_recorders, self.student_recorders):
            for recorder in recorders.recorders.values():
                recorder.reset_data_buffer()


def used_parts(parts: Mapping, names: Sequence[str] | None) -> dict:
    """Returns the distiller's config with only the named losses, and the recorders and connectors that they use.

    Raises:
        ValueError: A name has no loss, or no mapping.
    """
    losses, mappings = parts.get('distill_losses') or {}, parts.get('loss_forward_mappings') or {}
    names = list(losses if names is None else names)
    for name in names:
        if name not in losses or name not in mappings:
            what, known = ('loss_forward_mappings', mappings) if name in losses else ('distill_losses', losses)
            raise ValueError(f'PersonSearchDistiller: {what} has no {name!r}{did_you_mean(name, known)}')
    cfg = {part: dict(each or {}) for part, each in parts.items()}
    cfg['distill_losses'] = {name: loss for name, loss in losses.items() if name in names}
    cfg['loss_forward_mappings'] = {name: mapping for name, mapping in mappings.items() if name in names}
    records = [record for mapping in cfg['loss_forward_mappings'].values() for record in mapping.values()]
    used = dict(
        student_recorders={record['recorder'] for record in records if record['from_student']},
        teacher_recorders={record['recorder'] for record in records if not record['from_student']},
        connectors={record['connector'] for record in records if record.get('connector')},
    )
    return cfg | {
        part: {name: each for name, each in cfg.get(part, {}).items() if name in names} for part, names in used.items()
    }


def follow_loss(losses: Mapping[str, Mapping], student: nn.Module, source: str) -> dict[str, dict]:
    """Returns the distillation losses with the weight and the scale of a loss of the student.

    Every ``loss_weight`` is multiplied by the weight of that loss. A loss that compares logits gets its ``scale``. So constants
    that were published beside OIM with scale 30 and weight 1 keep their meaning beside one of scale 16 and weight 0.5.

    Args:
        source: Name of the student's loss, e.g. 'reid_loss'.

    Raises:
        ValueError: The student has no such loss, or a distillation loss has no ``loss_weight``.
    """
    own = find(student, source.split('.'))
    if not (hasattr(own, 'scale') and hasattr(own, 'loss_weight')):
        raise ValueError(
            f'PersonSearchDistiller: accompanies={source!r}: {type(student).__name__} has no such loss with a scale'
        )
    followed: dict[str, dict] = {}
    for name, loss in losses.items():
        taken = signature(MODELS.get(loss['type'])).parameters
        if 'loss_weight' not in taken:
            raise ValueError(f'{name}: accompanies={source!r} needs a loss with the argument loss_weight, not {loss["type"]}')
        scale: dict = dict(scale=own.scale) if 'scale' in taken else {}
        followed[name] = {**scale, **loss, 'loss_weight': loss.get('loss_weight', 1.0) * own.loss_weight}
    return followed


def check_sources(cfg: Mapping, student: nn.Module, teacher: nn.Module) -> None:
    """Checks that each model has what its recorders read.

    Raises:
        ValueError: A model has no re-id branch, or no module of that name.
    """
    for role, model in (('student', student), ('teacher', teacher)):
        for name, recorder in cfg[f'{role}_recorders'].items():
            source = recorder.get('source', '')
            first = source.split('.')[0]
            if first in ('embed', 'memory') and not hasattr(model, first):
                raise ValueError(
                    f'the {role} is a {type(model).__name__}, which has no re-id branch: the recorder {name!r} '
                    f'reads its {source!r}; expected a person-search detector'
                )
            if recorder['type'].split('.')[-1] in ('ModuleInputs', 'ModuleOutputs'):
                check_module(source, model)
