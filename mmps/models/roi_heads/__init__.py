from .norm_aware_roi_head import NormAwareRoIHead
from .person_search_roi_head import PersonSearchRoIHead
from .roi_features import PooledResLayer, RoIFCs
from .sequential_roi_head import SequentialRoIHead

__all__ = ['NormAwareRoIHead', 'PersonSearchRoIHead', 'PooledResLayer', 'RoIFCs', 'SequentialRoIHead']
