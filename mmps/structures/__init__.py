from .persons import jitter_boxes, person_boxes, sample_background_boxes, with_area

__all__ = ['jitter_boxes', 'person_boxes', 'sample_background_boxes', 'with_area']
