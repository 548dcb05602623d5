from .alignps import AlignPS
from .two_stage import TwoStagePersonSearch

__all__ = ['AlignPS', 'TwoStagePersonSearch']
