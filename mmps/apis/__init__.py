"""What a user calls from Python: searches, scores of predictions, a teacher's cached embeddings, converted checkpoints."""

from importlib import import_module
from typing import Any

from .converters import convert_checkpoint
from .scoring import Scores, build_test_set, score, write_scores
from .teacher_cache import cache_teacher

# Imported when they are asked for: they need Milvus, which an extra installs.
SEARCH = {
    'Gallery': 'gallery',
    'PersonSearchInferencer': 'inferencer',
    'Where': 'sightings',
    'appearances': 'appearances',
    'write_found': 'found',
}

__all__ = [
    'Gallery',
    'PersonSearchInferencer',
    'Scores',
    'Where',
    'appearances',
    'build_test_set',
    'cache_teacher',
    'convert_checkpoint',
    'score',
    'write_found',
    'write_scores',
]


def __getattr__(name: str) -> Any:
    if name not in SEARCH:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{SEARCH[name]}', __name__), name)
