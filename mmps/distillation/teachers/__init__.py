from .cached import CachedTeacher

__all__ = ['CachedTeacher']
