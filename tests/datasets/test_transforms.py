"""Person ids follow their boxes through MMDetection's own transforms."""

import random

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmengine.registry import init_default_scope

from mmps.datasets import CUHKSYSU
from mmps.datasets.transforms import PackPersonSearchInputs
from mmps.registry import DATASETS, TRANSFORMS


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmps')


LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadPersonAnnotations', 'with_bbox': True}]
MMDET_LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations', 'with_bbox': True}]
RESIZE = {'type': 'Resize', 'scale': (240, 140), 'keep_ratio': True}
PACK = {'type': 'PackPersonSearchInputs'}
UNLABELLED, LABELLED = 120, 250  # colours


def sample(root, pipeline, index=0, test_mode=False):
    return CUHKSYSU(data_root=str(root), test_mode=test_mode, pipeline=pipeline)[index]


def by_id(instances):
    return dict(zip(instances.person_ids.tolist(), instances.bboxes.tensor.tolist(), strict=True))


@pytest.mark.parametrize('load', [LOAD, MMDET_LOAD])
def test_flipped_and_resized_box_of_an_id_is_its_mirror_image(cuhk_sysu, load):
    plain = by_id(sample(cuhk_sysu, [*load, PACK])['data_samples'].gt_instances)
    mirrored = sample(cuhk_sysu, [*load, RESIZE, {'type': 'RandomFlip', 'prob': 1.0}, PACK])['data_samples']
    assert mirrored.metainfo['flip'] and mirrored.metainfo['scale_factor'] == (2.0, 2.0)
    assert plain == {-1: [10, 10, 30, 50], 0: [50, 12, 70, 56]}
    assert by_id(mirrored.gt_instances) == {
        person_id: [240 - 2 * x2, 2 * y1, 240 - 2 * x1, 2 * y2] for person_id, (x1, y1, x2, y2) in plain.items()
    }


@pytest.mark.parametrize(
    'drop',
    [
        {'type': 'FilterAnnotations', 'min_gt_bbox_wh': (1, 42)},
        {'type': 'mmdet.FilterAnnotations', 'min_gt_bbox_wh': (1, 42)},
    ],
)
def test_ids_stay_with_the_boxes_that_a_filter_keeps(cuhk_sysu, drop):
    assert by_id(sample(cuhk_sysu, [*LOAD, drop, PACK])['data_samples'].gt_instances) == {0: [50, 12, 70, 56]}


@pytest.mark.parametrize(
    'drop',
    [
        {'type': 'RandomCrop', 'crop_size': (60, 50)},
        {'type': 'RandomShift', 'prob': 1.0, 'max_shift_px': 40},
        {'type': 'MinIoURandomCrop', 'min_ious': (0.1, 0.9)},
        {'type': 'RandomErasing', 'n_patches': (1, 3), 'ratio': (0.3, 0.6)},
        {'type': 'Expand', 'prob': 1.0},
        {'type': 'RandomAffine'},
    ],
)
def test_ids_stay_with_the_boxes_that_random_transforms_keep(cuhk_sysu, drop):
    """Each person has its own colour, so the colour inside a box shows the id."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the transforms draw from it)
    dataset = CUHKSYSU(data_root=str(cuhk_sysu), pipeline=[*LOAD, paint, drop, PACK])
    seen = set()
    for _ in range(30):
        packed = dataset[0]
        instances = packed['data_samples'].gt_instances
        assert len(instances.labels) == len(instances.bboxes) and not instances.labels.any()
        for person_id, (x1, y1, x2, y2) in zip(
            instances.person_ids.tolist(), instances.bboxes.tensor.round().int().tolist(), strict=True
        ):
            inside = packed['inputs'][0, y1:y2, x1:x2]
            unlabelled, labelled = (inside == UNLABELLED).sum(), (inside == LABELLED).sum()
            assert labelled >= unlabelled if person_id == 0 else unlabelled >= labelled
            seen.add(person_id)
    assert seen == {-1, 0}


def paint(results):
    """Makes a black image with each of the two boxes in its own colour."""
    results['img'][:] = 0
    for box, colour in zip(results['gt_bboxes'].tensor.int().tolist(), (UNLABELLED, LABELLED), strict=True):
        results['img'][box[1] : box[3], box[0] : box[2]] = colour
    return results


def test_ids_that_cannot_be_aligned_are_refused_with_the_counts(cuhk_sysu):
    pipeline = [*MMDET_LOAD, {'type': 'FilterAnnotations', 'min_gt_bbox_wh': (1, 42)}, PACK]
    with pytest.raises(ValueError, match=r'^[^\n]*s1.jpg: 1 boxes but 2 person ids[^\n]*LoadPersonAnnotations$'):
        sample(cuhk_sysu, pipeline)


def test_a_packed_training_sample_has_the_documented_fields(cuhk_sysu):
    packed = sample(cuhk_sysu, [*LOAD, PACK])
    data_sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 70, 120)
    assert data_sample.gt_instances.person_ids.dtype == torch.int64
    assert data_sample.gt_instances.labels.tolist() == [0, 0]
    assert data_sample.gt_instances.bboxes.tensor.dtype == torch.float32
    assert 'query_instances' not in data_sample
    expected = {
        'img_id': 0,
        'img_name': 's1.jpg',
        'img_path': str(cuhk_sysu / 'Image/SSM/s1.jpg'),
        'cam_id': 0,
        'ori_shape': (70, 120),
        'img_shape': (70, 120),
    }
    assert {name: data_sample.metainfo[name] for name in expected} == expected


def test_test_boxes_and_queries_stay_in_original_pixels(cuhk_sysu):
    pipeline = [{'type': 'LoadImageFromFile'}, RESIZE, {'type': 'LoadPersonAnnotations', 'with_bbox': True}, PACK]
    data_sample = sample(cuhk_sysu, pipeline, index=1, test_mode=True)['data_samples']
    assert data_sample.metainfo['img_shape'] == (140, 240)
    assert by_id(data_sample.gt_instances) == {0: [5, 5, 25, 55], 1: [40, 8, 62, 56]}
    queries = data_sample.query_instances
    assert queries.bboxes.tolist() == [[40, 8, 62, 56]] and queries.bboxes.dtype == torch.float32
    assert queries.query_ids.tolist() == [1] and queries.query_ids.dtype == torch.int64
    assert 'query_instances' not in sample(cuhk_sysu, pipeline, index=2, test_mode=True)['data_samples']


def test_image_without_annotations_packs_for_inference():
    packed = TRANSFORMS.build(PACK)({'img': np.zeros((4, 6, 3), np.uint8), 'img_path': 'a.jpg'})
    assert packed['inputs'].shape == (3, 4, 6) and 'person_ids' not in packed['data_samples'].gt_instances


def test_scene_without_people_packs_with_no_ids(cuhk_sysu):
    instances = sample(cuhk_sysu, [*LOAD, RESIZE, PACK], index=3)['data_samples'].gt_instances
    assert instances.bboxes.shape == (0, 4) and instances.person_ids.shape == (0,)
    assert instances.person_ids.dtype == torch.int64


def test_ignored_boxes_are_packed_separately(mot):
    config = {'type': 'MOTChallenge', 'data_root': str(mot), 'pipeline': [*LOAD, PACK]}
    data_sample = DATASETS.build(config)[0]['data_samples']
    assert data_sample.gt_instances.person_ids.tolist() == [0, 1]
    assert data_sample.ignored_instances.person_ids.tolist() == [-1, -1]


def test_ids_follow_their_boxes_through_mosaic(cuhk_sysu):
    base = {'type': 'CUHKSYSU', 'data_root': str(cuhk_sysu), 'pipeline': LOAD, 'filter_cfg': {'filter_empty_gt': True}}
    mosaic = {'type': 'Mosaic', 'img_scale': (140, 240)}
    dataset = DATASETS.build({'type': 'MultiImageMixDataset', 'dataset': base, 'pipeline': [mosaic, PACK]})
    for _ in range(5):
        instances = dataset[0]['data_samples'].gt_instances
        assert len(instances.person_ids) == len(instances.bboxes) > 2
        assert set(instances.person_ids.tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize(
    'change',
    [
        lambda image: image,
        lambda image: np.flip(image, 1),
        lambda image: np.flip(image, 0),
        lambda image: np.flip(image, (0, 1)),
        lambda image: image[3:20, 4:30],
        lambda image: np.flip(image[3:20, 4:30], 1),
        lambda image: np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0),
    ],
)
def test_packed_pixels_are_mmdetections(change, channels):
    image = change(np.random.default_rng(0).integers(0, 256, (23, 37, channels), np.uint8))
    packed = PackPersonSearchInputs(meta_keys=())(dict(img=image))['inputs']
    assert torch.equal(packed, PackDetInputs(meta_keys=())(dict(img=image))['inputs'])
    assert packed.is_contiguous() and packed.dtype == torch.uint8
