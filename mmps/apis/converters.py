"""Converts checkpoints: released ones to mmps's names, and mmps's own to small files."""

import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmps.fileio.atomic import write_atomic
from mmps.fileio.checkpoint import read_weights
from mmps.models.released_weights import FAMILIES, convert, fit, load_released
from mmps.registry import MODELS


def convert_checkpoint(family: str, checkpoint: str, out: str, config: str, force: bool = False) -> str:
    """Writes a released checkpoint under mmps's names.

    The checkpoint must have every tensor of the config's model, and no other.

    Args:
        family: Whose names the checkpoint has, 'seqnet' or 'alignps'.
        checkpoint: The released file. It is read as tensors; no code in it runs.
        out: The file to write.
        config: Config of the checkpoint's model.
        force: Replaces ``out`` if it exists.

    Returns:
        A line that says what was written and how to test it.

    Raises:
        OSError: A file is missing, or cannot be written.
        ValueError: ``out`` exists; the checkpoint cannot be read, or is another model's.
    """
    refuse_existing(out, force)
    released, model = load_released(checkpoint), build_model(config)
    try:
        weights = fit(convert(released, FAMILIES[family]), model)
    except ValueError as error:
        raise ValueError(f'{checkpoint} is no checkpoint of {family} as {Path(config).name} has it: {error}') from error
    meta = dict(converted_from=Path(checkpoint).name, family=family, config=Path(config).name)
    with write_atomic(Path(out)) as file:
        torch.save(dict(state_dict=weights, meta=meta), file)
    identities = len(next(tensor for name, tensor in weights.items() if name.endswith('memory.lut')))
    return (
        f'{out}: {len(weights)} tensors, {identities} identities in the lookup table; '
        f'test it with: python tools/test.py {shortest(config)} {out}'
    )


def publish_checkpoint(checkpoint: str, out: str, force: bool = False) -> str:
    """Writes the weights of a checkpoint alone, in float16: a quarter of the size or less.

    Args:
        checkpoint: A checkpoint of a training.
        out: The file to write.
        force: Replaces ``out`` if it exists.

    Returns:
        A line that says what was written.

    Raises:
        OSError: A file is missing, or cannot be written.
        ValueError: ``out`` exists; the checkpoint cannot be read, or has numbers that float16 cannot hold.
    """
    refuse_existing(out, force)
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in read_weights(checkpoint, 'checkpoint').items()
    }
    beyond = [name for name, value in weights.items() if not value.isfinite().all()]
    if beyond:
        raise ValueError(f'{checkpoint}: float16 cannot hold {beyond[0]}')
    with write_atomic(Path(out)) as file:
        torch.save(dict(state_dict=weights), file)
    return f'{out}: {len(weights)} tensors, {Path(out).stat().st_size / 1e6:.1f} MB'


def refuse_existing(out: str, force: bool) -> None:
    """Raises a ValueError if a file is there and is not to be replaced."""
    if Path(out).exists() and not force:
        raise ValueError(f'{out} is there already: --force replaces it')


def build_model(config: str) -> nn.Module:
    """Builds the model of a config with its initial weights; no checkpoint is loaded.

    Raises:
        ValueError: The config has no model.
    """
    cfg = Config.fromfile(config)
    if 'model' not in cfg:
        raise ValueError(f'{config}: expected a config with a model')
    with DefaultScope.overwrite_default_scope('mmps'):
        return MODELS.build(cfg.model)


def shortest(path: str) -> str:
    """Returns the path, or the path relative to the current folder if that is shorter."""
    return min(path, os.path.relpath(path), key=len)
