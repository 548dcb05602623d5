"""Draws searches and their scores as pictures: uint8 (H, W, 3), RGB."""

from .charts import (
    draw_accuracy,
    draw_camera_pairs,
    draw_detection_by_height,
    draw_gains,
    draw_gallery_sizes,
    draw_learning,
    draw_losses,
    draw_precision_recall,
    draw_similarities,
)
from .ranked_results import Crop, SearchRow, draw_rows, failure_rows, search_rows
from .report import write_search_report
from .sheet import write_picture
from .visualizer import SearchVisualizer

__all__ = [
    'Crop',
    'SearchRow',
    'SearchVisualizer',
    'draw_accuracy',
    'draw_camera_pairs',
    'draw_detection_by_height',
    'draw_gains',
    'draw_gallery_sizes',
    'draw_learning',
    'draw_losses',
    'draw_precision_recall',
    'draw_rows',
    'draw_similarities',
    'failure_rows',
    'search_rows',
    'write_picture',
    'write_search_report',
]
