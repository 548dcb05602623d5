"""Scoring a file of predictions by everything that its data set offers: what tools/evaluate.py does."""

import argparse
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
    load_predictions,
    load_seqnet_cache,
    match_detections,
    precision_recall,
    score_searches,
    similarity_histograms,
    upper_bound,
)
from mmps.evaluation.tables import detection_table, markdown_table, per_cent, search_table
from mmps.registry import DATASETS
from mmps.visualization import (
    draw_camera_pairs,
    draw_detection_by_height,
    draw_gallery_sizes,
    draw_precision_recall,
    draw_similarities,
    write_picture,
)

NAMES = {'cuhk-sysu': 'CUHKSYSU', 'prw': 'PRW', 'mot': 'MOTChallenge'}
UPPER_BOUND = 'ground-truth boxes'


def predictions_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser for a file of predictions and the test that it answers; :func:`open_predictions` reads them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('predictions', help='file of predictions: npz, as docs/predictions.md describes it')
    parser.add_argument(
        '--seqnet',
        action='store_true',
        help="it is the cache (pickle) that SeqNet's code and its relatives write, eval_cache.pth",
    )
    parser.add_argument('--dataset', choices=sorted(NAMES), help='the data set whose test it answers')
    parser.add_argument('--data-root', help="the data set's folder")
    parser.add_argument('--gallery-size', type=int, default=100, help='CUHK-SYSU: the headline gallery (default 100)')
    parser.add_argument('--config', help='take the test data set from this config instead')
    parser.add_argument(
        '--searches',
        nargs='*',
        metavar='NAME',
        help="beside the headline, only these of the data set's searches (default: all that it offers)",
    )
    parser.add_argument('--score-thr', type=float, default=0.5, help='detections of a lower score are not searched')
    parser.add_argument(
        '--detection-scores',
        type=float,
        nargs='+',
        default=[0.5, 0],
        metavar='SCORE',
        help='detection AP and recall of the detections from these scores on',
    )
    parser.add_argument(
        '--detection-ious',
        type=float,
        nargs='+',
        default=[0.5],
        metavar='IOU',
        help='detection AP and recall where an overlap from these on finds a person',
    )
    parser.add_argument(
        '--heights',
        type=float,
        nargs='+',
        metavar='PIXELS',
        help='borders between the heights of persons by which detection is told apart (default: quartiles)',
    )
    parser.add_argument('--device', default='cpu', help="where similarities are computed: 'cpu' (NumPy), 'cuda', ...")
    return parser


def open_predictions(args: argparse.Namespace) -> tuple[PersonSearchDataset, Predictions]:
    """The test data set and the predictions, in its order, that :func:`predictions_parser`'s arguments name."""
    if args.config and args.dataset:
        raise ValueError('expected --dataset or --config, got both')
    if args.config:
        test = Config.fromfile(args.config).get('test_dataloader')
        if test is None:
            raise ValueError(f'{args.config}: expected a config with a test_dataloader')
        cfg = dict(test.dataset, pipeline=[], indices=None)
    elif args.dataset and args.data_root:
        cfg = {'type': NAMES[args.dataset], 'test_mode': True}
        cfg |= {'gallery_size': args.gallery_size} if args.dataset == 'cuhk-sysu' else {}
    else:
        raise ValueError('which test do the predictions answer? Expected --dataset and --data-root, or --config')
    if args.data_root:
        cfg['data_root'] = args.data_root
    if not Path(args.predictions).is_file():
        raise FileNotFoundError(f'{args.predictions}: no such file; expected predictions')
    with DefaultScope.overwrite_default_scope('mmps'):
        dataset = DATASETS.build(cfg)
    protocol = dataset.search(dataset.headline).protocol
    if args.seqnet:
        return dataset, load_seqnet_cache(args.predictions, protocol)
    predictions = load_predictions(args.predictions)
    try:
        return dataset, predictions.for_protocol(protocol)
    except ValueError as error:
        raise ValueError(f'{args.predictions}: {error}') from error


@dataclass(frozen=True, eq=False)
class Scores:
    """All scores of a set of predictions.

    Attributes:
        headline: Name of the search by which the data set is known.
        searches: By name; without the upper bound, which searches other boxes.
        results: Their results by the same names, and the upper bound's.
        detection: ``ap``, ``recall`` and ``persons`` by setting.
        by_height: The same by the heights (low, high) of persons.
        histograms: Edges and numbers of the headline's true positives and other detections by similarity.
    """

    headline: str
    searches: dict[str, Search]
    results: dict[str, SearchResult]
    detection: dict[str, dict[str, float]]
    by_height: dict[tuple[float, float], dict[str, float]]
    histograms: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def camera_pairs(self) -> tuple[list[int], np.ndarray, np.ndarray] | None:
        """Cameras (C,), the mAP (C, C) of queries from one (rows) in the images of another, NaN where no query has a target
        there, and the numbers of queries that have; ``None`` where cameras are not told apart."""
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

    def tables(self) -> dict[str, str]:
        """Markdown tables by their headings, in per cent."""
        by_name = {
            name: result
            for name, result in self.results.items()
            if name == UPPER_BOUND or isinstance(self.searches[name].cameras, str)
        }
        tables = {'Search': search_table(by_name)}
        if self.camera_pairs:
            cameras, scores, _ = self.camera_pairs
            rows = [[f'query from {camera}', *map(per_cent, row)] for camera, row in zip(cameras, scores, strict=True)]
            tables['mAP by camera'] = markdown_table(['', *(f'in {camera}' for camera in cameras)], rows)
        tables['Detection'] = detection_table(self.detection)
        tables['Detection by height'] = detection_table({_height(*heights): found for heights, found in self.by_height.items()})
        return tables

    def text(self) -> str:
        """The tables under their headings, as Markdown."""
        return '\n'.join(f'## {heading}\n\n{table}\n' for heading, table in self.tables().items())

    def charts(self) -> dict[str, np.ndarray]:
        """Pictures, uint8 (H, W, 3) RGB, by name."""
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
            [f['persons'] for f in found],
        )
        return charts

    def as_dict(self) -> dict:
        """The scores as fractions, for JSON."""
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
    """How many images a query searches, in the middle."""
    if search.protocol.galleries is None:
        return len(search.protocol.images) - 1
    everything = len(search.protocol.images) - 1
    return int(np.median([everything if gallery is None else len(gallery) for gallery in search.protocol.galleries]))


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
    """Scores predictions by the data set's searches, the headline also with context, and by what was detected.

    Args:
        dataset: In test mode.
        predictions: In the order of its protocol (:meth:`Predictions.for_protocol`).
        names: Of searches beside the headline; ``None``: all that the data set offers.
        score_thr: Detections of a lower score are not searched.
        detection_scores, detection_ious: Thresholds of detection AP and recall.
        heights: Borders, in pixels, rising; ``None``: the quartiles of the annotated heights.
        device: Where similarities are computed: 'cpu' (NumPy), or a device of PyTorch's.

    Raises:
        ValueError: An unknown search or device, heights that do not rise, or thresholds outside 0..1.
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


def score_as_asked(args: argparse.Namespace, dataset: PersonSearchDataset, predictions: Predictions) -> Scores:
    """The scores that :func:`predictions_parser`'s arguments ask for."""
    return score(
        dataset,
        predictions,
        args.searches,
        args.score_thr,
        args.detection_scores,
        args.detection_ious,
        args.heights,
        args.device,
    )


def write_scores(folder: Path, scores: Scores) -> dict[str, np.ndarray]:
    """Writes scores.json, scores.md and the charts, which it returns, to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'scores.json').write_text(json.dumps(scores.as_dict(), indent=1))
    (folder / 'scores.md').write_text(scores.text())
    charts = scores.charts()
    for name, picture in charts.items():
        write_picture(chart_path(folder, name), picture)
    return charts


def chart_path(folder: Path, name: str) -> Path:
    return folder / f'{name.lower().replace(" ", "_")}.png'


def _searches(dataset: PersonSearchDataset, names: Sequence[str] | None) -> dict[str, Search]:
    """The headline, the same with context, then the others."""
    known, headline = dataset.search_names(), dataset.headline
    for name in names or ():
        if name not in known:
            raise ValueError(f'searches: {name!r} is not one of {known}')
    first = dataset.search(headline)
    searches = {headline: first, f'{headline} + CBGM': replace(first, cbgm=CBGM(**dataset.metainfo['cbgm']))}
    return searches | {name: dataset.search(name) for name in known if name != headline and (names is None or name in names)}


def annotated_persons(dataset: PersonSearchDataset) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each image the boxes (M_i, 4) of its persons, without ignored ones, and their identities (M_i,)."""
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
        heights = np.unique(np.quantile(found, [0.25, 0.5, 0.75]).round()) if len(found) else []
    edges = [0, *heights, np.inf]
    return settings, {(low, high): matches.at(ious[0], (low, high)) for low, high in itertools.pairwise(edges)}
