from .due_validation_hook import DueValidationHook
from .identity_hook import IdentityHook
from .invalid_loss_hook import StopOnInvalidLossHook
from .lookup_table_hook import LookupTableHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .search_visualization_hook import SearchVisualizationHook
from .seed_hook import SeedHook
from .skipped_step_hook import SkippedStepHook

__all__ = [
    'DueValidationHook',
    'IdentityHook',
    'LookupTableHook',
    'SafeCheckpointHook',
    'SearchVisualizationHook',
    'SeedHook',
    'SkippedStepHook',
    'StopOnInvalidLossHook',
]
