from . import losses, recorders
from .algorithm import PersonSearchDistill
from .cache import CachedTeacher

__all__ = ['CachedTeacher', 'PersonSearchDistill', 'losses', 'recorders']
