from .persons import jitter_boxes, person_boxes, person_ids

__all__ = ['jitter_boxes', 'person_boxes', 'person_ids']
