"""Scores predictions by everything that their data set offers."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tqdm import tqdm

from mmps.datasets import PersonSearchDataset
from mmps.evaluation import (
    CBGM,
    Candidates,
    NumPyProduct,
    Predictions,
    Search,
    SearchResult,
    TorchProduct,
    match_detections,
    precision_recall,
    score_searches,
    similarity_histograms,
    upper_bound,
)
from mmps.evaluation.tables import Table, detection_table, per_cent, search_table
from mmps.registry import DATASETS
from mmps.visualization import (
    draw_camera_pairs,
    draw_detection_by_height,
    draw_gallery_sizes,
    draw_precision_recall,
    draw_similarities,
    write_picture,
)

UPPER_BOUND = 'ground-truth boxes'


@dataclass(frozen=True, eq=False)
class Scores:
    """Holds all scores of a set of predictions, as fractions.

    Attributes:
        headline: Name of the data set's usual search, such as 'gallery 100'.
        searches: The searches by name. The upper bound is not among them: it searches other boxes.
        results: The result of each search by the same name, and of the upper bound (the annotated boxes).
        detection: ``ap``, ``recall`` and ``persons`` by setting.
        by_height: ``ap``, ``recall`` and ``persons`` by the persons' heights (low, high), in pixels.
        histograms: Of the headline's similarities: bin edges, number of true positives and of other detections.
    """

    headline: str
    searches: dict[str, Search]
    results: dict[str, SearchResult]
    detection: dict[str, dict[str, float]]
    by_height: dict[tuple[float, float], dict[str, float]]
    histograms: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def camera_pairs(self) -> tuple[list[int], np.ndarray, np.ndarray] | None:
        """Cameras (C,), mAP (C, C) and number of queries (C, C).

        A row holds the queries from one camera, a column the images of one camera. mAP is NaN where no query has a target. The
        whole is ``None`` if the data set does not name its cameras.
        """
        by_camera = {search.cameras: name for name, search in self.searches.items() if isinstance(search.cameras, int)}
        if not by_camera:
            return None
        protocol = self.searches[self.headline].protocol
        cameras, owners = sorted(by_camera), protocol.cameras[protocol.query_images]
        scores, counts = np.full((len(cameras),) * 2, np.nan), np.zeros((len(cameras),) * 2, np.int64)
        for column, searched in enumerate(cameras):
            result = self.results[by_camera[searched]]
            for row, camera in enumerate(cameras):
                queries = (owners == camera) & (result.num_targets > 0)
                counts[row, column] = np.count_nonzero(queries)
                if counts[row, column]:
                    scores[row, column] = result.ap[queries].mean()
        return cameras, scores, counts

    def tables(self) -> dict[str, Table]:
        """Returns tables by their headings, in per cent."""
        by_name = {
            name: result
            for name, result in self.results.items()
            if name == UPPER_BOUND or isinstance(self.searches[name].cameras, str)
        }
        tables = {'Search': search_table(by_name)}
        if self.camera_pairs:
            cameras, scores, _ = self.camera_pairs
            rows = [[f'query from {camera}', *map(per_cent, row)] for camera, row in zip(cameras, scores, strict=True)]
            tables['mAP by camera'] = Table(['', *(f'in {camera}' for camera in cameras)], rows)
        tables['Detection'] = detection_table(self.detection)
        tables['Detection by height'] = detection_table({_height(*heights): found for heights, found in self.by_height.items()})
        return tables

    def text(self) -> str:
        """Returns all tables under their headings, as Markdown."""
        return '\n'.join(f'## {heading}\n\n{table}\n' for heading, table in self.tables().items())

    def charts(self) -> dict[str, np.ndarray]:
        """Draws the charts: pictures, uint8 (H, W, 3) RGB, by name."""
        sizes = {
            _gallery_size(search): {'mAP': self.results[name].mAP, 'top-1': self.results[name].topk[1]}
            for name, search in self.searches.items()
            if name.startswith('gallery') or name == 'full set'
            if search.cbgm is None
        }
        # Other gallery sizes have a chart of their own.
        shown = {
            name: search.protocol
            for name, search in self.searches.items()
            if isinstance(search.cameras, str)
            and (search.protocol is self.searches[self.headline].protocol or not name.startswith('gallery'))
        }
        charts = {
            'Precision and recall': draw_precision_recall(
                {name: precision_recall(protocol, self.results[name]) for name, protocol in shown.items()}
            )
        }
        charts['Similarities'] = draw_similarities(*self.histograms)
        if len(sizes) > 1:
            charts['Gallery size'] = draw_gallery_sizes({'': sizes})
        if self.camera_pairs:
            cameras, scores, counts = self.camera_pairs
            charts['Cameras'] = draw_camera_pairs(scores, counts, cameras)
        found = self.by_height.values()
        charts['Detection by height'] = draw_detection_by_height(
            [low for low, _ in self.by_height] + [list(self.by_height)[-1][1]],
            [f['recall'] for f in found],
            [f['ap'] for f in found],
            [int(f['persons']) for f in found],
        )
        return charts

    def as_dict(self) -> dict:
        """Returns the scores as fractions, for JSON."""
        scores = {
            'headline': self.headline,
            'search': {
                name: {
                    'mAP': result.mAP,
                    **{f'top-{k}': share for k, share in result.topk.items()},
                    'queries': len(result.ap),
                    'targets': int(result.num_targets.sum()),
                }
                for name, result in self.results.items()
            },
        }
        if self.camera_pairs:
            cameras, matrix, counts = self.camera_pairs
            scores['mAP by query camera, then gallery camera'] = {
                str(row): {str(column): float(matrix[i, j]) for j, column in enumerate(cameras) if counts[i, j]}
                for i, row in enumerate(cameras)
            }
        return scores | {
            'detection': self.detection,
            'detection by height': {_height(*heights): found for heights, found in self.by_height.items()},
        }


def _height(low: float, high: float) -> str:
    return f'from {low:g} px' if high == np.inf else f'{low:g} to {high:g} px'


def _gallery_size(search: Search) -> int:
    """Returns how many images a query searches: the median over the queries."""
    if search.protocol.galleries is None:
        return len(search.protocol.images) - 1
    everything = len(search.protocol.images) - 1
    return int(np.median([everything if gallery is None else len(gallery) for gallery in search.protocol.galleries]))


def build_test_set(cfg: Config | dict) -> PersonSearchDataset:
    """Returns the data set that a config tests on. It reads the annotations and no image.

    Args:
        cfg: A config with ``test_dataloader``, or the ``dataset`` part of one.

    Raises:
        OSError: A file of the data set is missing.
        ValueError: A file of the data set is damaged, or the config has no ``test_dataloader``.
    """
    if isinstance(cfg, Config):
        if 'test_dataloader' not in cfg:
            raise ValueError(f'{cfg.filename}: expected a config with a test_dataloader')
        cfg = cfg.test_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmps'):
        return DATASETS.build({**cfg, 'pipeline': [], 'indices': None})


def score(
    dataset: PersonSearchDataset,
    predictions: Predictions,
    names: Sequence[str] | None = None,
    score_thr: float = 0.5,
    detection_scores: Sequence[float] = (0.5, 0),
    detection_ious: Sequence[float] = (0.5,),
    heights: Sequence[float] | None = None,
    device: str = 'cpu',
    topk: Sequence[int] = (1, 5, 10),
) -> Scores:
    """Scores search and detection by the rules of the data set.

    The headline search is scored with and without context matching (CBGM). Predictions that hold embeddings of the annotated
    boxes are also scored with those boxes, which is the upper bound for any detector.

    Args:
        dataset: The data set in test mode.
        predictions: Predictions for its images and queries.
        names: Searches to score beside the headline; ``None``: all that the data set offers.
        score_thr: Detections with a lower score are not searched.
        detection_scores: Lowest detection scores for which detection AP and recall are computed.
        detection_ious: Smallest overlaps at which a detection finds a person, for the same.
        heights: Rising borders, in pixels, between the heights for which detection is scored apart; ``None``: quartiles.
        device: Where similarities are computed: 'cpu' (NumPy), or a device of PyTorch.
        topk: Ranks for top-k accuracy.

    Returns:
        All scores; :func:`write_scores` writes them to a folder.

    Raises:
        ValueError: An unknown search or device, heights that do not rise, thresholds outside 0..1, or predictions of other
            images or queries.
    """
    if heights is not None and not (np.diff([0, *heights, np.inf]) > 0).all():
        raise ValueError(f'heights: expected rising numbers above 0, got {list(heights)}')
    for name, thresholds in (('detection_scores', detection_scores), ('detection_ious', detection_ious)):
        if not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ValueError(f'{name}: expected numbers from 0 to 1, got {list(thresholds)}')
    product = NumPyProduct() if device == 'cpu' else TorchProduct(device)
    searches = _searches(dataset, names)
    headline, queries = dataset.headline, predictions.query_embeddings
    protocol = searches[headline].protocol
    predictions = predictions.for_protocol(protocol)
    candidates = Candidates.from_lists(
        protocol, predictions.boxes, predictions.scores, predictions.embeddings, queries.shape[1], score_thr
    )
    results = score_searches(
        searches,
        candidates,
        queries,
        topk,
        predictions.context_embeddings,
        product,
        partial(tqdm, desc='searching', unit='block', disable=None, leave=False),
    )
    if predictions.gt_embeddings is not None:
        results[UPPER_BOUND] = upper_bound(protocol, predictions, topk, product=product)
    histograms = similarity_histograms(searches[headline], results[headline], candidates, queries, product=product)
    detection, by_height = _detection(dataset, predictions, score_thr, detection_scores, detection_ious, heights)
    return Scores(headline, searches, results, detection, by_height, histograms)


def write_scores(folder: Path, scores: Scores) -> dict[str, np.ndarray]:
    """Writes scores.json, scores.md and the charts to a folder.

    Args:
        folder: Made if it is not there. Files of the same names are replaced.
        scores: What :func:`score` returned.

    Returns:
        The charts, uint8 (H, W, 3) RGB, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'scores.json').write_text(json.dumps(scores.as_dict(), indent=1))
    (folder / 'scores.md').write_text(scores.text())
    charts = scores.charts()
    for name, picture in charts.items():
        write_picture(chart_path(folder, name), picture)
    return charts


def chart_path(folder: Path, name: str) -> Path:
    """Returns where :func:`write_scores` puts a chart."""
    return folder / f'{name.lower().replace(" ", "_")}.png'


def _searches(dataset: PersonSearchDataset, names: Sequence[str] | None) -> dict[str, Search]:
    """Returns the headline, the headline with context, then the others."""
    known, headline = dataset.search_names(), dataset.headline
    for name in names or ():
        if name not in known:
            raise ValueError(f'searches: {name!r} is not one of {known}')
    first = dataset.search(headline)
    searches = {headline: first, f'{headline} + CBGM': replace(first, cbgm=CBGM(**dataset.metainfo['cbgm']))}
    return searches | {name: dataset.search(name) for name in known if name != headline and (names is None or name in names)}


def annotated_persons(dataset: PersonSearchDataset) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns for each image the boxes (M_i, 4) of its persons, without ignored ones, and their identities (M_i,)."""
    images = [
        [person for person in dataset.get_data_info(index)['instances'] if not person['ignore_flag']]
        for index in range(len(dataset))
    ]
    return (
        [np.array([person['bbox'] for person in image], np.float32).reshape(-1, 4) for image in images],
        [np.array([person['person_id'] for person in image], np.int64) for image in images],
    )


def _detection(
    dataset: PersonSearchDataset,
    predictions: Predictions,
    score_thr: float,
    scores: Sequence[float],
    ious: Sequence[float],
    heights: Sequence[float] | None,
) -> tuple[dict, dict]:
    boxes, person_ids = annotated_persons(dataset)
    labelled = [image >= 0 for image in person_ids]
    settings = {}
    for lowest in scores:
        for whose, mask in (('all persons', None), ('labelled persons', labelled)):
            matches = match_detections(predictions.boxes, predictions.scores, boxes, mask, lowest)
            for iou in ious:
                settings[f'{whose}, score from {lowest:g}, IoU from {iou:g}'] = matches.at(iou)
    matches = match_detections(predictions.boxes, predictions.scores, boxes, score_thr=score_thr)
    if heights is None:
        found = matches.person_heights
        heights = np.unique(np.quantile(found, [0.25, 0.5, 0.75]).round()).tolist() if len(found) else []
    edges = [0, *heights, np.inf]
    return settings, {(low, high): matches.at(ious[0], (low, high)) for low, high in itertools.pairwise(edges)}
