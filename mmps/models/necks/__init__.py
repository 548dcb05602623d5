from .aligned_aggregation import AlignedFeatureAggregation

__all__ = ['AlignedFeatureAggregation']
