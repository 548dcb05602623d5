from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import TestLoop
from mmengine.runner.amp import autocast
from mmengine.structures import InstanceData

from mmps.evaluation import QuerySearchMetric
from mmps.registry import LOOPS


@LOOPS.register_module()
class QuerySearchLoop(TestLoop):
    """Searches every gallery image for every query, with a detector such as :class:`mmps.models.detectors.QEEPS`.

    First it describes all queries, then it searches each image for all its queries, and then it runs the ordinary test. So
    every image goes through the backbone at most three times. The heads run once per pair, and this takes nearly all the time:
    2,900 x 100 pairs on CUHK-SYSU, 2,057 x 6,111 on PRW. All descriptions are kept in the host's memory, and no maps.

    Args:
        pairs_per_step: How many queries an image is searched for at once. More need more memory.

    Raises:
        ValueError: The evaluator has no :class:`QuerySearchMetric`.
    """

    def __init__(self, *args: Any, pairs_per_step: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pairs_per_step = pairs_per_step
        self.metrics = [metric for metric in self.evaluator.metrics if isinstance(metric, QuerySearchMetric)]
        if not self.metrics:
            raise ValueError("QuerySearchLoop: test_evaluator: expected type='QuerySearchMetric'")

    def run(self) -> dict[str, float]:
        runner = self.runner
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')  # EMAHook puts its weights in place
        self.model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.model.eval()
        with torch.no_grad(), autocast(enabled=self.fp16):
            self.search(self.describe())
        for index, batch in enumerate(self.dataloader):
            self.run_iter(index, batch)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        runner.call_hook('after_test_epoch', metrics=metrics)
        runner.call_hook('after_test')
        return metrics

    def describe(self) -> dict[int, InstanceData]:
        """Returns all queries' descriptions by query id, on the CPU, gathered from all ranks."""
        described: dict[int, InstanceData] = {}
        for batch in self.dataloader:
            data = self.model.data_preprocessor(batch, False)
            samples = data['data_samples']
            given = [each.get('query_instances') for each in samples]
            if not any(given):
                continue
            boxes = [
                data['inputs'].new_zeros(0, 4)
                if each is None
                else each.bboxes * each.bboxes.new_tensor(sample.scale_factor).repeat(2)
                for each, sample in zip(given, samples, strict=True)
            ]
            queries = self.model.describe_queries(self.model.extract_feat(data['inputs']), samples, boxes).cpu()
            ids = torch.cat([each.query_ids for each in given if each is not None]).tolist()
            for row, query in enumerate(ids):  # copies: a view would be sent to other ranks with the whole batch
                described[query] = InstanceData(**{name: each.clone() for name, each in queries[row].items()})
        return {query: each for of_rank in all_gather_object(described) for query, each in of_rank.items()}

    def search(self, queries: dict[int, InstanceData]) -> None:
        """Searches this rank's images for all their queries and gives the detections to the metrics."""
        asked = np.logical_or.reduce([metric.asked() for metric in self.metrics])
        for step, batch in enumerate(self.dataloader):
            data = self.model.data_preprocessor(batch, False)
            feats = self.model.extract_feat(data['inputs'])
            for image, sample in enumerate(data['data_samples']):
                wanted = np.flatnonzero(asked[:, sample.img_id]).tolist()
                found = []
                for start in range(0, len(wanted), self.pairs_per_step):
                    part = wanted[start : start + self.pairs_per_step]
                    results = self.model.search(
                        tuple(level[image : image + 1].expand(len(part), -1, -1, -1) for level in feats),
                        [sample] * len(part),
                        InstanceData.cat([queries[query] for query in part]).to(feats[0].device),
                    )
                    for each in results:
                        found.append({name: each[name].float().cpu().numpy() for name in ('bboxes', 'scores', 'similarities')})
                for metric in self.metrics if wanted else ():
                    metric.process_pairs(sample.img_id, wanted, found)
            if step % 50 == 0:
                print_log(f'Searched {step + 1} of {len(self.dataloader)} batches of gallery images', 'current')
