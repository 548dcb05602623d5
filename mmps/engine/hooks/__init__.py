from .identity_hook import IdentityHook
from .invalid_loss_hook import StopOnInvalidLossHook
from .lookup_table_hook import LookupTableHook
from .search_visualization_hook import SearchVisualizationHook

__all__ = ['IdentityHook', 'LookupTableHook', 'SearchVisualizationHook', 'StopOnInvalidLossHook']
