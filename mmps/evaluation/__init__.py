"""Scores a person search. The order of its modules is protocol, ranking (and context), detection, metric."""

from .candidates import Candidates, match_targets, overlap_threshold
from .context import CBGM
from .curves import precision_recall
from .detection import DetectionMatches, average_precision, detection_scores, match_detections
from .failures import explain, worst_queries
from .histogram import colour_histogram
from .interval import mean_interval, seed_query_interval
from .metric import PersonSearchMetric
from .predictions import Predictions, load_predictions, save_predictions
from .protocol import SearchProtocol
from .query_metric import QuerySearchMetric
from .query_search import score_query_search
from .ranking import (
    score_searches,
    search_scores,
    similarity_histograms,
    stable_ranks,
    top_detections,
    upper_bound,
)
from .search import RankedDetections, Search, SearchResult
from .seqnet_cache import load_seqnet_cache
from .similarity import NumPyProduct, TorchProduct

__all__ = [
    'CBGM',
    'Candidates',
    'DetectionMatches',
    'NumPyProduct',
    'PersonSearchMetric',
    'Predictions',
    'QuerySearchMetric',
    'RankedDetections',
    'Search',
    'SearchProtocol',
    'SearchResult',
    'TorchProduct',
    'average_precision',
    'colour_histogram',
    'detection_scores',
    'explain',
    'load_predictions',
    'load_seqnet_cache',
    'match_detections',
    'match_targets',
    'mean_interval',
    'overlap_threshold',
    'precision_recall',
    'save_predictions',
    'score_query_search',
    'score_searches',
    'search_scores',
    'seed_query_interval',
    'similarity_histograms',
    'stable_ranks',
    'top_detections',
    'upper_bound',
    'worst_queries',
]
