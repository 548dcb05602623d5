from .persons import boxes_beside, jitter_boxes, person_boxes, with_area

__all__ = ['boxes_beside', 'jitter_boxes', 'person_boxes', 'with_area']
