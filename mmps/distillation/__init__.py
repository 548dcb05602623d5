from . import losses, recorders
from .algorithm import PersonSearchDistill

__all__ = ['PersonSearchDistill', 'losses', 'recorders']
