"""The converted SeqNet equals the published implementation with the same weights."""

import json

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmps.models.released_weights import SEQNET, convert, fit
from mmps.registry import MODELS


@pytest.fixture(scope='module')
def expected(golden):
    with np.load(golden('expected/seqnet_r50_seed0.npz')) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture(scope='module')
def network(golden, named_weights, repository):
    shapes = json.loads(golden('expected/seqnet_r50_seed0_shapes.json').read_text())
    weights = {name: torch.from_numpy(value) for name, value in named_weights.fill(shapes).items()}
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(Config.fromfile(repository / 'configs/_base_/models/seqnet_r50_c4.py').model)
    model.load_state_dict(fit(convert(weights, SEQNET), model))
    return model.eval()


@pytest.fixture(scope='module')
def scene(network, named_weights):
    """Returns the features of the test picture and its sample."""
    image = torch.from_numpy(named_weights.image()).permute(2, 0, 1).flip(0)  # BGR, as images are loaded
    sample = DetDataSample(metainfo=dict(img_id=0, img_shape=(224, 320), ori_shape=(224, 320), scale_factor=(1.0, 1.0)))
    data = network.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
    with torch.no_grad():
        return network.extract_feat(data['inputs']), data['data_samples'], data['inputs']


def close(found, wanted, tolerance=1e-4):
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)


def test_features(scene, expected):
    close(scene[0][0][:, ::64, ::2, ::2], expected['res4'])


@torch.no_grad()
def test_region_proposals(network, scene, expected):
    (logits,), (deltas,) = network.rpn_head(scene[0])
    close(logits[:, :, ::2, ::2], expected['rpn_logits'])
    close(deltas[:, :, ::2, ::2], expected['rpn_deltas'])
    (proposals,) = network.rpn_head.predict(scene[0], scene[1])
    # Proposals whose scores differ in the last digit may be swapped.
    distances = torch.cdist(expected['proposals'], proposals.bboxes, p=float('inf'))
    nearest, index = distances.min(dim=1)
    assert len(proposals) == len(expected['proposals']) and nearest.max() < 1e-2
    assert len(index.unique()) == len(index) and (index - torch.arange(len(index))).abs().max() <= 1


@torch.no_grad()
def test_the_first_head_on_fixed_boxes(network, scene, expected):
    found = network.roi_head.first._bbox_forward(scene[0], bbox2roi([expected['fixed_boxes']]))
    close(found['cls_score'].flip(1), expected['fixed_first_logits'])
    close(found['bbox_pred'], expected['fixed_first_deltas'][:, 4:])


@torch.no_grad()
def test_the_second_head_on_fixed_boxes(network, scene, expected):
    found = network.roi_head.second.describe(scene[0], bbox2roi([expected['fixed_boxes']]))
    close(found.deltas, expected['fixed_second_deltas'][:, 4:])
    close(found.embeddings, expected['fixed_embeddings'])
    close(found.logits, expected['fixed_norm_logits'])


@torch.no_grad()
def test_detections_and_query_embeddings(network, scene, expected):
    _, (sample,), inputs = scene
    sample = sample.clone()
    sample.query_instances = InstanceData(bboxes=expected['fixed_boxes'][:3], query_ids=torch.arange(3))
    (result,) = network.predict(inputs, [sample])
    found = result.pred_instances
    count = len(expected['det_scores'])
    close(found.bboxes[:count], expected['det_boxes'], 1e-2)
    close(found.scores[:count], expected['det_scores'])
    close(found.embeddings[:count], expected['det_embeddings'])
    close(result.query_instances.embeddings, expected['query_embeddings'])
