"""Scores a person search: protocol -> ranking -> detection -> metric."""
from .candidates import Candidates, match_targets, overlap_threshold
from .detection import average_precision, detection_scores
from .histogram import colour_histogram
from .metric import PersonSearchMetric
from .predictions import Predictions, load_predictions, save_predictions
from .protocol import SearchProtocol
from .ranking import RankedDetections, SearchResult, search_scores, similarity_blocks, stable_ranks, top_detections

__all__ = [
    'Candidates', 'PersonSearchMetric', 'Predictions', 'RankedDetections', 'SearchProtocol', 'SearchResult',
    'average_precision', 'colour_histogram', 'detection_scores', 'load_predictions', 'match_targets',
    'overlap_threshold', 'save_predictions', 'search_scores', 'similarity_blocks', 'stable_ranks', 'top_detections',
]
