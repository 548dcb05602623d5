from .base import Teacher
from .cached import CachedTeacher
from .detector import DetectorTeacher
from .student_itself import StudentItself
from .teaching_head import TeachingHead

__all__ = ['CachedTeacher', 'DetectorTeacher', 'StudentItself', 'Teacher', 'TeachingHead']
