"""mmps's registries, scope ``mmps``.

Each is a child of MMDetection's registry of the same kind, so that under ``default_scope = 'mmps'`` a config names mmps's and
MMDetection's modules without a prefix (MMRazor's need ``mmrazor.``). Each is also entered at MMEngine's root, so that any
scope reaches it as ``mmps.Name``; looking a name up imports the module that registers it.
"""
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
TRANSFORMS = _registry('TRANSFORMS', 'mmps.datasets')
METRICS = _registry('METRICS', 'mmps.evaluation')
HOOKS = _registry('HOOKS', 'mmps.engine')
# Nothing of ours yet: they are here so that MMDetection's names are found in mmps's scope.
DATA_SAMPLERS = _registry('DATA_SAMPLERS', 'mmps')
LOOPS = _registry('LOOPS', 'mmps')
OPTIM_WRAPPER_CONSTRUCTORS = _registry('OPTIM_WRAPPER_CONSTRUCTORS', 'mmps')
PARAM_SCHEDULERS = _registry('PARAM_SCHEDULERS', 'mmps')
VISBACKENDS = _registry('VISBACKENDS', 'mmps')
VISUALIZERS = _registry('VISUALIZERS', 'mmps')
