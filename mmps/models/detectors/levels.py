"""Whether the parts of a detector fit each other: a config that does not is refused before the first image is read."""

from typing import NamedTuple

from torch import nn


class Levels(NamedTuple):
    """What a part gives: how many maps, and how many channels each has, None where it does not say."""

    name: str
    count: int
    channels: int | None


def feature_levels(backbone: nn.Module, neck: nn.Module | None) -> Levels | None:
    """The levels that the heads get, None where the parts do not say.

    Raises:
        ValueError: The neck wants another number of levels than the backbone gives.
    """
    given = getattr(backbone, 'out_indices', None)
    if neck is None:
        return None if given is None else Levels('the backbone', len(given), None)
    wanted = getattr(neck, 'in_channels', None)
    if given is not None and isinstance(wanted, list | tuple) and len(given) != len(wanted):
        raise ValueError(
            f'{type(neck).__name__}: in_channels of the neck names {len(wanted)} levels ({list(wanted)}), '
            f'the backbone gives {len(given)} (out_indices {tuple(given)}): expected one for each'
        )
    if getattr(neck, 'num_outs', None) is None:
        return None
    return Levels('the neck', neck.num_outs, getattr(neck, 'out_channels', None))


def check_strides(levels: Levels | None, head: str, strides: list, in_channels: int | None) -> None:
    """A dense head needs a stride for each level, and the level's channels."""
    if levels is None:
        return
    if len(strides) != levels.count:
        raise ValueError(
            f'{head} has {len(strides)} strides ({list(strides)}), {levels.name} gives {levels.count} levels: '
            'expected one for each'
        )
    check_channels(levels, f'in_channels of {head}', in_channels)


def check_extractor(levels: Levels | None, name: str, strides: list, out_channels: int) -> None:
    """A RoI extractor reads the first levels: there must be as many."""
    if levels is None:
        return
    if len(strides) > levels.count:
        raise ValueError(
            f'{name} has {len(strides)} featmap_strides ({list(strides)}), {levels.name} gives {levels.count} '
            'levels: expected no more'
        )
    check_channels(levels, f'out_channels of {name}', out_channels)


def check_channels(levels: Levels, name: str, channels: int | None) -> None:
    if None not in (levels.channels, channels) and levels.channels != channels:
        raise ValueError(f'{name} is {channels}, {levels.name} gives {levels.channels} channels: they must agree')
