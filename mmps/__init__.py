"""Person search with unified distillation for OpenMMLab. Importing it registers every module of the package."""

from . import compat  # isort: skip  # first: it lets the other imports work
from mmdet.utils import register_all_modules

from . import datasets, distillation, engine, evaluation, models, visualization
from .version import __version__

register_all_modules(init_default_scope=False)  # MMDetection's names are valid in mmps's scope

__all__ = ['__version__', 'compat', 'datasets', 'distillation', 'engine', 'evaluation', 'models', 'visualization']
