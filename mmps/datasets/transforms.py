"""Adds person ids and queries to MMDetection's pipelines."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import to_tensor
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs
from mmengine.structures import InstanceData

from mmps.registry import TRANSFORMS

from .image_boxes import MIN_SIDE

# Key in the pipeline's results: True if the labels hold person ids.
LABELS_ARE_IDS = 'labels_are_person_ids'


@TRANSFORMS.register_module()
class LoadPersonAnnotations(LoadAnnotations):
    """Loads annotations as MMDetection does, but stores person ids in place of the labels, which are all 0.

    Every transform that drops, repeats or joins boxes does the same with ``gt_bboxes_labels``. So the ids follow their boxes
    through all of them (RandomCrop, FilterAnnotations, RandomErasing, Mosaic, ...). ``PackPersonSearchInputs`` then restores
    the labels.

    Raises:
        ValueError: A side of the image has fewer than 8 pixels.
    """

    def transform(self, results: dict) -> dict:
        height, width = results.get('ori_shape', (MIN_SIDE, MIN_SIDE))
        if min(height, width) < MIN_SIDE:
            raise ValueError(f'{results["img_path"]}: {width} x {height} pixels; expected at least {MIN_SIDE} on each side')
        return super().transform(results)

    def _load_labels(self, results: dict) -> None:
        results['gt_bboxes_labels'] = _listed_ids(results)
        results[LABELS_ARE_IDS] = True


@TRANSFORMS.register_module()
class PackPersonSearchInputs(PackDetInputs):
    """Packs inputs as MMDetection does, with ``person_ids`` in the instances and with ``query_instances``.

    ``gt_instances`` (and ``ignored_instances``) have bboxes, labels (all 0) and person_ids (int64, -1 = unlabelled). An
    image with queries has ``query_instances`` with bboxes (Q, 4) float32 and query_ids (Q,) int64. Query boxes are always in
    original-image pixels. So are the other boxes if annotations are loaded after the last geometric transform, as in
    MMDetection's test pipelines.

    After MMDetection's own ``LoadAnnotations`` the ids are taken in the data set's order. This is right only if no transform
    drops a box; ``LoadPersonAnnotations`` has no such limit.

    Raises:
        ValueError: The numbers of boxes and person ids differ.
    """

    mapping_table = {**PackDetInputs.mapping_table, 'gt_person_ids': 'person_ids'}

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            'img_id',
            'img_path',
            'img_name',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'flip_direction',
            'cam_id',
        ),
    ) -> None:
        super().__init__(meta_keys)

    def transform(self, results: dict) -> dict:
        if 'gt_bboxes' in results:
            person_ids = _person_ids(results)
            results = {**results, 'gt_person_ids': person_ids, 'gt_bboxes_labels': np.zeros_like(person_ids)}
        if 'img' in results and results['img'].dtype == np.uint8 and results['img'].ndim == 3:
            results = {**results, 'img': channels_together(results['img'])}
        packed = super().transform(results)
        if results.get('queries'):
            packed['data_samples'].query_instances = InstanceData(
                bboxes=to_tensor(np.array([query['bbox'] for query in results['queries']], dtype=np.float32)),
                query_ids=to_tensor(np.array([query['query_id'] for query in results['queries']], dtype=np.int64)),
            )
        return packed


def channels_together(image: np.ndarray) -> np.ndarray:
    """Returns an image (H, W, C), uint8, with the same pixels, stored channel by channel.

    OpenCV separates channels twenty times as fast as NumPy and PyTorch, which MMDetection uses. It reads only forwards, so a
    mirrored view is separated unmirrored.
    """
    mirrored = image.strides[1] < 0
    planes = np.empty((image.shape[2], *image.shape[:2]), np.uint8)
    cv2.split(image[:, ::-1] if mirrored else image, list(planes))
    if mirrored:
        for plane in planes:
            cv2.flip(plane, 1, plane)
    return planes.transpose(1, 2, 0)


def _listed_ids(results: dict) -> np.ndarray:
    return np.array([instance['person_id'] for instance in results.get('instances', [])], dtype=np.int64)


def _person_ids(results: dict) -> np.ndarray:
    carried = results.get(LABELS_ARE_IDS, False)
    person_ids = results['gt_bboxes_labels'] if carried else _listed_ids(results)
    if len(person_ids) != len(results['gt_bboxes']):
        advice = '' if carried else '; a transform dropped or added boxes: load them with LoadPersonAnnotations'
        raise ValueError(
            f'{results.get("img_path")}: {len(results["gt_bboxes"])} boxes but {len(person_ids)} person ids{advice}'
        )
    return person_ids
