"""Reads checkpoints safely: only tensors and plain values, and no code from the file is run."""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

ALWAYS = 1 << 26  # bytes that a tensor may span, however small its storage is


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_local(path: str, map_location: str | torch.device | Callable | None = None) -> dict:
    """Loads a checkpoint file. MMEngine calls it for every local file: ``load_from``, ``resume``, ``init_cfg``.

    Args:
        map_location: As in :func:`torch.load`.

    Raises:
        OSError: There is no such file, or it cannot be opened.
        ValueError: It is damaged, or is not a dict of tensors, plain values and log histories. One line.
    """
    path = os.path.expanduser(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > os.path.getsize(path):
                    raise ValueError('it unpacks to more than its own size, as no file of torch.save does')
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except OSError as error:
        if error.filename is not None:
            raise
        raise ValueError(f'{path} is no checkpoint that can be loaded: {_why(error)}') from error
    except Exception as error:  # unpickling arbitrary bytes may raise any type
        raise ValueError(f'{path} is no checkpoint that can be loaded: {_why(error)}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} is no checkpoint: expected named tensors, got {type(checkpoint).__name__}')
    return checkpoint


def _why(error: Exception) -> str:
    refused = re.search(r'nsupported (?:global: )?(?:GLOBAL|class) (\S+)', str(error))
    if refused:
        return f'it holds {refused[1]}, and only tensors and plain values are read; nothing was run'
    return str(error) if type(error) is ValueError and '\n' not in str(error) else type(error).__name__


def named_tensors(path: str, checkpoint: dict, *keys: str) -> dict[str, Tensor]:
    """Returns a checkpoint's tensors by name, from the first of ``keys`` that it has, or else from its top level.

    Raises:
        ValueError: They are not named tensors, or a tensor is not plain numbers stored in the file. One line.
    """
    weights = next((checkpoint[key] for key in keys if isinstance(checkpoint.get(key), dict)), checkpoint)
    if not weights or not all(
        isinstance(name, str) and name.isprintable() and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise ValueError(f'{path} is no checkpoint: expected named tensors, at the top level or under {" or ".join(keys)}')
    for name, value in weights.items():
        if not _is_plain(value):
            raise ValueError(
                f'{path} is no checkpoint: expected dense, real tensors that are stored in full, but '
                f'{name} is {value.dtype} {tuple(value.shape)}, {value.layout}, on {value.device.type}'
            )
    return weights


def _is_plain(value: Tensor) -> bool:
    """Returns whether a tensor is dense, real and stored in full. An expanded view could fill the memory when copied."""
    return (
        value.layout == torch.strided
        and value.device.type != 'meta'
        and not (value.is_quantized or value.is_nested or value.is_complex())
        and value.numel() * value.element_size() <= max(value.untyped_storage().nbytes(), ALWAYS)
    )


def load_exactly(model: nn.Module, path: str, role: str) -> None:
    """Loads a checkpoint into a model. Every tensor must fit, so that no layer silently stays random.

    A lookup table that is still empty takes the checkpoint's size. A distiller's tensors in the checkpoint are ignored.

    Args:
        role: The checkpoint's name in messages, e.g. ``teacher_ckpt``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, or one of another model.
    """
    weights = read_weights(path, role)
    given = {name: tuple(value.shape) for name, value in weights.items()}
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    wanted |= {
        name: given[name]
        for name, shape in wanted.items()
        if name.endswith('memory.lut') and shape[0] == 0 and name in given and given[name][1:] == shape[1:]
    }
    differing = [name for name in [*wanted, *(given.keys() - wanted.keys())] if wanted.get(name) != given.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f'{role}: {path} is a checkpoint of another model: {len(differing)} tensors differ, the first is '
            f'{name}: {wanted.get(name, "absent")} in the model, {given.get(name, "absent")} in the file'
        )
    model.load_state_dict(weights)


def read_weights(path: str, role: str) -> dict[str, Tensor]:
    """Returns a checkpoint's named tensors, without those of a distiller.

    Args:
        role: The checkpoint's name in messages.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint.
    """
    if '://' not in path and not os.path.isfile(path):
        raise FileNotFoundError(f'{role}: there is no file {path}')
    try:
        weights = named_tensors(path, CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent'), 'state_dict')
    except ValueError as error:
        raise ValueError(f'{role}: {error}') from error
    return {name: value for name, value in weights.items() if not name.startswith('distiller.')}


def weights_fingerprint(state_dict: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256, in hex, of the names, dtypes, shapes and bytes of named tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(state_dict.items()):
        digest.update(f'\n{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def model_fingerprint(config: Mapping, path: str, state_dict: Mapping[str, Tensor]) -> str:
    """Returns what a gallery keeps of the model whose embeddings it holds: the checkpoint's name, and a digest of the model.

    Args:
        config: The config of the model.
        path: The checkpoint, or its name such as mmps://real.
        state_dict: Its tensors, as the model has them.
    """
    digest = hashlib.sha256(f'{config} {weights_fingerprint(state_dict)}'.encode()).hexdigest()
    return f'{path if "://" in path else "/".join(Path(path).parts[-2:])} {digest[:12]}'
