"""The metric of a search in which every query has its own detections."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.logging import print_log

from mmps.registry import METRICS

from .metric import PersonSearchMetric
from .protocol import SearchProtocol
from .query_search import asked_pairs, score_query_search
from .tables import search_table


@METRICS.register_module()
class QuerySearchMetric(PersonSearchMetric):
    """Scores a search with query-dependent detections beside the ordinary one, for ``QuerySearchLoop``.

    The ordinary scores keep their names; those of the guided search are ``query_mAP`` and ``query_top-k``.
    """

    def asked(self) -> np.ndarray:
        """Returns a mask (Q, G) of the pairs of query and image to search."""
        return asked_pairs(self._protocol(), self.cameras)

    def process_pairs(self, img_id: int, queries: Sequence[int], results: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Stores an image's confident detections for all its queries.

        Args:
            results: For each query ``bboxes`` (N, 4) in original-image pixels, ``scores`` (N,) and ``similarities`` (N,).
        """
        kept = [result['scores'] >= self.score_thr for result in results]
        fields = {
            name: np.concatenate([result[name][mask] for result, mask in zip(results, kept, strict=True)])
            for name in ('bboxes', 'similarities')
        }
        counts = [np.count_nonzero(mask) for mask in kept]
        self.results.append(dict(img_id=int(img_id), searched=np.array(queries), counts=np.array(counts), **fields))

    def compute_metrics(self, results: list[list[dict]]) -> dict[str, float]:
        """Computes the scores of both searches.

        Raises:
            ValueError: As the ordinary metric, and if a pair of query and gallery image was not searched.
        """
        pairs: dict[int, dict] = {}  # by image; repeated images are dropped
        for each in itertools.chain.from_iterable(results):
            if 'searched' in each:
                pairs.setdefault(each['img_id'], each)
        metrics = super().compute_metrics([[each for each in of_rank if 'searched' not in each] for of_rank in results])
        protocol, found = self._protocol(), list(pairs.values())
        self._check_all_searched(protocol, found)
        queries, boxes, similarities = (
            np.concatenate(arrays)
            for arrays in (
                [np.repeat(each['searched'], each['counts']) for each in found],
                [each['bboxes'] for each in found],
                [each['similarities'] for each in found],
            )
        )
        images = np.repeat(list(pairs), [len(each['bboxes']) for each in found])
        guided = score_query_search(protocol, queries, images, boxes, similarities, self.topk, self.cameras)
        table = search_table({'each query with its own detections': guided})
        print_log(f'per cent\n\n{table}\n', logger='current')
        return metrics | {'query_mAP': guided.mAP} | {f'query_top-{k}': share for k, share in guided.topk.items()}

    def _check_all_searched(self, protocol: SearchProtocol, found: Sequence[dict]) -> None:
        missing = self.asked()
        for each in found:
            missing[each['searched'], each['img_id']] = False
        for query, image in np.argwhere(missing)[:1]:
            raise ValueError(
                f'{protocol.describe(query)} was not searched in {protocol.images[image]!r}: '
                "QuerySearchMetric needs test_cfg=dict(type='QuerySearchLoop')"
            )
