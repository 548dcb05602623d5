"""What the subcommands that score a file of predictions share."""

import argparse
from pathlib import Path

from mmengine.config import Config

from mmps.apis import Scores, build_test_set, score
from mmps.datasets import PersonSearchDataset
from mmps.evaluation import Predictions, load_predictions, load_seqnet_cache

NAMES = {'cuhk-sysu': 'CUHKSYSU', 'prw': 'PRW', 'mot': 'MOTChallenge'}


def predictions_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser for a file of predictions and its test data set. :func:`open_predictions` reads what it names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('predictions', help='file of predictions: npz, as docs/predictions.md describes it')
    parser.add_argument(
        '--seqnet',
        action='store_true',
        help="the file is an eval_cache.pth (pickle), as SeqNet's code and codes derived from it write it",
    )
    parser.add_argument('--dataset', choices=sorted(NAMES), help='the data set that was predicted')
    parser.add_argument('--data-root', help="the data set's folder")
    parser.add_argument('--gallery-size', type=int, default=100, help='CUHK-SYSU: the headline gallery (default 100)')
    parser.add_argument('--config', help='take the test data set from this config instead')
    parser.add_argument(
        '--searches',
        nargs='*',
        metavar='NAME',
        help='searches to score beside the headline (default: all that the data set offers)',
    )
    parser.add_argument('--score-thr', type=float, default=0.5, help='detections with a lower score are not searched')
    parser.add_argument(
        '--detection-scores',
        type=float,
        nargs='+',
        default=[0.5, 0],
        metavar='SCORE',
        help='lowest scores for which detection AP and recall are computed',
    )
    parser.add_argument(
        '--detection-ious',
        type=float,
        nargs='+',
        default=[0.5],
        metavar='IOU',
        help='smallest overlaps at which a detection finds a person',
    )
    parser.add_argument(
        '--heights',
        type=float,
        nargs='+',
        metavar='PIXELS',
        help='borders between the heights for which detection is scored apart (default: quartiles)',
    )
    parser.add_argument('--device', default='cpu', help="where similarities are computed: 'cpu' (NumPy), 'cuda', ...")
    return parser


def open_predictions(args: argparse.Namespace) -> tuple[PersonSearchDataset, Predictions]:
    """Returns the test data set and the predictions, sorted as its protocol.

    Args:
        args: The arguments of :func:`predictions_parser`.

    Raises:
        OSError: The predictions or a file of the data set cannot be read.
        ValueError: The arguments name no data set, or two; the predictions are damaged or of other images.
    """
    if args.config and args.dataset:
        raise ValueError('expected --dataset or --config, got both')
    if args.config:
        cfg = Config.fromfile(args.config)
    elif args.dataset and args.data_root:
        part = {'type': NAMES[args.dataset], 'test_mode': True}
        part |= {'gallery_size': args.gallery_size} if args.dataset == 'cuhk-sysu' else {}
        cfg = Config({'test_dataloader': {'dataset': part}})
    else:
        raise ValueError('which test do the predictions answer? Expected --dataset and --data-root, or --config')
    if args.data_root and 'test_dataloader' in cfg:
        cfg.merge_from_dict({'test_dataloader.dataset.data_root': args.data_root})
    if not Path(args.predictions).is_file():
        raise FileNotFoundError(f'{args.predictions}: no such file; expected predictions')
    dataset = build_test_set(cfg)
    protocol = dataset.search(dataset.headline).protocol
    if args.seqnet:
        return dataset, load_seqnet_cache(args.predictions, protocol)
    predictions = load_predictions(args.predictions)
    try:
        return dataset, predictions.for_protocol(protocol)
    except ValueError as error:
        raise ValueError(f'{args.predictions}: {error}') from error


def score_as_asked(args: argparse.Namespace, dataset: PersonSearchDataset, predictions: Predictions) -> Scores:
    """Scores the predictions as the arguments of :func:`predictions_parser` say."""
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
