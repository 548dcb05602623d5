import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn


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
    wanted |= {name: given[name] for name, shape in wanted.items()
               if name.endswith('memory.lut') and shape[0] == 0 and name in given}
    differing = [name for name in [*wanted, *(given.keys() - wanted.keys())] if wanted.get(name) != given.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(f'{role}: {path} is a checkpoint of another model: {len(differing)} tensors differ, the first is '
                         f'{name}: {wanted.get(name, "absent")} in the model, {given.get(name, "absent")} in the file')
    model.load_state_dict(weights)


def read_weights(path: str, role: str) -> dict[str, Tensor]:
    """A checkpoint's named tensors, without what a distillation stored beside its student.

    Args:
        role: What the messages call it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint.
    """
    if '://' not in path and not Path(path).is_file():
        raise FileNotFoundError(f'{role}: there is no file {path}')
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f'{role}: {path} is no checkpoint that can be loaded ({type(error).__name__})') from error
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else {}
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f'{role}: {path} is no checkpoint: expected named tensors, or them as state_dict')
    return {name: value for name, value in weights.items() if not name.startswith('distiller.')}


def weights_fingerprint(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 in hex over the names, dtypes, shapes and bytes of named tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(state_dict.items()):
        digest.update(f'\n{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
