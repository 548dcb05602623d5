"""Defines mmps's registries, with scope ``mmps``.

Each is a child of MMDetection's registry of the same kind. With ``default_scope = 'mmps'`` a config therefore names the
modules of mmps and MMDetection without a prefix; MMRazor's need ``mmrazor.``. Each is also a child of MMEngine's root
registry, so that any scope can use ``mmps.Name``. Looking up a name imports the module that registers it.
"""

import difflib
from collections.abc import Iterable

from mmdet import registry as mmdet
from mmengine import registry as mmengine
from mmengine.registry import Registry


def _registry(kind: str, location: str) -> Registry:
    root, parent = getattr(mmengine, kind), getattr(mmdet, kind)
    registry = Registry(parent.name, parent=parent, scope='mmps', locations=[location])
    root.children.setdefault('mmps', registry)
    return registry


MODELS = _registry('MODELS', 'mmps')
TASK_UTILS = _registry('TASK_UTILS', 'mmps')
DATASETS = _registry('DATASETS', 'mmps.datasets')
DATA_SAMPLERS = _registry('DATA_SAMPLERS', 'mmps.datasets')
TRANSFORMS = _registry('TRANSFORMS', 'mmps.datasets')
METRICS = _registry('METRICS', 'mmps.evaluation')
HOOKS = _registry('HOOKS', 'mmps.engine')
LOOPS = _registry('LOOPS', 'mmps.engine')
VISUALIZERS = _registry('VISUALIZERS', 'mmps.visualization')
# Empty registries: with them MMEngine finds the scope mmps, and through it MMDetection's names, for every kind.
EVALUATOR = _registry('EVALUATOR', 'mmps')
LOG_PROCESSORS = _registry('LOG_PROCESSORS', 'mmps')
MODEL_WRAPPERS = _registry('MODEL_WRAPPERS', 'mmps')
OPTIMIZERS = _registry('OPTIMIZERS', 'mmps')
OPTIM_WRAPPERS = _registry('OPTIM_WRAPPERS', 'mmps')
OPTIM_WRAPPER_CONSTRUCTORS = _registry('OPTIM_WRAPPER_CONSTRUCTORS', 'mmps')
PARAM_SCHEDULERS = _registry('PARAM_SCHEDULERS', 'mmps')
RUNNERS = _registry('RUNNERS', 'mmps')
RUNNER_CONSTRUCTORS = _registry('RUNNER_CONSTRUCTORS', 'mmps')
VISBACKENDS = _registry('VISBACKENDS', 'mmps')
WEIGHT_INITIALIZERS = _registry('WEIGHT_INITIALIZERS', 'mmps')


# Config names of earlier versions and their new names.
RENAMED = {
    'num_persons': 'num_identities',
    'normalise': 'normalize',
    'assess': 'refine_boxes',
    'look': 'run_dense_head',
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the end of an error message, ': did you mean A or B?', with the most similar names; '' if there are none.

    For a name of an earlier version it gives the new name.
    """
    names = sorted(set(known))
    if RENAMED.get(name) in names:
        return f': it is now called {RENAMED[name]}'
    last = name.split('.')[-1]
    near = difflib.get_close_matches(name, names, cutoff=0.5) or [each for each in names if last in each.split('.')]
    return f': did you mean {" or ".join(near[:3])}?' if near else ''
