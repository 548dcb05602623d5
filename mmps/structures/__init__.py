from .persons import jitter_boxes, person_boxes

__all__ = ['jitter_boxes', 'person_boxes']
