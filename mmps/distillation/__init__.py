from . import losses, recorders
from .algorithm import PersonSearchDistill
from .distiller import PersonSearchDistiller
from .teachers import CachedTeacher

__all__ = ['CachedTeacher', 'PersonSearchDistill', 'PersonSearchDistiller', 'losses', 'recorders']
