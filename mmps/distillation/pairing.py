"""Pairs the feature maps of student and teacher, and applies connectors and losses to every pair.

A distiller's config names no levels, so it fits any two detectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor

from mmps.distillation.statistics import fixed_statistics
from mmps.registry import MODELS

SIDE = 128  # height and width of the image of zeros that reveals the levels


@dataclass(frozen=True)
class Level:
    """A feature map of ``extract_feat``: its index, its number of channels, and its stride in input-image pixels."""

    index: int
    channels: int
    stride: int


class Pair(NamedTuple):
    """A feature map of the student and one of the teacher, which are compared. The finer one is averaged first."""

    student: Level
    teacher: Level

    @property
    def stride(self) -> int:
        """The stride at which they are compared."""
        return max(self.student.stride, self.teacher.stride)


@torch.no_grad()
def levels_of(detector: BaseModel) -> list[Level]:
    """Returns the feature maps that a detector has at test time, the first one of each stride. Runs it on zeros.

    AlignPS has maps that exist only in training, where they are background. The index of a level is that of the detector's
    current mode.
    """
    extract_feat = detector.extract_feat  # before parameters(): a cached teacher has none, and raises a clear error here
    image = torch.zeros(1, 3, SIDE, SIDE, device=next(detector.parameters()).device)

    def run() -> list[Level]:
        with fixed_statistics(detector.modules()), torch.random.fork_rng(devices=[]):
            feats = extract_feat(image)
        return [Level(index, feat.shape[1], SIDE // feat.shape[-1]) for index, feat in enumerate(feats)]

    training, now = detector.training, run()
    tested = now
    if training:
        detector.eval()
        tested = run()
        detector.train()
    levels: dict[int, Level] = {}
    for level in tested:
        same = [each for each in now if (each.channels, each.stride) == (level.channels, level.stride)]
        levels.setdefault(level.stride, same[0])
    return list(levels.values())


def pair_levels(student: list[Level], teacher: list[Level]) -> list[Pair]:
    """Pairs the levels of equal stride.

    If there are none, it pairs two levels whose strides differ least, the finest of them if several do. The finer map is then
    averaged over the coarser one's cells.
    """
    theirs = {level.stride: level for level in teacher}
    pairs = [Pair(level, theirs[level.stride]) for level in student if level.stride in theirs]
    if pairs:
        return pairs
    every = [Pair(ours, each) for ours in student for each in teacher]
    return [min(every, key=lambda pair: (pair.stride / min(level.stride for level in pair), pair.stride))]


def average(maps: Mapping[int, Tensor], stride: int) -> Tensor:
    """Returns the map of a stride. If there is none, the coarsest finer map is averaged over the cells of that stride.

    Args:
        maps: (B, C, H, W) by stride. One of them is not coarser than ``stride``.
    """
    finer = max(each for each in maps if each <= stride)
    if finer == stride:
        return maps[stride]
    return F.avg_pool2d(maps[finer], stride // finer, ceil_mode=True, count_include_pad=False)


def is_per_level(part: Mapping | None) -> bool:
    """Returns whether a connector or a loss of the config is applied to every pair of levels."""
    return bool(part and part.get('per_level'))


def apply_per_level(distiller: Mapping, pairs: list[Pair]) -> tuple[dict, dict[str, list[str]]]:
    """Copies every connector and loss that has ``per_level=True`` once for each pair of levels.

    The copy of ``neck`` for stride 8 is ``neck_s8``. If the config leaves channels (:func:`connector_sizes`) or stride
    (:func:`loss_sizes`) open, they are those of the pair. If a loss reads a recorder of feature maps, its copy reads the map
    of its pair.

    Args:
        distiller: Recorders, connectors, losses and mappings of a :class:`~mmps.distillation.PersonSearchDistiller`.
        pairs: The pairs of levels.

    Returns:
        The config for MMRazor's ``ConfigurableDistiller``, and for each copied loss the names of its copies.

    Raises:
        ValueError: A loss reads feature maps, but has neither ``per_level`` nor the stride of one map (``data_idx``). A
            connector does not fit its loss.
    """
    connectors, losses, mappings = (
        dict(distiller.get(part) or {}) for part in ('connectors', 'distill_losses', 'loss_forward_mappings')
    )
    maps = {
        (role == 'student', name)
        for role in ('student', 'teacher')
        for name, recorder in (distiller.get(f'{role}_recorders') or {}).items()
        if recorder['type'].split('.')[-1] == 'FeatureMaps'
    }
    connectors_per_level = {name: connectors.pop(name) for name in list(connectors) if is_per_level(connectors[name])}
    losses_per_level = {name: losses.pop(name) for name in list(losses) if is_per_level(losses[name])}
    mappings_per_level = {name: mappings.pop(name) for name in losses_per_level}
    for name, mapping in mappings.items():
        for argument, record in mapping.items():
            if (record['from_student'], record['recorder']) in maps and not isinstance(record.get('data_idx'), int):
                raise ValueError(
                    f'{name}: its argument {argument!r} reads feature maps: set per_level=True in distill_losses.{name}, or '
                    'data_idx to the stride of one map'
                )
            if record.get('connector') in connectors_per_level:
                raise ValueError(
                    f'{name}: its argument {argument!r} has the connector {record["connector"]!r}, which is per level: set '
                    f'per_level=True in distill_losses.{name} too'
                )

    def of_pair(record: Mapping, pair: Pair) -> dict:
        record = dict(record)
        if record.get('connector') in connectors_per_level:
            record['connector'] += f'_s{pair.stride}'
        if (record['from_student'], record['recorder']) in maps:
            record['data_idx'] = pair.stride
        return record

    for pair in pairs:
        suffix = f'_s{pair.stride}'
        for name, connector in connectors_per_level.items():
            connectors[name + suffix] = with_sizes(connector, connector_sizes(pair))
        for name, loss in losses_per_level.items():
            losses[name + suffix] = with_sizes(loss, loss_sizes(pair))
            mappings[name + suffix] = {argument: of_pair(record, pair) for argument, record in mappings_per_level[name].items()}
    copies = {name: [f'{name}_s{pair.stride}' for pair in pairs] for name in losses_per_level}
    return {**distiller, 'connectors': connectors, 'distill_losses': losses, 'loss_forward_mappings': mappings}, copies


def connector_sizes(pair: Pair) -> dict[str, int]:
    """Returns the channels of the pair, under every argument name that connectors use for them."""
    ours, theirs = pair.student.channels, pair.teacher.channels
    return dict.fromkeys(('in_channel', 'in_channels', 'student_channels'), ours) | dict.fromkeys(
        ('out_channel', 'out_channels', 'teacher_channels'), theirs
    )


def loss_sizes(pair: Pair) -> dict[str, int]:
    """Returns the arguments of a loss that depend on the pair: the channels after the connector, and the stride."""
    return dict(channels=pair.teacher.channels, stride=pair.stride)


def with_sizes(part: Mapping, sizes: Mapping[str, int]) -> dict:
    """Returns the config with the sizes that its class accepts and that the config leaves open."""
    kind = MODELS.get(part['type']) if isinstance(part['type'], str) else part['type']
    taken = signature(kind).parameters if kind else {}
    own = {name: value for name, value in part.items() if name != 'per_level'}
    return {name: size for name, size in sizes.items() if name in taken} | own
