from . import losses, recorders
from .algorithm import PersonSearchDistill
from .teachers import CachedTeacher

__all__ = ['CachedTeacher', 'PersonSearchDistill', 'losses', 'recorders']
