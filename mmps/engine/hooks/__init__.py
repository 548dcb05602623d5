from .identity_hook import IdentityHook
from .invalid_loss_hook import StopOnInvalidLossHook

__all__ = ['IdentityHook', 'StopOnInvalidLossHook']
