from .person_search_roi_head import PersonSearchRoIHead

__all__ = ['PersonSearchRoIHead']
