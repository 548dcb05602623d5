"""Converts released checkpoints to the names and layouts of mmps."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from mmps.fileio.checkpoint import load_local, named_tensors


class Rule(NamedTuple):
    """Renames tensors: if ``pattern`` (a regular expression) matches the whole name, the tensor becomes ``name`` in mmps."""

    pattern: str
    name: str
    change: Callable[[Tensor], Tensor] = lambda tensor: tensor


def person_first(scores: Tensor) -> Tensor:
    """(2, ...) -> (2, ...): moves the background from the first place to the last, as in MMDetection."""
    return scores.flip(0)


def person_only(deltas: Tensor) -> Tensor:
    """(8, ...) -> (4, ...): drops the first four deltas, which are the background's. Scalars (counters) stay."""
    return deltas[4:] if deltas.ndim else deltas


_BN_LINEAR = {'0': 'linear', '1': 'norm'}

# Released by github.com/serend1p1ty/SeqNet, with torchvision's names. It stores no write position of the queue; ours is 0.
SEQNET = [
    Rule(r'backbone\.(.+)', r'backbone.\1'),
    Rule(r'rpn\.head\.conv\.(?:0\.0\.)?(weight|bias)', r'rpn_head.rpn_conv.\1'),  # newer torchvision has the digits
    Rule(r'rpn\.head\.cls_logits\.(.+)', r'rpn_head.rpn_cls.\1'),
    Rule(r'rpn\.head\.bbox_pred\.(.+)', r'rpn_head.rpn_reg.\1'),
    Rule(r'roi_heads\.box_head\.(.+)', r'roi_head.first.shared_head.\1'),
    Rule(r'roi_heads\.reid_head\.(.+)', r'roi_head.second.shared_head.\1'),
    Rule(r'roi_heads\.faster_rcnn_predictor\.cls_score\.(.+)', r'roi_head.first.bbox_head.fc_cls.\1', person_first),
    Rule(r'roi_heads\.faster_rcnn_predictor\.bbox_pred\.(.+)', r'roi_head.first.bbox_head.fc_reg.\1', person_only),
    *(
        Rule(
            rf'roi_heads\.box_predictor\.bbox_pred\.{index}\.(.+)', rf'roi_head.second.bbox_head.fc_reg.{layer}.\1', person_only
        )
        for index, layer in _BN_LINEAR.items()
    ),
    *(
        Rule(
            rf'roi_heads\.embedding_head\.projectors\.{feat}\.{index}\.(.+)',
            rf'roi_head.second.embedding_head.projectors.{kind}.{layer}.\1',
        )
        for kind, feat in enumerate(('feat_res4', 'feat_res5'))
        for index, layer in _BN_LINEAR.items()
    ),
    Rule(r'roi_heads\.embedding_head\.rescaler\.(.+)', r'roi_head.second.embedding_head.rescaler.\1'),
    Rule(r'roi_heads\.reid_loss\.lut', 'roi_head.second.reid_loss.memory.lut'),
    Rule(r'roi_heads\.reid_loss\.cq', 'roi_head.second.reid_loss.memory.queue'),
]

# Released by github.com/daodaofr/AlignPS, a fork of MMDetection 2, with that version's names.
ALIGNPS = [
    Rule(r'bbox_head\.labeled_matching_layer\.lookup_table', 'bbox_head.reid_loss.memory.lut'),
    Rule(r'bbox_head\.unlabeled_matching_layer\.queue', 'bbox_head.reid_loss.memory.queue'),
    Rule(r'bbox_head\.unlabeled_matching_layer\.tail', 'bbox_head.reid_loss.memory.queue_position'),
    Rule(r'((?:backbone|neck)\..+|bbox_head\.(?:cls_convs|reg_convs|conv_cls|conv_reg|conv_centerness|scales)\..+)', r'\1'),
]

FAMILIES = {'seqnet': SEQNET, 'alignps': ALIGNPS}

_MEMORY = re.compile(r'.*\.memory\.(lut|queue|queue_position)')


def convert(weights: Mapping[str, Tensor], rules: list[Rule]) -> dict[str, Tensor]:
    """Converts released tensors to the names and layout of mmps.

    Raises:
        ValueError: No rule matches a tensor. The error lists all such tensors.
    """
    converted, unknown = {}, []
    for name, tensor in weights.items():
        rule = next((rule for rule in rules if re.fullmatch(rule.pattern, name)), None)
        if rule is None:
            unknown.append(name)
        else:
            converted[re.sub(rule.pattern, rule.name, name)] = rule.change(tensor).contiguous()
    if unknown:
        raise ValueError(f'{len(unknown)} of {len(weights)} tensors belong to no part of this network: {", ".join(unknown)}')
    return converted


def fit(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Returns the converted weights, completed with the identity memory of the model where the checkpoint has none.

    Raises:
        ValueError: A tensor is on one side only, or has different shapes. The error lists all such tensors.
    """
    own = model.state_dict()
    complete = {name: tensor for name, tensor in own.items() if _MEMORY.fullmatch(name)} | dict(weights)
    missing = [name for name in own if name not in complete]
    extra = [name for name in complete if name not in own]
    differing = [
        f'{name} ({tuple(complete[name].shape)}, the model has {tuple(tensor.shape)})'
        for name, tensor in own.items()
        if name in complete and not _fits(name, complete[name], tensor)
    ]
    problems = {'missing': missing, 'left over': extra, 'of another shape': differing}
    if any(problems.values()):
        raise ValueError(
            'the checkpoint does not fit the model: '
            + '; '.join(f'{len(names)} {what}: {", ".join(names)}' for what, names in problems.items() if names)
        )
    return complete


def _fits(name: str, given: Tensor, own: Tensor) -> bool:
    # The number of identities may differ, the embedding size not.
    return given.shape[1:] == own.shape[1:] if name.endswith('memory.lut') else given.shape == own.shape


def load_released(path: str) -> dict[str, Tensor]:
    """Loads the tensors of a released checkpoint, which may be nested under ``model`` or ``state_dict``.

    Raises:
        OSError: The file does not exist or cannot be opened.
        ValueError: The file holds no named tensors.
    """
    return named_tensors(path, load_local(path, 'cpu'), 'state_dict', 'model')
