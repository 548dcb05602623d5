from .embedding import RelationLoss, ResponseLoss
from .feature import PersonFeatureLoss

__all__ = ['PersonFeatureLoss', 'RelationLoss', 'ResponseLoss']
