"""Pairs the feature maps of student and teacher, and applies connectors and losses to every pair.

A distiller's config names no levels, so it fits any two detectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModel

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
    """A feature map of the student and the teacher's map that it is compared with, of the same or a finer stride."""

    student: Level
    teacher: Level


@torch.no_grad()
def levels_of(detector: BaseModel) -> list[Level]:
    """Returns the feature maps of a detector in its current mode, the first one of each stride. Runs it on zeros."""
    extract_feat = detector.extract_feat  # before parameters(): a cached teacher has none, and raises a clear error here
    image = torch.zeros(1, 3, SIDE, SIDE, device=next(detector.parameters()).device)
    with fixed_statistics(detector), torch.random.fork_rng(devices=[]):
        feats = extract_feat(image)
    levels: dict[int, Level] = {}
    for index, feat in enumerate(feats):
        stride = SIDE // feat.shape[-1]
        levels.setdefault(stride, Level(index, feat.shape[1], stride))
    return list(levels.values())


def pair_levels(student: list[Level], teacher: list[Level]) -> list[Pair]:
    """Pairs the levels of equal stride.

    If there are none, it pairs one level of the student, the finest possible, with the next finer level of the teacher.

    Raises:
        ValueError: All maps of the teacher are coarser than the student's.
    """
    theirs = {level.stride: level for level in teacher}
    pairs = [Pair(level, theirs[level.stride]) for level in student if level.stride in theirs]
    if pairs:
        return pairs
    finer = [
        Pair(ours, each)
        for ours in sorted(student, key=lambda level: level.stride)
        for each in sorted(teacher, key=lambda level: -level.stride)
        if each.stride < ours.stride
    ]
    if not finer:
        raise ValueError(
            f'levels that do not fit: the strides of the student are {[level.stride for level in student]}, '
            f'those of the teacher {[level.stride for level in teacher]}: expected a common stride, or a finer one of the '
            'teacher'
        )
    return finer[:1]


def is_per_level(part: Mapping | None) -> bool:
    """Returns whether a connector or a loss of the config is applied to every pair of levels."""
    return bool(part and part.get('per_level'))


def apply_per_level(distiller: Mapping, pairs: list[Pair]) -> tuple[dict, dict[str, list[str]]]:
    """Copies every connector and loss that has ``per_level=True`` once for each pair of levels.

    The copy of ``neck`` for stride 8 is ``neck_s8``. If the config leaves channels (:func:`connector_sizes`) or stride
    (:func:`loss_sizes`) open, they are those of the pair. If a loss reads a recorder of feature maps, its copy reads the map
    of its pair. A larger map of the teacher is averaged over the student's cells.

    Args:
        distiller: Recorders, connectors, losses and mappings of a :class:`~mmps.distillation.PersonSearchDistiller`.
        pairs: The pairs of levels.

    Returns:
        The config for MMRazor's ``ConfigurableDistiller``, and for each copied loss the names of its copies.

    Raises:
        ValueError: A loss reads feature maps, but has neither ``per_level`` nor the stride of one map (``data_idx``). A
            connector does not fit its loss, or a map that is averaged.
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
        record, level = dict(record), pair.student if record['from_student'] else pair.teacher
        if record.get('connector') in connectors_per_level:
            record['connector'] += f'_s{pair.student.stride}'
        if (record['from_student'], record['recorder']) in maps:
            record['data_idx'] = level.stride
            if level.stride < pair.student.stride:
                if 'connector' in record:
                    raise ValueError(
                        f'the map of stride {level.stride} is averaged over the cells of the student, and has the connector '
                        f'{record["connector"]!r} too: expected none'
                    )
                connectors['average'] = averaging(pair.student.stride // level.stride)
                record['connector'] = 'average'
        return record

    for pair in pairs:
        suffix = f'_s{pair.student.stride}'
        for name, connector in connectors_per_level.items():
            connectors[name + suffix] = with_sizes(connector, connector_sizes(pair))
        for name, loss in losses_per_level.items():
            losses[name + suffix] = with_sizes(loss, loss_sizes(pair))
            mappings[name + suffix] = {argument: of_pair(record, pair) for argument, record in mappings_per_level[name].items()}
    copies = {name: [f'{name}_s{pair.student.stride}' for pair in pairs] for name in losses_per_level}
    return {**distiller, 'connectors': connectors, 'distill_losses': losses, 'loss_forward_mappings': mappings}, copies


def connector_sizes(pair: Pair) -> dict[str, int]:
    """Returns the channels of the pair, under every argument name that connectors use for them."""
    ours, theirs = pair.student.channels, pair.teacher.channels
    return dict.fromkeys(('in_channel', 'in_channels', 'student_channels'), ours) | dict.fromkeys(
        ('out_channel', 'out_channels', 'teacher_channels'), theirs
    )


def loss_sizes(pair: Pair) -> dict[str, int]:
    """Returns the arguments of a loss that depend on the pair: the channels after the connector, and the student's stride."""
    return dict(channels=pair.teacher.channels, stride=pair.student.stride)


def with_sizes(part: Mapping, sizes: Mapping[str, int]) -> dict:
    """Returns the config with the sizes that its class accepts and that the config leaves open."""
    kind = MODELS.get(part['type']) if isinstance(part['type'], str) else part['type']
    taken = signature(kind).parameters if kind else {}
    own = {name: value for name, value in part.items() if name != 'per_level'}
    return {name: size for name, size in sizes.items() if name in taken} | own


def averaging(cells: int) -> dict[str, Any]:
    """Returns the config of a connector without weights that averages over ``cells`` x ``cells``."""
    return dict(
        type='mmrazor.TorchFunctionalConnector',
        function_name='avg_pool2d',
        func_args=dict(kernel_size=cells, ceil_mode=True, count_include_pad=False),
    )
