"""What a user calls from Python: scores of predictions, a teacher's cached embeddings, converted checkpoints."""

from .converters import convert_checkpoint
from .scoring import Scores, build_test_set, score, write_scores
from .teacher_cache import cache_teacher

__all__ = ['Scores', 'build_test_set', 'cache_teacher', 'convert_checkpoint', 'score', 'write_scores']
