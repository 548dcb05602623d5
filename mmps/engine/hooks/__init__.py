from .identity_hook import IdentityHook
from .invalid_loss_hook import StopOnInvalidLossHook
from .search_visualization_hook import SearchVisualizationHook

__all__ = ['IdentityHook', 'SearchVisualizationHook', 'StopOnInvalidLossHook']
