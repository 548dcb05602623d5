"""What person search adds to MMDetection's pipelines: person ids that follow their boxes, and queries."""

import numpy as np
from mmcv.transforms import to_tensor
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs
from mmengine.structures import InstanceData

from mmps.registry import TRANSFORMS

from .image_boxes import MIN_SIDE

# In the pipeline's results: true where the labels are person ids.
LABELS_ARE_IDS = 'labels_are_person_ids'


@TRANSFORMS.register_module()
class LoadPersonAnnotations(LoadAnnotations):
    """MMDetection's ``LoadAnnotations``, with the person ids in the place of the labels, which are all 0 anyway.

    Every transform that drops, repeats or joins boxes treats ``gt_bboxes_labels`` alike; so the ids follow their boxes
    through all of them (RandomCrop, FilterAnnotations, RandomErasing, Mosaic, ...). ``PackPersonSearchInputs`` puts
    both where they belong.

    Raises:
        ValueError: The image file has a side of fewer pixels than a person.
    """

    def transform(self, results: dict) -> dict:
        height, width = results.get('ori_shape', (MIN_SIDE, MIN_SIDE))
        if min(height, width) < MIN_SIDE:
            raise ValueError(f'{results["img_path"]}: {width} x {height} pixels; expected at least {MIN_SIDE} each way')
        return super().transform(results)

    def _load_labels(self, results: dict) -> None:
        results['gt_bboxes_labels'] = _listed_ids(results)
        results[LABELS_ARE_IDS] = True


@TRANSFORMS.register_module()
class PackPersonSearchInputs(PackDetInputs):
    """MMDetection's ``PackDetInputs``, with ``person_ids`` among the instances and the image's ``query_instances``.

    ``gt_instances`` (and ``ignored_instances``) have bboxes, labels (all 0) and person_ids (int64, -1 unlabelled). An
    image with queries has ``query_instances`` with bboxes (Q, 4) float32 and query_ids (Q,) int64; query boxes are
    always in original-image pixels, as are the other boxes where annotations are loaded after the last geometric
    transform, as MMDetection's test pipelines do.

    After MMDetection's own ``LoadAnnotations`` the ids are taken in the data set's order, which is right as long as no
    transform drops a box; ``LoadPersonAnnotations`` has no such limit.

    Raises:
        ValueError: There are not as many boxes as person ids.
    """

    mapping_table = {**PackDetInputs.mapping_table, 'gt_person_ids': 'person_ids'}

    def __init__(
        self,
        meta_keys=(
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
        packed = super().transform(results)
        if results.get('queries'):
            packed['data_samples'].query_instances = InstanceData(
                bboxes=to_tensor(np.array([query['bbox'] for query in results['queries']], dtype=np.float32)),
                query_ids=to_tensor(np.array([query['query_id'] for query in results['queries']], dtype=np.int64)),
            )
        return packed


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
