"""Prints what a config trains.

It lists components and parameters, and for a distillation the paired levels and the losses. The models are built without their
checkpoints.
"""

import argparse
import copy
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmps.distillation import PersonSearchDistill, PersonSearchDistiller
from mmps.evaluation.tables import markdown_table
from mmps.registry import MODELS

from .run import add_overrides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--full', action='store_true', help='print the whole config too, with everything it inherits')
    add_overrides(parser, 'overrides of the config; lists as KEY="[a,b]"')
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    if 'model' not in cfg:
        raise ValueError(f'{args.config}: expected a config with a model, got the keys {sorted(cfg)}')
    if args.full:
        print(cfg.pretty_text)
    print(describe(cfg))


def describe(cfg: Config) -> str:
    """Returns tables of what the config trains.

    Args:
        cfg: A config with a model. No checkpoint is read.
    """
    model_cfg = copy.deepcopy(cfg.model)
    model_cfg.pop('teacher_ckpt', None)
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(model_cfg)
    if not isinstance(model, PersonSearchDistill):
        return components({cfg.model.type: model})
    models = {f'student: {type(model.student).__name__}': model.student}
    if model.teacher.network is not model.student:
        models[f'teacher: {type(model.teacher.network).__name__}'] = model.teacher.network
    tables = [components({**models, f'distiller: {type(model.distiller).__name__}': model.distiller})]
    if model.distiller.pairs:
        rows = [
            [str(ours.stride), str(ours.channels), str(theirs.stride), str(theirs.channels)]
            for ours, theirs in model.distiller.pairs
        ]
        tables.append(markdown_table(['paired levels: stride', 'channels', "teacher's stride", 'channels'], rows))
    return '\n\n'.join([*tables, losses(model_cfg['distiller'], model.distiller)])


def components(models: Mapping[str, nn.Module]) -> str:
    """Returns a table of the models and their parts, with the number of parameters."""
    rows = []
    for name, model in models.items():
        rows.append([name, count(model), count(model, trained=True)])
        rows += [
            [f'  {part}: {type(module).__name__}', count(module), count(module, trained=True)]
            for part, module in model.named_children()
            if any(True for _ in module.parameters())
        ]
    return markdown_table(['component', 'parameters', 'trained'], rows)


def count(module: nn.Module, trained: bool = False) -> str:
    return f'{sum(each.numel() for each in module.parameters() if each.requires_grad or not trained):,}'


def losses(cfg: Mapping, distiller: PersonSearchDistiller) -> str:
    """Returns a table of the distillation's losses: weight, copies, and what they compare."""
    rows = []
    for name in cfg.get('losses') or cfg['loss_forward_mappings']:
        loss, mapping = cfg['distill_losses'][name], cfg['loss_forward_mappings'][name]
        weights = [f'{key}={value}' for key, value in loss.items() if key not in ('type', 'per_level')]
        reads = [
            f'{argument}={"student" if record["from_student"] else "teacher"}.{record["recorder"]}'
            for argument, record in mapping.items()
        ]
        copies = distiller.level_copies.get(name)
        levels = ' '.join(copy.removeprefix(f'{name}_s') for copy in copies) if copies else ''
        rows.append([name, loss['type'], ', '.join(weights), levels, ', '.join(reads)])
    return markdown_table(['loss', 'type', 'weights', 'mean over strides', 'compares'], rows)
