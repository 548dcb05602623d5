from .base import Teacher
from .cached import CachedTeacher
from .detector import DetectorTeacher
from .student_itself import StudentItself

__all__ = ['CachedTeacher', 'DetectorTeacher', 'StudentItself', 'Teacher']
