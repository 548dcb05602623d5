from .detection import BoundedRegressionLoss, SoftTargetLoss
from .embedding import EmbeddingLoss, RelationDivergenceLoss, RelationLoss, ResponseLoss, TripletRelationLoss
from .feature import PersonFeatureLoss
from .focal_global import FGDLoss

__all__ = [
    'BoundedRegressionLoss',
    'EmbeddingLoss',
    'FGDLoss',
    'PersonFeatureLoss',
    'RelationDivergenceLoss',
    'RelationLoss',
    'ResponseLoss',
    'SoftTargetLoss',
    'TripletRelationLoss',
]
