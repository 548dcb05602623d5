from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.visualization import Visualizer

from mmps.evaluation.curves import precision_recall
from mmps.evaluation.failures import worst_queries
from mmps.evaluation.predictions import Predictions
from mmps.evaluation.protocol import SearchProtocol
from mmps.evaluation.search import SearchResult
from mmps.registry import VISUALIZERS

from .charts import draw_precision_recall, draw_similarities
from .ranked_results import draw_rows, failure_rows, search_rows
from .sheet import write_picture


@VISUALIZERS.register_module()
class SearchVisualizer(Visualizer):
    """Extends MMEngine's visualizer by drawings of person searches. The arguments are those of MMEngine."""

    @master_only
    def add_search(
        self,
        protocol: SearchProtocol,
        predictions: Predictions,
        result: SearchResult,
        image_paths: Sequence[str],
        histograms: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
        num_queries: int = 12,
        num_failures: int = 8,
        topk: int = 5,
        score_thr: float = 0.5,
        cameras: str | int = 'all',
        name: str = 'search',
        step: int = 0,
        out_dir: str | None = None,
    ) -> None:
        """Draws a search and passes the pictures to all backends, or writes them to a folder.

        - ``ranked_results``: some queries, their best detections and the targets that are not among them;
        - ``failures``: the queries with the lowest AP, their best detections and targets, and the reason of the failure;
        - ``precision_recall``: the mean curve of all queries;
        - ``similarities``: histograms of true positives and other detections, if ``histograms`` is given.

        Args:
            result: The scores of these predictions without re-ranking.
            image_paths: Paths of the G images of the protocol, in its order.
            histograms: Edges (bins + 1,), counts of true positives (bins,) and of other detections (bins,).
            num_queries: How many queries to show, spread evenly.
            num_failures: How many of the worst queries to show.
            topk: How many detections to show per query.
            score_thr, cameras: The values that the result was scored with.
            name: Name of the search in the legend of the curve.
            step: Training step for the backends.
            out_dir: Folder for the files ``ranked_results.png`` and so on; then the backends get nothing.

        Raises:
            FileNotFoundError: An image to show cannot be read.
        """
        shown = np.unique(np.linspace(0, protocol.num_queries - 1, num_queries).round().astype(int)).tolist()
        worst = worst_queries(result, num_failures).tolist()
        pictures = {
            'ranked_results': draw_rows(
                search_rows(protocol, predictions, image_paths, shown, topk, score_thr, cameras, result)
            ),
            'failures': draw_rows(failure_rows(protocol, predictions, result, image_paths, worst, topk, score_thr, cameras)),
            'precision_recall': draw_precision_recall(
                {f'{name}: mAP {result.mAP * 100:.1f}': precision_recall(protocol, result)}
            ),
        }
        if histograms is not None:
            pictures['similarities'] = draw_similarities(*histograms)
        for kind, picture in pictures.items():
            if out_dir is None:
                self.add_image(kind, picture, step)
            else:
                write_picture(Path(out_dir) / f'{kind}.png', picture)
