"""Measures a model on real frames that it never saw: MOTChallenge folders, searched at several sizes.

    python tools/benchmarks/transfer.py CONFIG CHECKPOINT --data FOLDER [FOLDER ...] [--heights 360 540 810] [--out DIR]

Every frame is a test frame. Images are resized to each height, with their proportions. A person is a query in its first frame,
and is searched in all frames that are `--frame-gap` or more away.

Prints for each folder and height detection AP, mAP and top-1 (of detections as confident as the config's test asks for), and
recall, precision and false alarms per frame at a confidence of `--score-thr`; then the recall of all detections by the persons'
heights as the model sees them; then how similar the embeddings of a person at neighbouring heights are, as the mean and as what
5 % are below. With --out it draws the frames of the last height: persons found (green), missed (red) and false alarms (orange).
"""

import argparse
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from tqdm import tqdm

from mmps.evaluation import Predictions, match_detections
from mmps.evaluation.tables import markdown_table, per_cent
from mmps.fileio.checkpoint import load_exactly
from mmps.models.detectors.base import PersonSearchDetector
from mmps.registry import METRICS, MODELS

HEIGHTS = (0, 20, 40, 80, 160, 320, np.inf)
FOUND, MISSED, FALSE_ALARM = (80, 220, 60), (60, 60, 240), (0, 165, 255)


def load_model(cfg: Config, checkpoint: str, device: str) -> PersonSearchDetector:
    """Returns the detector of a config with its weights."""
    with DefaultScope.overwrite_default_scope('mmps'):
        detector = MODELS.build(cfg.model)
    load_exactly(detector, checkpoint, 'CHECKPOINT')
    return detector.to(device).eval()


@torch.no_grad()
def search(
    model: PersonSearchDetector, metric_config: dict, folder: str, height: int, frame_gap: int
) -> tuple[dict, Predictions, np.ndarray, list[str]]:
    """Returns scores and predictions of all frames of a folder, by how much each was resized, and their paths."""
    dataset = dict(
        type='mmps.MOTChallenge',
        data_root=folder,
        test_mode=True,
        train_fraction=0.0,
        frame_gap=frame_gap,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmdet.Resize', scale=(8 * height, height), keep_ratio=True),
            dict(type='mmps.LoadPersonAnnotations', with_bbox=True),
            dict(type='mmps.PackPersonSearchInputs'),
        ],
    )
    loader = Runner.build_dataloader(
        dict(batch_size=1, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
    )
    metric = METRICS.build(metric_config)
    metric.dataset_meta = loader.dataset.metainfo
    for batch in tqdm(loader, desc=f'{Path(folder).name} at {height}', unit='frame', leave=False):
        metric.process(batch, [sample.to_dict() for sample in model.test_step(batch)])
    scores = metric.evaluate(len(loader.dataset))
    assert metric.predictions is not None  # set by evaluate
    infos = [loader.dataset.get_data_info(index) for index in range(len(loader.dataset))]
    scales = np.array([height / min(info['height'], info['width']) for info in infos])
    return scores, metric.predictions, scales, [info['img_path'] for info in infos]


def recall_by_height(predictions: Predictions, scales: np.ndarray) -> list[str]:
    """Returns recall (of all detections) and number of persons in each range of heights, in pixels of the resized images."""
    assert predictions.gt_boxes is not None  # the metric sets them
    matches = match_detections(predictions.boxes, predictions.scores, predictions.gt_boxes, score_thr=0.0)
    found = np.isin(np.arange(len(matches.person_heights)), matches.persons[matches.overlaps >= 0.5])
    heights = matches.person_heights * np.repeat(scales, [len(boxes) for boxes in predictions.gt_boxes])
    ranges = [(heights >= low) & (heights < high) for low, high in pairwise(HEIGHTS)]
    return [f'{per_cent(found[each].mean())} of {each.sum()}' if each.any() else '' for each in ranges]


def draw(path: str, boxes: np.ndarray, persons: np.ndarray, out: Path) -> None:
    """Draws what was found in a frame: (N, 4) detections and (M, 4) persons."""
    image = cv2.imread(path)
    matches = match_detections([boxes], [np.ones(len(boxes))], [persons])
    right = matches.overlaps >= 0.5
    missed = np.delete(persons, matches.persons[right], axis=0)
    for colour, shown in ((MISSED, missed), (FALSE_ALARM, boxes[~right]), (FOUND, boxes[right])):
        for box in shown.round().astype(int):
            cv2.rectangle(image, box[:2], box[2:], colour, max(1, image.shape[0] // 400))
    out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out), image):
        raise OSError(f'{out}: could not be written')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--data', nargs='+', required=True, metavar='FOLDER', help='folders as MOTChallenge has them')
    parser.add_argument('--heights', type=int, nargs='+', default=[360, 540, 810], help='of the resized frames (%(default)s)')
    parser.add_argument('--frame-gap', type=int, default=1, help='see above (%(default)s)')
    parser.add_argument(
        '--score-thr', type=float, default=0.5, help='for recall, precision, false alarms and pictures (%(default)s)'
    )
    parser.add_argument('--out', type=Path, help='folder for pictures')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args()
    MMLogger.get_instance('transfer', log_level='ERROR')  # the metric's own tables are not shown
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    model = load_model(cfg, args.checkpoint, args.device)
    # The annotated persons are embedded, too. Scores of other detectors have other thresholds.
    metric = dict(type='PersonSearchMetric', upper_bound=True, score_thr=cfg.test_evaluator.get('score_thr', 0.5))
    rows, by_height, across = [], [], []
    for folder in args.data:
        smaller: tuple[int, np.ndarray] | None = None
        for height in args.heights:
            scores, predictions, scales, paths = search(model, metric, folder, height, args.frame_gap)
            where = [Path(folder).name, str(height)]
            sure = [
                (found_boxes[confidences >= args.score_thr], confidences[confidences >= args.score_thr])
                for found_boxes, confidences in zip(predictions.boxes, predictions.scores, strict=True)
            ]
            detected = match_detections(*zip(*sure, strict=True), predictions.gt_boxes or [], score_thr=0.0)
            false_alarms = np.count_nonzero(detected.overlaps < 0.5)
            found = len(detected.overlaps) - false_alarms
            ap, mean_ap, top1 = (per_cent(scores[f'search/{name}']) for name in ('det_AP', 'mAP', 'top-1'))
            recall, precision = found / len(detected.person_heights), found / max(len(detected.overlaps), 1)
            rows.append([*where, ap, per_cent(recall), per_cent(precision), f'{false_alarms / len(paths):.1f}', mean_ap, top1])
            by_height.append([*where, *recall_by_height(predictions, scales)])
            embeddings = np.concatenate(predictions.gt_embeddings or [np.zeros((0, 1))])
            if smaller is not None:
                similarities = (smaller[1] * embeddings).sum(1)
                figures = [similarities.mean(), np.quantile(similarities, 0.05)]
                across.append([where[0], f'{smaller[0]} and {height}', *(f'{figure:.2f}' for figure in figures)])
            smaller = height, embeddings
        for name, path, boxes, found_scores, persons in zip(
            predictions.images, paths, predictions.boxes, predictions.scores, predictions.gt_boxes or [], strict=True
        ):
            if args.out is not None:
                draw(path, boxes[found_scores >= args.score_thr], persons, args.out / name)
    ranges = [f'{low} to {high} px' for low, high in pairwise(HEIGHTS)]
    print(markdown_table(['frames', 'height', 'det. AP', 'recall', 'precision', 'false alarms', 'mAP', 'top-1'], rows))
    print(f'\nRecall by the heights of persons\n\n{markdown_table(["frames", "height", *ranges], by_height)}')
    if across:
        columns = ['frames', 'heights', 'mean', '5 % are below']
        print(f'\nSimilarity of a person to himself at two heights\n\n{markdown_table(columns, across)}')


if __name__ == '__main__':
    main()
