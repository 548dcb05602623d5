"""Which maps of teacher and student are compared: a distiller's config names none, so that it fits any two detectors."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from mmps.distillation.statistics import fixed_statistics

SIDE = 128  # of the image of zeros
PARTS = ('connectors', 'distill_losses', 'loss_forward_mappings')
WORDS = ('student_level', 'teacher_level', 'student_channels', 'teacher_channels', 'stride')


class Level(NamedTuple):
    """A map of :meth:`extract_feat`: which one, how many channels, how many input-image pixels a cell."""

    index: int
    channels: int
    stride: int


class Pair(NamedTuple):
    """A map of the student, and the teacher's that it is compared with, of the same stride or of a finer one."""

    student: Level
    teacher: Level


@torch.no_grad()
def levels_of(detector: nn.Module) -> list[Level]:
    """The maps that a detector gives in its present mode, of each stride the first; found out on an image of zeros."""
    extract_feat = detector.extract_feat  # a cached teacher, without parameters, says here that it has none
    image = torch.zeros(1, 3, SIDE, SIDE, device=next(detector.parameters()).device)
    with fixed_statistics(detector), torch.random.fork_rng(devices=[]):
        feats = extract_feat(image)
    levels: dict[int, Level] = {}
    for index, feat in enumerate(feats):
        stride = SIDE // feat.shape[-1]
        levels.setdefault(stride, Level(index, feat.shape[1], stride))
    return list(levels.values())


def pair_levels(student: list[Level], teacher: list[Level]) -> list[Pair]:
    """The levels of common strides; without any, the student's finest that is coarser than one of the teacher's, and that one.

    Raises:
        ValueError: All the teacher's maps are coarser than the student's.
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
            f'those of the teacher {[level.stride for level in teacher]}: expected a common one, or a finer '
            'one of the teacher'
        )
    return finer[:1]


def fit_levels(distiller: Mapping, pairs: list[Pair]) -> tuple[dict, dict[str, list[str]]]:
    """A distiller's config for these levels.

    Among connectors, losses and mappings, what holds one of the words 'student_level', 'teacher_level', 'student_channels',
    'teacher_channels' or 'stride' (the student's) in the place of a number is repeated for each pair, with the pair's numbers
    and with its stride at the end of its name. A larger map of the teacher is averaged over the student's cells.

    Args:
        distiller: Config of MMRazor's ``ConfigurableDistiller``.
        pairs: The levels.

    Returns:
        The config, and of each loss that was repeated the names of its copies: their mean is what counts.
    """
    connectors, losses, mappings = (dict(distiller.get(part) or {}) for part in PARTS)
    repeated_losses = [name for name, mapping in mappings.items() if has_words(mapping) or has_words(losses.get(name))]
    repeated_connectors = [name for name, connector in connectors.items() if has_words(connector)]
    for pair in pairs:
        suffix = f'_s{pair.student.stride}'
        words = dict(
            student_level=pair.student.index,
            teacher_level=pair.teacher.index,
            stride=pair.student.stride,
            student_channels=pair.student.channels,
            teacher_channels=pair.teacher.channels,
        )
        for name in repeated_connectors:
            connectors[name + suffix] = filled(connectors[name], words)
        for name in repeated_losses:
            losses[name + suffix] = filled(losses[name], words)
            mappings[name + suffix] = {
                argument: filled(record, words)
                | (dict(connector=record['connector'] + suffix) if record.get('connector') in repeated_connectors else {})
                for argument, record in mappings[name].items()
            }
            for argument, record in mappings[name].items():
                if record.get('data_idx') == 'teacher_level' and pair.teacher.stride < pair.student.stride:
                    connectors['average'] = averaging(pair.student.stride // pair.teacher.stride)
                    mappings[name + suffix][argument]['connector'] = 'average'
    for part, names in ((connectors, repeated_connectors), (losses, repeated_losses), (mappings, repeated_losses)):
        for name in names:
            del part[name]
    copies = {name: [f'{name}_s{pair.student.stride}' for pair in pairs] for name in repeated_losses}
    return {**distiller, **dict(zip(PARTS, (connectors, losses, mappings), strict=True))}, copies


def averaging(cells: int) -> dict:
    """Config of a connector without weights: means over cells x cells."""
    return dict(
        type='mmrazor.TorchFunctionalConnector',
        function_name='avg_pool2d',
        func_args=dict(kernel_size=cells, ceil_mode=True, count_include_pad=False),
    )


def has_words(cfg: Any) -> bool:
    if isinstance(cfg, Mapping):
        return any(map(has_words, cfg.values()))
    return isinstance(cfg, str) and cfg in WORDS


def filled(cfg: Any, words: dict[str, int]) -> Any:
    """The config with numbers for the words."""
    if isinstance(cfg, Mapping):
        return {key: filled(value, words) for key, value in cfg.items()}
    return words.get(cfg, cfg) if isinstance(cfg, str) else cfg
