"""Every detector refines given boxes (``refine_boxes``) and runs its dense head (``run_dense_head``) for a distiller."""

import pytest
import torch
from mmengine.structures import InstanceData

KINDS = ['fpn', 'c4', 'nae', 'seqnet', 'alignps', 'alignps-roi']
EACH = pytest.mark.parametrize('kind', KINDS)
ALIGNPS = pytest.mark.parametrize('kind', ['alignps', 'alignps-roi'])
BOXES = [torch.tensor([[4.0, 6, 24, 58], [34, 10, 50, 50]]), torch.zeros(0, 4), torch.tensor([[60.0, 4, 88, 62]])]


@pytest.fixture
def detector_and_feats(build_detector, make_batch):

    def make(kind, training=False):
        detector = build_detector(kind).train(training)
        images, samples = make_batch([[0, 3], [], [5]])
        return detector, detector.extract_feat(images), samples

    return make


@pytest.mark.parametrize('training', [False, True])
@EACH
def test_logits_and_boxes_have_gradients_to_the_backbone(detector_and_feats, kind, training):
    detector, feats, _ = detector_and_feats(kind, training)
    logits, boxes = detector.refine_boxes(feats, BOXES)
    assert logits.shape == (3,) and boxes.shape == (3, 4)
    if kind.startswith('alignps'):  # its distances may be 0 without a gradient
        torch.nn.init.constant_(detector.bbox_head.conv_reg.bias, 1)
        logits, boxes = detector.refine_boxes(feats, BOXES)
    for values in (logits, boxes):
        total = (
            values.movedim(0, -1) * torch.tensor([1.0, 2, 4])
        ).sum()  # unequal weights: a batch norm makes the plain sum constant
        (gradient,) = torch.autograd.grad(total, detector.backbone.conv1.weight, retain_graph=True)
        assert gradient.isfinite().all() and gradient.any()


@EACH
def test_zero_boxes_can_be_backpropagated(detector_and_feats, kind):
    detector, feats, _ = detector_and_feats(kind)
    logits, boxes = detector.refine_boxes(feats, [torch.zeros(0, 4)] * 3)
    assert logits.shape == (0,) and boxes.shape == (0, 4)
    (logits.sum() + boxes.sum()).backward()


@EACH
def test_a_box_is_refined_in_its_own_image(detector_and_feats, kind):
    detector, feats, _ = detector_and_feats(kind)
    together = detector.refine_boxes(feats, BOXES)
    alone = detector.refine_boxes(tuple(level[2:] for level in feats), BOXES[2:])
    for ours, theirs in zip(alone, together, strict=True):
        torch.testing.assert_close(ours, theirs[2:])
    assert (together[0][2:] - detector.refine_boxes(tuple(level[:1] for level in feats), BOXES[2:])[0]).any()


@EACH
def test_the_dense_head_covers_every_level(detector_and_feats, kind):
    detector, feats, _ = detector_and_feats(kind)
    logits, *_ = detector.run_dense_head(feats)
    levels = feats[:-1] if kind == 'alignps-roi' else feats
    anchors = {'fpn': 1, 'seqnet': 1, 'alignps': 1, 'alignps-roi': 1, 'c4': 15, 'nae': 15}[kind]
    assert [each.shape for each in logits] == [(3, anchors, *level.shape[2:]) for level in levels]
    assert logits[0].requires_grad
    for ours, theirs in zip(logits, detector.dense_head(levels)[0], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('kind', ['fpn', 'c4', 'seqnet'])
def test_a_roi_head_refines_boxes_as_it_detects(detector_and_feats, kind):
    detector, feats, samples = detector_and_feats(kind)
    head = getattr(detector.roi_head, 'first', detector.roi_head)
    found = head.predict_bbox(
        feats, [sample.metainfo for sample in samples], [InstanceData(bboxes=each) for each in BOXES], rcnn_test_cfg=None
    )
    logits, boxes = detector.refine_boxes(feats, BOXES)
    torch.testing.assert_close(logits.sigmoid(), torch.cat([each.scores[:, 0] for each in found]))
    torch.testing.assert_close(in_image(boxes), torch.cat([each.bboxes for each in found]))


def test_a_norm_aware_head_refines_boxes_as_it_detects(detector_and_feats):
    detector, feats, samples = detector_and_feats('nae')
    detector.roi_head.test_cfg.update(score_thr=0.0, nms=dict(type='nms', iou_threshold=1.0))
    found = detector.roi_head.predict(feats, [InstanceData(bboxes=each) for each in BOXES], samples)
    logits, boxes = detector.refine_boxes(feats, BOXES)
    expected = torch.cat([in_image(boxes), logits.sigmoid()[:, None]], 1).split([2, 0, 1])
    for ours, result in zip(expected, found, strict=True):
        torch.testing.assert_close(
            ours[ours[:, 4].argsort(descending=True)], torch.cat([result.bboxes, result.scores[:, None]], 1)
        )


@pytest.mark.parametrize('training', [False, True])
@ALIGNPS
def test_alignps_reads_its_maps_at_box_centres(detector_and_feats, kind, training, monkeypatch):
    """All points regress the same box, and the logit of a point is its position."""
    detector, feats, _ = detector_and_feats(kind, training)
    stride, edges = 8, torch.tensor([-10.0, 2, 100, 63])
    y, x = torch.meshgrid(torch.arange(8) * stride + 4.0, torch.arange(12) * stride + 4.0, indexing='ij')
    distances = torch.stack([x - edges[0], y - edges[1], edges[2] - x, edges[3] - y]).expand(3, -1, -1, -1)
    monkeypatch.setattr(
        detector.bbox_head,
        'forward',
        lambda feats: ([(x + 1000 * y).expand(3, 1, -1, -1)], [distances / stride if training else distances], None, None),
    )
    logits, boxes = detector.refine_boxes(feats, BOXES)
    torch.testing.assert_close(boxes, edges.expand(3, -1))
    torch.testing.assert_close(logits, torch.tensor([14 + 32000.0, 42 + 30000, 74 + 33000]))


@ALIGNPS
def test_a_box_centred_at_a_point_gets_the_outputs_of_the_point(detector_and_feats, kind):
    detector, feats, _ = detector_and_feats(kind)
    point = torch.tensor([5 * 8 + 4.0, 3 * 8 + 4.0])
    around = torch.cat([point - torch.tensor([7.0, 11]), point + torch.tensor([7.0, 11])])[None]
    logits, boxes = detector.refine_boxes(feats, [around[:0], around, around[:0]])
    (scores, *_), (distances, *_), *_ = detector.run_dense_head(feats)
    left, top, right, bottom = distances[1, :, 3, 5]
    torch.testing.assert_close(logits, scores[1, :, 3, 5])
    torch.testing.assert_close(boxes, torch.stack([point[0] - left, point[1] - top, point[0] + right, point[1] + bottom])[None])


def in_image(boxes):
    """Clips boxes to an image of 64 x 96."""
    return torch.stack([boxes[:, 0::2].clamp(0, 96), boxes[:, 1::2].clamp(0, 64)], 2).flatten(1)
