"""AlignPS's neck and head equal the published implementation with the same name-seeded weights."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmps.models.released_weights import ALIGNPS, convert, fit
from mmps.registry import MODELS

PERSONS = [
    ([[20.0, 16, 60, 110], [90, 30, 130, 120], [140, 10, 170, 90]], [3, -1, 7]),
    ([[30.0, 20, 70, 118], [120, 25, 150, 100]], [3, 12]),
]
LOSSES = {
    'loss_cls': 'loss_cls',
    'loss_bbox': 'loss_bbox',
    'loss_centerness': 'loss_centerness',
    'loss_reid': 'loss_oim',
    'loss_triplet': 'loss_tri',
}


@pytest.fixture(scope='module')
def recorded(golden):
    return np.load(golden('expected/alignps_seed0.npz'))


@pytest.fixture(scope='module')
def network(golden, named_weights, recorded, repository):
    """The neck and head as published, and the backbone levels of two images of 128 x 192."""
    cfg = Config.fromfile(repository / 'configs/_base_/models/alignps_r50.py').model
    cfg.bbox_head.reid_loss.queue_size = len(recorded['queue_before'])
    cfg.bbox_head.test_cfg = cfg.test_cfg
    with DefaultScope.overwrite_default_scope('mmps'):
        network = nn.ModuleDict(dict(neck=MODELS.build(cfg.neck), bbox_head=MODELS.build(cfg.bbox_head)))
    weights = named_weights.fill(json.loads(golden('expected/alignps_seed0_shapes.json').read_text()))
    weights['bbox_head.conv_reg.bias'] = np.array([2, 4, 2, 4], dtype=np.float32)
    weights |= {
        'bbox_head.labeled_matching_layer.lookup_table': recorded['lut_before'],
        'bbox_head.unlabeled_matching_layer.queue': recorded['queue_before'],
        'bbox_head.unlabeled_matching_layer.tail': np.array(0),
    }
    weights = {name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()}
    network.load_state_dict(fit(convert(weights, ALIGNPS), network))
    rng = np.random.default_rng(2)
    levels = [
        torch.from_numpy(rng.standard_normal((2, c, 128 // s, 192 // s)).astype(np.float32))
        for c, s in [(256, 4), (512, 8), (1024, 16), (2048, 32)]
    ]
    return network, levels


def samples():
    batch = []
    for boxes, ids in PERSONS:
        sample = DetDataSample(metainfo=dict(img_shape=(128, 192), scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes), labels=torch.zeros(len(ids), dtype=torch.long), person_ids=torch.tensor(ids)
        )
        batch.append(sample)
    return batch


def compare(name, found, expected, tolerance=1e-4):
    found = found.detach().numpy()
    assert found.shape == expected.shape
    print(f'{name:<16} largest value {np.abs(expected).max():8.3f}, largest difference {np.abs(found - expected).max():.1e}')
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0, err_msg=name)


def test_training_equals_the_published_one(network, recorded):
    network, levels = network
    head = network.bbox_head
    feats = network.train().neck(levels)
    for index, feat in enumerate(feats):
        compare(f'neck{index}', feat[:, ::16], recorded[f'neck{index}'])
    cls, box, ctr, reid = head(feats)
    for name, found in dict(cls=cls[0], box=box[0], ctr=ctr[0], reid=reid[:, ::16]).items():
        compare(name, found, recorded[name])

    reid.retain_grad()
    losses = head.loss_by_feat(cls, box, ctr, reid, samples())
    for name, published in LOSSES.items():
        compare(name, losses[name], recorded[published])
    (losses['loss_reid'] + losses['loss_triplet']).backward()
    compare('reid_grad', reid.grad[:, ::16], recorded['reid_grad'], tolerance=1e-6)
    memory = head.reid_loss.memory
    compare('lut', memory.lut, recorded['lut_after'])
    compare('queue', memory.queue, recorded['queue_after'])
    assert memory.queue_position == recorded['tail_after']


@torch.no_grad()
def test_detections_equal_the_published_ones(network, recorded):
    network, levels = network
    feats = network.eval().neck(levels)
    assert len(feats) == 1
    for index, result in enumerate(network.bbox_head.predict(feats, samples())):
        boxes = recorded[f'det{index}_boxes']
        compare(f'det{index} boxes', result.bboxes, boxes[:, :4], tolerance=1e-2)
        compare(f'det{index} scores', result.scores, boxes[:, 4])
        compare(
            f'det{index} embeddings',
            result.embeddings,
            F.normalize(torch.from_numpy(recorded[f'det{index}_embeddings'])).numpy(),
        )
        assert not result.labels.any()
