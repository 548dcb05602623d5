"""Reading checkpoints: tensors and plain values, whatever the file says; nothing in it is run."""

import hashlib
import os
import re
import zipfile
from collections.abc import Mapping

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

ALWAYS = 1 << 26  # bytes that a view may claim, however few are stored


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_local(path: str, map_location=None) -> dict:
    """What a checkpoint file holds. MMEngine calls it for every local file: ``load_from``, ``resume``, ``init_cfg``.

    Args:
        map_location: As :func:`torch.load` has it.

    Raises:
        OSError: There is no such file, or it cannot be opened.
        ValueError: It is damaged, or holds something else than a dict of tensors, plain values and log histories. One line.
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
    except Exception as error:  # of any type: what bytes that are no pickle mean to an unpickler is left to chance
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
    """A checkpoint's tensors by name, from under the first of ``keys`` that it has, or from itself.

    Raises:
        ValueError: They are not named tensors with numbers of their own. One line.
    """
    weights = next((checkpoint[key] for key in keys if isinstance(checkpoint.get(key), dict)), checkpoint)
    if not weights or not all(
        isinstance(name, str) and name.isprintable() and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise ValueError(f'{path} is no checkpoint: expected named tensors, or them as {" or ".join(keys)}')
    for name, value in weights.items():
        if not _is_plain(value):
            raise ValueError(
                f'{path} is no checkpoint: expected plain numbers, all of them in the file, as {name}, '
                f'got {value.dtype} {tuple(value.shape)}, {value.layout}, on {value.device.type}'
            )
    return weights


def _is_plain(value: Tensor) -> bool:
    """Whether it has its numbers at hand: a view may claim more than its storage holds, and fill the memory once copied."""
    return (
        value.layout == torch.strided
        and value.device.type != 'meta'
        and not (value.is_quantized or value.is_nested or value.is_complex())
        and value.numel() * value.element_size() <= max(value.untyped_storage().nbytes(), ALWAYS)
    )


def load_exactly(model: nn.Module, path: str, role: str) -> None:
    """Loads a model's weights from a checkpoint that must fit it tensor by tensor: a random layer would say nothing.

    A lookup table that is still open takes the checkpoint's identities. What a distillation stored beside its student is
    passed over.

    Args:
        role: What the messages call it, e.g. ``teacher_ckpt``.

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
    """A checkpoint's named tensors, without what a distillation stored beside its student.

    Args:
        role: What the messages call it.

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
    """SHA-256 in hex over the names, dtypes, shapes and bytes of named tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(state_dict.items()):
        digest.update(f'\n{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
