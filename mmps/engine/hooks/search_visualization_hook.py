from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from mmps.evaluation.candidates import Candidates
from mmps.evaluation.metric import PersonSearchMetric
from mmps.evaluation.ranking import similarity_histograms
from mmps.evaluation.search import Search
from mmps.registry import HOOKS
from mmps.visualization import SearchVisualizer


@HOOKS.register_module()
class SearchVisualizationHook(Hook):
    """Draws the search after a test or validation, with :class:`SearchVisualizer`.

    Args:
        draw: Whether to draw.
        interval: Number of validations per drawing. Tests are always drawn.
        num_queries: How many queries to show, spread evenly.
        num_failures: How many of the queries with the lowest AP to show.
        topk: How many detections to show per query.
        test_out_dir: Folder for the pictures of a test; None = they go to the backends of the visualizer.

    Raises:
        ValueError: The visualizer is another class, or the evaluator has no :class:`PersonSearchMetric`.
    """

    priority = 'LOWEST'  # last, so that an error while drawing loses neither scores nor checkpoint

    def __init__(
        self,
        draw: bool = False,
        interval: int = 1,
        num_queries: int = 12,
        num_failures: int = 8,
        topk: int = 5,
        test_out_dir: str | None = None,
    ) -> None:
        self.draw = draw
        self.interval = interval
        self.test_out_dir = test_out_dir
        self.shown = dict(num_queries=num_queries, num_failures=num_failures, topk=topk)
        self.num_validations = 0

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.num_validations += 1
        if self.draw and self.num_validations % self.interval == 0:
            self._draw(runner, runner.val_loop, step=runner.iter)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self.draw:
            self._draw(runner, runner.test_loop, out_dir=self.test_out_dir)
            if self.test_out_dir is not None:
                runner.logger.info(f'Pictures of the search: {self.test_out_dir}')

    @master_only
    def _draw(self, runner: Runner, loop: BaseLoop, **kwargs: Any) -> None:
        if not isinstance(runner.visualizer, SearchVisualizer):
            raise ValueError(
                "SearchVisualizationHook needs visualizer = dict(type='SearchVisualizer', ...), "
                f'got {type(runner.visualizer).__name__}'
            )
        metric = next((metric for metric in loop.evaluator.metrics if isinstance(metric, PersonSearchMetric)), None)
        if metric is None:
            raise ValueError('SearchVisualizationHook needs a PersonSearchMetric in the evaluator')
        dataset, predictions, result = loop.dataloader.dataset, metric.predictions, metric.search
        assert predictions is not None and result is not None  # the evaluation has just set them
        protocol = dataset.metainfo['protocol']
        candidates = Candidates.from_lists(
            protocol,
            predictions.boxes,
            predictions.scores,
            predictions.embeddings,
            predictions.query_embeddings.shape[1],
            metric.score_thr,
        )
        histograms = similarity_histograms(
            Search(protocol, cameras=metric.cameras), result, candidates, predictions.query_embeddings
        )
        image_paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
        runner.visualizer.add_search(
            protocol,
            predictions,
            result,
            image_paths,
            histograms,
            **self.shown,
            score_thr=metric.score_thr,
            cameras=metric.cameras,
            **kwargs,
        )
