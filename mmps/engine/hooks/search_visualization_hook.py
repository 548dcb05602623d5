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
    """Draws the search that a test, or a validation, has just scored, with :class:`SearchVisualizer`.

    Args:
        draw: Whether anything is drawn.
        interval: Validations from one drawing to the next. A test is always drawn.
        num_queries: How many queries are shown, spread evenly.
        num_failures: How many of the queries of the lowest AP are shown.
        topk: How many detections are shown of each.
        test_out_dir: Write a test's pictures to this folder; by default the visualizer's backends get them.

    Raises:
        ValueError: Another visualizer, or an evaluator without :class:`PersonSearchMetric`.
    """

    priority = 'LOWEST'  # a picture that cannot be drawn costs neither scores nor checkpoint

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
    def _draw(self, runner: Runner, loop: BaseLoop, **kwargs) -> None:
        if not isinstance(runner.visualizer, SearchVisualizer):
            raise ValueError(
                "SearchVisualizationHook needs visualizer = dict(type='SearchVisualizer', ...), "
                f'got {type(runner.visualizer).__name__}'
            )
        metric = next((metric for metric in loop.evaluator.metrics if isinstance(metric, PersonSearchMetric)), None)
        if metric is None:
            raise ValueError('SearchVisualizationHook needs a PersonSearchMetric in the evaluator')
        dataset, predictions = loop.dataloader.dataset, metric.predictions
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
            Search(protocol, cameras=metric.cameras), metric.search, candidates, predictions.query_embeddings
        )
        image_paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
        runner.visualizer.add_search(
            protocol,
            predictions,
            metric.search,
            image_paths,
            histograms,
            **self.shown,
            score_thr=metric.score_thr,
            cameras=metric.cameras,
            **kwargs,
        )
