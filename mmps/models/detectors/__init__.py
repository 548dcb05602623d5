from .two_stage import TwoStagePersonSearch

__all__ = ['TwoStagePersonSearch']
