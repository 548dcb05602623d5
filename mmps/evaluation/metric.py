"""The metric that MMEngine's test loop calls: collects predictions from every rank, scores them, writes them down."""
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmps.registry import METRICS

from .detection import detection_scores
from .predictions import Predictions, save_predictions
from .protocol import SearchProtocol
from .ranking import SearchResult, search_scores


@METRICS.register_module()
class PersonSearchMetric(BaseMetric):
    """Search (mAP, top-k) and detection (AP, recall) of a person-search test, as fractions in 0..1.

    The data set's metainfo holds the :class:`SearchProtocol` as ``protocol``. Each data sample holds

    - ``img_id``: its index in the data set, which is its index in the protocol's images;
    - ``pred_instances``: ``bboxes`` (N, 4), ``scores`` (N,), ``embeddings`` (N, D);
    - ``gt_instances``: ``bboxes`` (M, 4), ``person_ids`` (M,), -1 = unlabelled;
    - on images that carry queries, ``query_instances``: ``query_ids`` (q,), indices into the protocol's queries, and
      ``embeddings`` (q, D);

    all boxes x1 y1 x2 y2 in original-image pixels. Samples may come in any order, and more than once.

    After an evaluation the main process finds ``search`` (a :class:`SearchResult`) and ``predictions`` (a
    :class:`Predictions`) on the metric, for drawing.

    Args:
        score_thr: Detections of a lower score are dropped at once: neither scored, nor collected, nor written.
        iou_thr: Overlap from which a detection finds a person, for detection AP and recall.
        topk: The ranks k of top-k.
        other_cameras: Search only images of other cameras than the query's (PRW's cross-camera setting).
        outfile: Where to write the predictions (npz); :func:`load_predictions` reads it.
        collect_device, prefix, collect_dir: As in MMEngine's ``BaseMetric``.
    """

    default_prefix = 'search'

    def __init__(self, score_thr: float = 0.5, iou_thr: float = 0.5, topk: Sequence[int] = (1, 5, 10),
                 other_cameras: bool = False, outfile: str | None = None, collect_device: str = 'cpu',
                 prefix: str | None = None, collect_dir: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.score_thr = score_thr
        self.iou_thr = iou_thr
        self.topk = tuple(topk)
        self.other_cameras = other_cameras
        self.outfile = outfile
        self.search: SearchResult | None = None
        self.predictions: Predictions | None = None

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keeps what the scores need of a batch's data samples.

        Raises:
            ValueError: A sample without one of the fields above.
        """
        for sample in data_samples:
            scores = _array(sample, 'pred_instances', 'scores')
            confident = scores >= self.score_thr
            result = {
                'img_id': int(sample['img_id']),
                'boxes': _array(sample, 'pred_instances', 'bboxes')[confident],
                'scores': scores[confident],
                'embeddings': _array(sample, 'pred_instances', 'embeddings')[confident],
                'gt_boxes': _array(sample, 'gt_instances', 'bboxes'),
                'gt_person_ids': _array(sample, 'gt_instances', 'person_ids').astype(np.int64),
            }
            if len(sample.get('query_instances', {}).get('query_ids', ())):
                result['query_ids'] = _array(sample, 'query_instances', 'query_ids').astype(np.int64)
                result['query_embeddings'] = _array(sample, 'query_instances', 'embeddings')
                if len(result['query_ids']) != len(result['query_embeddings']):
                    raise ValueError(f'image {result["img_id"]}: {len(result["query_ids"])} queries, but '
                                     f'{len(result["query_embeddings"])} query embeddings')
            self.results.append(result)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Scores the whole pool.

        Returns:
            ``mAP``, ``top-k`` for each k, ``det_AP``, ``det_recall`` and, over labelled persons, ``det_AP_labelled``,
            ``det_recall_labelled``.

        Raises:
            ValueError: No protocol, or an image or query of it that was not predicted.
        """
        protocol = self._protocol()
        predictions = self.predictions = _assemble(protocol, results)
        detections = (predictions.boxes, predictions.scores)
        self.search = search_scores(protocol, *detections, predictions.embeddings, predictions.query_embeddings,
                                    self.score_thr, self.topk, self.other_cameras)
        labelled = [person_ids >= 0 for person_ids in predictions.gt_person_ids]
        metrics = {'mAP': self.search.mAP, **{f'top-{k}': share for k, share in self.search.topk.items()}}
        for suffix, mask in (('', None), ('_labelled', labelled)):
            found = detection_scores(*detections, predictions.gt_boxes, mask, self.score_thr, self.iou_thr)
            metrics[f'det_AP{suffix}'], metrics[f'det_recall{suffix}'] = found['ap'], found['recall']
        if self.outfile is not None:
            save_predictions(self.outfile, predictions)
        print_log(_table(protocol, metrics), logger='current')
        return metrics

    def _protocol(self) -> SearchProtocol:
        protocol = (self.dataset_meta or {}).get('protocol')
        if not isinstance(protocol, SearchProtocol):
            raise ValueError('PersonSearchMetric needs the search protocol: put a SearchProtocol into the metainfo '
                             f"of the test data set, as 'protocol' (found {type(protocol).__name__})")
        return protocol


def _array(sample: dict, instances: str, name: str) -> np.ndarray:
    """One field of a data sample, as float32 or whole numbers; half precision is widened, box classes are opened."""
    if name not in sample.get(instances, {}):
        raise ValueError(f'image {sample.get("img_id")}: its data sample has no {instances}.{name}, '
                         'which PersonSearchMetric needs')
    value = sample[instances][name]
    value = torch.as_tensor(getattr(value, 'tensor', value)).detach().cpu()
    return (value.float() if value.is_floating_point() else value).numpy()


def _assemble(protocol: SearchProtocol, results: list[dict]) -> Predictions:
    """The results in the protocol's order, each image and query once."""
    by_image = {}
    for result in results:
        by_image.setdefault(result['img_id'], result)
    images = protocol.images
    for index in by_image:
        if not 0 <= index < len(images):
            raise ValueError(f"img_id {index} is not one of the protocol's {len(images)} images")
    for index, name in enumerate(images):
        if index not in by_image:
            raise ValueError(f'image {name!r} (img_id {index}) was not predicted: the test must run over all '
                             f'{len(images)} images of the protocol')
    ordered = [by_image[index] for index in range(len(images))]
    of_query = {}
    for result in ordered:
        of_query.update(zip(result.get('query_ids', np.zeros(0, int)).tolist(), result.get('query_embeddings', ()),
                            strict=True))
    for query in range(protocol.num_queries):
        if query not in of_query:
            raise ValueError(f'{protocol.describe(query)} got no embedding: its data sample needs query_instances '
                             f'with query_id {query}')
    queries = np.stack([of_query[query] for query in range(protocol.num_queries)])
    lists = {name: [result[name] for result in ordered]
             for name in ('boxes', 'scores', 'embeddings', 'gt_boxes', 'gt_person_ids')}
    return Predictions(images=images, query_embeddings=queries, **lists)


def _table(protocol: SearchProtocol, metrics: dict[str, float]) -> str:
    """The scores in per cent, one column each."""
    widths = [max(len(name), 6) for name in metrics]
    head = ' | '.join(f'{name:>{width}}' for name, width in zip(metrics, widths, strict=True))
    body = ' | '.join(f'{value * 100:{width}.2f}' for value, width in zip(metrics.values(), widths, strict=True))
    return f'{protocol.num_queries} queries in {len(protocol.images)} images, per cent\n{head}\n{body}'
