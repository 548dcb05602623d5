"""The metric that MMEngine's test loop calls. It collects the predictions of all ranks, scores and saves them."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmps.fileio.atomic import write_atomic
from mmps.registry import METRICS

from .boxes import box_iou
from .candidates import Candidates
from .context import CBGM
from .detection import match_detections
from .predictions import Predictions, save_predictions
from .protocol import SearchProtocol
from .ranking import score_searches, upper_bound
from .search import Search, SearchResult
from .tables import detection_table, search_table

PREFIXES = {'search': '', 'full set': 'full_set_', 'with CBGM': 'cbgm_', 'ground-truth boxes': 'upper_bound_'}


@METRICS.register_module()
class PersonSearchMetric(BaseMetric):
    """Scores search (mAP, top-k) and detection (AP, recall) of a person-search test, as fractions in 0..1.

    The data set's metainfo has the :class:`SearchProtocol` as ``protocol``. Each data sample has

    - ``img_id``: its index in the data set, which is its index in the protocol's images;
    - ``pred_instances``: ``bboxes`` (N, 4), ``scores`` (N,), ``embeddings`` (N, D);
    - ``gt_instances``: ``bboxes`` (M, 4), ``person_ids`` (M,), -1 = unlabelled;
    - on images that carry queries, ``query_instances``: ``query_ids`` (q,), indices into the protocol's queries, and
      ``embeddings`` (q, D);
    - optionally ``ignored_instances``: ``bboxes`` (K, 4), neither persons nor background. Detections of them do
      not count.

    All boxes are x1 y1 x2 y2 in original-image pixels. Samples may come in any order, and more than once.

    After an evaluation the metric's attributes ``search`` (a :class:`SearchResult`) and ``predictions`` (a
    :class:`Predictions`) are set in the main process, for drawing.

    Args:
        score_thr: Detections of a lower score are neither searched nor counted. They are still collected and saved, so that
            the file can be scored with other thresholds. The model's ``test_cfg`` limits what it predicts at all.
        iou_thr: Least IoU at which a detection finds a person, for detection AP and recall.
        topk: The ranks k of top-k.
        cameras: The images to search: 'all', 'other' (cameras other than the query's, PRW's cross-camera setting), or the
            number of one camera.
        cbgm: Whether to score the search also with context bipartite graph matching. ``True`` uses the data set's k1 and k2
            (``cbgm`` in its metainfo); ``dict(k1=10, k2=3)`` sets them.
        full_set: Whether to search also in all images of the data set instead of each query's gallery.
        upper_bound: Whether to score the search also with ground-truth boxes instead of detections. Needs
            ``gt_instances.embeddings`` (M, D), which mmps's detectors return.
        outfile: Where to save the predictions (npz). :func:`load_predictions` reads the file.
        query_file: Where to save the search of each query (npz): ``ap`` (Q,) float32, its average precision, and
            ``first_ranks`` (Q,), the rank, from 1, of its first true positive, 0 = none; with ``full_set`` also
            ``full_set_ap`` (Q,) float32.
        collect_device, prefix, collect_dir: As in MMEngine's ``BaseMetric``.
    """

    default_prefix = 'search'
    results: list  # of samples, and inside evaluate() of one list of samples

    def __init__(
        self,
        score_thr: float = 0.5,
        iou_thr: float = 0.5,
        topk: Sequence[int] = (1, 5, 10),
        cameras: str | int = 'all',
        cbgm: bool | dict = False,
        full_set: bool = False,
        upper_bound: bool = False,
        outfile: str | None = None,
        query_file: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if isinstance(cameras, str) and cameras not in ('all', 'other'):
            raise ValueError(f"PersonSearchMetric: cameras: expected 'all', 'other' or a camera's number, got {cameras!r}")
        self.score_thr = score_thr
        self.iou_thr = iou_thr
        self.topk = tuple(topk)
        self.cameras = cameras
        self.cbgm = CBGM(**cbgm) if isinstance(cbgm, dict) else cbgm
        self.full_set = full_set
        self.upper_bound = upper_bound
        self.outfile = outfile
        self.query_file = query_file
        self.search: SearchResult | None = None
        self.predictions: Predictions | None = None

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Stores what the scores need from a batch's data samples.

        Raises:
            ValueError: A sample without one of the fields above.
        """
        for sample in data_samples:
            result: dict[str, Any] = {
                'img_id': int(sample['img_id']),
                'boxes': _array(sample, 'pred_instances', 'bboxes'),
                'scores': _array(sample, 'pred_instances', 'scores'),
                'embeddings': _array(sample, 'pred_instances', 'embeddings'),
                'gt_boxes': _array(sample, 'gt_instances', 'bboxes'),
                'gt_person_ids': _array(sample, 'gt_instances', 'person_ids').astype(np.int64),
            }
            if len(sample.get('ignored_instances', {}).get('bboxes', ())):
                kept = ~self._ignored(result, _array(sample, 'ignored_instances', 'bboxes'))
                result |= {name: result[name][kept] for name in ('boxes', 'scores', 'embeddings')}
            if self.upper_bound or 'embeddings' in sample['gt_instances']:
                result['gt_embeddings'] = _array(sample, 'gt_instances', 'embeddings')
            if len(sample.get('query_instances', {}).get('query_ids', ())):
                result['query_ids'] = _array(sample, 'query_instances', 'query_ids').astype(np.int64)
                result['query_embeddings'] = _array(sample, 'query_instances', 'embeddings')
                if len(result['query_ids']) != len(result['query_embeddings']):
                    raise ValueError(
                        f'image {result["img_id"]}: {len(result["query_ids"])} queries, but '
                        f'{len(result["query_embeddings"])} query embeddings'
                    )
            self.results.append(result)

    def _ignored(self, result: dict, ignored: np.ndarray) -> np.ndarray:
        """Returns (N,), True for the detections that show an ignored box (K, 4) and no person better."""
        best, best_person = (
            box_iou(result['boxes'][:, None], others[None]).max(axis=1, initial=0) for others in (ignored, result['gt_boxes'])
        )
        return (best >= self.iou_thr) & (best > best_person)

    def evaluate(self, size: int) -> dict[str, float]:
        """Gathers all results of all ranks and computes the metrics. Ranks may have different numbers of results.

        MMEngine interleaves the ranks' results and cuts them at ``size``, which is right only for its own padding sampler.
        Here samples are identified by ``img_id``, and repeated ones are dropped.
        """
        self.results = [self.results]  # one entry per rank
        try:
            return super().evaluate(get_world_size())
        finally:
            self.results = []

    def compute_metrics(self, results: list[list[dict]]) -> dict[str, float]:
        """Computes the scores over all images.

        Args:
            results: What :meth:`process` stored, one list per rank.

        Returns:
            ``mAP``, ``top-k`` for each k, the same with the prefixes ``full_set_``, ``cbgm_`` and ``upper_bound_`` if
            requested, ``det_AP``, ``det_recall`` and, for labelled persons only, ``det_AP_labelled``, ``det_recall_labelled``.

        Raises:
            ValueError: No protocol, or an image or query of it that was not predicted.
        """
        protocol = self._protocol()
        predictions = self.predictions = _assemble(protocol, list(itertools.chain.from_iterable(results)))
        if self.outfile is not None:
            save_predictions(self.outfile, predictions)
        scores = self._search(protocol, predictions)
        self.search = scores['search']
        if self.query_file is not None:
            with write_atomic(self.query_file) as file:
                arrays = {'ap': self.search.ap.astype(np.float32), 'first_ranks': self.search.first_ranks}
                if self.full_set:
                    arrays['full_set_ap'] = scores['full set'].ap.astype(np.float32)
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # NumPy's stub counts ** as its own keyword, too
        metrics = {}
        for name, result in scores.items():
            prefix = PREFIXES[name]
            metrics[f'{prefix}mAP'] = result.mAP
            metrics.update({f'{prefix}top-{k}': share for k, share in result.topk.items()})
        assert predictions.gt_boxes is not None and predictions.gt_person_ids is not None  # set by _assemble
        detection = {}
        for name, suffix, labelled in (
            ('all persons', '', None),
            ('labelled persons', '_labelled', [person_ids >= 0 for person_ids in predictions.gt_person_ids]),
        ):
            found = detection[name] = match_detections(
                predictions.boxes, predictions.scores, predictions.gt_boxes, labelled, self.score_thr
            ).at(self.iou_thr)
            metrics[f'det_AP{suffix}'], metrics[f'det_recall{suffix}'] = found['ap'], found['recall']
        print_log(
            f'{protocol.num_queries} queries in {len(protocol.images)} images, per cent\n\n{search_table(scores)}\n\n'
            f'{detection_table(detection)}\n',
            logger='current',
        )
        return metrics

    def _search(self, protocol: SearchProtocol, predictions: Predictions) -> dict[str, SearchResult]:
        queries = predictions.query_embeddings
        searches = {'search': Search(protocol, cameras=self.cameras)}
        if self.full_set:
            searches['full set'] = Search(protocol.in_all_images(), cameras=self.cameras)
        if self.cbgm:
            searches['with CBGM'] = Search(protocol, cameras=self.cameras, cbgm=self._cbgm())
        candidates = Candidates.from_lists(
            protocol, predictions.boxes, predictions.scores, predictions.embeddings, queries.shape[1], self.score_thr
        )
        results = score_searches(searches, candidates, queries, self.topk)
        if self.upper_bound:
            results['ground-truth boxes'] = upper_bound(protocol, predictions, self.topk, self.cameras)
        return results

    def _cbgm(self) -> CBGM:
        if isinstance(self.cbgm, CBGM):
            return self.cbgm
        if 'cbgm' not in self.dataset_meta:
            raise ValueError(
                "PersonSearchMetric: the data set's metainfo has no k1 and k2 for CBGM; expected cbgm=dict(k1=..., k2=...)"
            )
        return CBGM(**self.dataset_meta['cbgm'])

    def _protocol(self) -> SearchProtocol:
        protocol = (self.dataset_meta or {}).get('protocol')
        if not isinstance(protocol, SearchProtocol):
            raise ValueError(
                'PersonSearchMetric needs the search protocol: put a SearchProtocol into the metainfo '
                f"of the test data set, as 'protocol' (found {type(protocol).__name__})"
            )
        return protocol


def _array(sample: dict, instances: str, name: str) -> np.ndarray:
    """Returns one field of a data sample as an array of float32 or integers. Accepts half precision and box classes."""
    if name not in sample.get(instances, {}):
        raise ValueError(
            f'image {sample.get("img_id")}: its data sample has no {instances}.{name}, which PersonSearchMetric needs'
        )
    value = sample[instances][name]
    value = torch.as_tensor(getattr(value, 'tensor', value)).detach().cpu()
    # Copied, because shared memory of a data worker keeps a file handle open.
    return (value.float() if value.is_floating_point() else value).numpy().copy()


def _assemble(protocol: SearchProtocol, results: list[dict]) -> Predictions:
    """Sorts the results into the protocol's order, each image and query once."""
    by_image: dict[int, dict] = {}
    for result in results:
        by_image.setdefault(result['img_id'], result)
    images = protocol.images
    for index in by_image:
        if not 0 <= index < len(images):
            raise ValueError(f"img_id {index} is not one of the protocol's {len(images)} images")
    for index, name in enumerate(images):
        if index not in by_image:
            raise ValueError(
                f'image {name!r} (img_id {index}) was not predicted: the test must run over all '
                f'{len(images)} images of the protocol'
            )
    ordered = [by_image[index] for index in range(len(images))]
    embedding_of: dict[int, np.ndarray] = {}
    for result in ordered:
        embedding_of.update(
            zip(result.get('query_ids', np.zeros(0, int)).tolist(), result.get('query_embeddings', ()), strict=True)
        )
    for query in range(protocol.num_queries):
        if query not in embedding_of:
            raise ValueError(
                f'{protocol.describe(query)} got no embedding: its data sample needs query_instances with query_id {query}'
            )
    queries = np.stack([embedding_of[query] for query in range(protocol.num_queries)])
    lists: dict[str, Any] = {
        name: [result[name] for result in ordered] for name in ('boxes', 'scores', 'embeddings', 'gt_boxes', 'gt_person_ids')
    }
    if all('gt_embeddings' in result for result in ordered):
        lists['gt_embeddings'] = [result['gt_embeddings'] for result in ordered]
    return Predictions(
        images=images,
        query_embeddings=queries,
        query_images=tuple(images[image] for image in protocol.query_images),
        query_boxes=protocol.query_boxes,
        **lists,
    )
