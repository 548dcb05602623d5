"""Backbone, neck and heads that do not fit are refused in one line with both sides."""

import pytest
import torch
from mmengine.config import Config

from mmps.registry import MODELS


@pytest.mark.parametrize(
    'kind, changes, message',
    [
        ('fpn', {'neck.num_outs': 5}, 'rpn_head has 4 strides .*the neck gives 5 levels'),
        ('fpn', {'neck.in_channels': [8, 16, 32]}, r'in_channels of the neck names 3 levels .*the backbone gives 4 '),
        ('fpn', {'rpn_head.in_channels': 5}, 'in_channels of rpn_head is 5, the neck gives 16 channels'),
        (
            'fpn',
            {'roi_head.bbox_roi_extractor.featmap_strides': [4, 8, 16, 32, 64]},
            r'roi_head\.bbox_roi_extractor has 5 featmap_strides .*the neck gives 4 levels',
        ),
        ('fpn', {'roi_head.bbox_roi_extractor.out_channels': 5}, 'bbox_roi_extractor is 5, the neck gives 16 channels'),
        (
            'seqnet',
            {'roi_head.second.bbox_roi_extractor.out_channels': 5},
            r'roi_head\.second\.bbox_roi_extractor is 5, the neck gives 16 channels',
        ),
        ('c4', {'backbone.out_indices': (1, 2)}, 'rpn_head has 1 strides .*the backbone gives 2 levels'),
        ('fpn', {'roi_head.reid_loss.embed_dims': 5}, 'embedding_head has embed_dims=16, reid_loss embed_dims=5'),
        ('nae', {'roi_head.reid_loss.embed_dims': 5}, 'embedding_head has embed_dims=16, reid_loss embed_dims=5'),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(detector_config, mmps_scope, kind, changes, message):
    cfg = Config(dict(model=detector_config(kind)))
    cfg.merge_from_dict({f'model.{name}': value for name, value in changes.items()})
    with pytest.raises(ValueError, match=message) as error:
        MODELS.build(cfg.model)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'count, message',
    [
        (0, '0 tensors of boxes for the features of 2 images'),
        (3, '3 tensors of boxes for the features of 2 images'),
    ],
)
@pytest.mark.parametrize('kind', ['fpn', 'seqnet', 'alignps', 'alignps-roi'])
def test_boxes_of_another_number_of_images_are_refused_by_embed(build_detector, make_batch, box, kind, count, message):
    detector = build_detector(kind).eval()
    feats = detector.extract_feat(make_batch([[], []])[0])
    with pytest.raises(ValueError, match=message):
        detector.embed(feats, [box] * count)


@pytest.mark.parametrize('edges', [[4.0, 6, 4, 58], [24, 6, 4, 58], [4, 6, 24, 6], [float('nan'), 6, 24, 58]])
def test_an_empty_box_is_refused_by_embed_and_named(build_detector, make_batch, box, edges):
    detector = build_detector().eval()
    feats = detector.extract_feat(make_batch([[], []])[0])
    empty = box.new_tensor([edges])
    with pytest.raises(ValueError, match=r'box 1 of image 1 is empty: \[.*expected x1 < x2 and y1 < y2') as error:
        detector.embed(feats, [box, empty.new_tensor([box[0].tolist(), edges])])
    assert '\n' not in str(error.value)


def test_boxes_of_another_shape_are_refused_by_embed(build_detector, make_batch, box):
    detector = build_detector().eval()
    feats = detector.extract_feat(make_batch([[]])[0])
    with pytest.raises(ValueError, match=r'image 0 have shape \(4,\): expected \(N, 4\)'):
        detector.embed(feats, [box[0]])


@pytest.fixture
def box():
    return torch.tensor([[4.0, 6, 24, 58]])
