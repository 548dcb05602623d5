"""Checks that backbone, neck and heads fit together, so that a wrong config fails before the first image is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Levels:
    """The feature maps that a part (``name``) gives: their number, and the channels of each, None if unknown."""

    name: str
    count: int
    channels: int | None


def feature_levels(backbone: nn.Module, neck: nn.Module | None) -> Levels | None:
    """Returns the levels that the heads get, or None if backbone and neck do not tell.

    Raises:
        ValueError: The neck expects another number of levels than the backbone gives.
    """
    given = getattr(backbone, 'out_indices', None)
    if neck is None:
        return None if given is None else Levels('the backbone', len(given), None)
    expected = getattr(neck, 'in_channels', None)
    if given is not None and isinstance(expected, list | tuple) and len(given) != len(expected):
        raise ValueError(
            f'{type(neck).__name__}: in_channels of the neck names {len(expected)} levels ({list(expected)}), '
            f'the backbone gives {len(given)} (out_indices {tuple(given)}): expected one entry per level'
        )
    count = getattr(neck, 'num_outs', None)
    return None if count is None else Levels('the neck', count, getattr(neck, 'out_channels', None))


def check_strides(levels: Levels | None, head: str, strides: Sequence, in_channels: int | None) -> None:
    """Checks that a dense head has one stride per level and the channels of the levels."""
    if levels is None:
        return
    if len(strides) != levels.count:
        raise ValueError(
            f'{head} has {len(strides)} strides ({list(strides)}), {levels.name} gives {levels.count} levels: '
            'expected one stride per level'
        )
    check_channels(levels, f'in_channels of {head}', in_channels)


def check_extractor(levels: Levels | None, name: str, strides: Sequence, out_channels: int) -> None:
    """Checks that a RoI extractor, which reads the first levels, has no more strides than levels, and their channels."""
    if levels is None:
        return
    if len(strides) > levels.count:
        raise ValueError(
            f'{name} has {len(strides)} featmap_strides ({list(strides)}), {levels.name} gives {levels.count} '
            'levels: expected at most that many strides'
        )
    check_channels(levels, f'out_channels of {name}', out_channels)


def check_channels(levels: Levels, name: str, channels: int | None) -> None:
    """Checks that ``channels``, called ``name`` in the error, are those of the levels."""
    if None not in (levels.channels, channels) and levels.channels != channels:
        raise ValueError(f'{name} is {channels}, {levels.name} gives {levels.channels} channels: they must agree')
