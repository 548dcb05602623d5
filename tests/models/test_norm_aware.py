"""NAE and SeqNet: the norm is the score, two heads run in sequence, confidence weights the similarity."""

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData

from mmps.models import NormAwareEmbedding
from mmps.models.embedding_heads import BNLinear


@pytest.mark.parametrize('dims, widths', [(256, [128, 128]), (7, [3, 4]), (8, [2, 3, 3])])
def test_embed_dims_are_divided_among_the_kinds_of_features(dims, widths):
    head = NormAwareEmbedding([5 + kind for kind in range(len(widths))], dims)
    assert [each.linear.out_features for each in head.projectors] == widths
    embeddings, logits = head.eval()([torch.randn(3, 5 + kind) for kind in range(len(widths))])
    assert embeddings.shape == (3, dims) and logits.shape == (3,)


def test_the_embedding_is_the_direction_and_the_logit_depends_on_the_norm():
    head = NormAwareEmbedding([4, 6], 10).eval()
    feats = [torch.randn(5, 4), torch.randn(5, 6)]
    embeddings, logits = head(feats)
    projected = torch.cat([project(kind) for project, kind in zip(head.projectors, feats, strict=True)], dim=1)
    torch.testing.assert_close(embeddings, projected / projected.norm(dim=1, keepdim=True))
    norm = head.rescaler
    expected = (projected.norm(dim=1) - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize('count', [0, 1, 2])
@pytest.mark.parametrize('training', [False, True])
def test_any_number_of_boxes(count, training):
    head = NormAwareEmbedding([4, 6], 10).train(training)
    embeddings, logits = head([torch.randn(count, 4), torch.randn(count, 6)])
    assert embeddings.shape == (count, 10) and logits.shape == (count,)
    (embeddings.sum() + logits.sum()).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in head.parameters())


def test_a_projection_of_zeros_has_finite_gradients():
    head = NormAwareEmbedding([4], 10)
    head.init_weights()
    embeddings, logits = head.eval()([torch.zeros(2, 4)])
    (embeddings.sum() + logits.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters() if parameter.grad is not None)


def test_projections_and_the_bn_neck_start_with_small_weights(build_detector):
    layers = [module for module in build_detector('seqnet').modules() if isinstance(module, BNLinear)]
    assert len(layers) == 3
    for layer in layers:
        assert layer.linear.weight.std() < 0.05 and layer.norm.weight.abs().max() < 0.1
        assert not layer.linear.bias.any() and not layer.norm.bias.any()


@torch.no_grad()
@pytest.mark.parametrize('kind', ['nae', 'seqnet'])
def test_a_detection_is_embedded_at_the_box_before_its_regression_and_weighted(build_detector, make_batch, kind):
    detector = build_detector(kind).eval()
    head = getattr(detector.roi_head, 'second', detector.roi_head)
    head.test_cfg.nms.iou_threshold = 1.0  # nothing is dropped, so detections are in the order of scores
    head.test_cfg.score_thr, head.test_cfg.max_per_img = 0.0, 50
    inputs, samples = make_batch([[0], [3]])
    feats = detector.extract_feat(inputs)
    boxes = [torch.tensor([[4.0, 6, 24, 58], [34, 10, 50, 50]]), torch.tensor([[60.0, 4, 88, 62]])]
    scores = [torch.tensor([0.9, 0.7]), torch.tensor([0.6])]
    embeddings = detector.embed(feats, boxes)
    for found, of_image, embedding in zip(head.refine(feats, boxes, scores, samples), scores, embeddings, strict=True):
        torch.testing.assert_close(found.scores, of_image)
        torch.testing.assert_close(found.embeddings, embedding * of_image[:, None])
    head.confidence_weighted = False
    plain = head.refine(feats, boxes, scores, samples)
    torch.testing.assert_close(plain[0].embeddings, embeddings[0])


@torch.no_grad()
def test_the_nae_score_comes_from_the_norm(build_detector, make_batch):
    detector = build_detector('nae').eval()
    detector.roi_head.test_cfg.nms.iou_threshold = 1.0
    inputs, samples = make_batch([[0]])
    feats = detector.extract_feat(inputs)
    boxes = [torch.tensor([[4.0, 6, 24, 58], [34, 10, 50, 50]])]
    logits = detector.roi_head.describe(feats, bbox2roi(boxes)).logits
    (found,) = detector.roi_head.predict(feats, [InstanceData(bboxes=boxes[0])], samples)
    torch.testing.assert_close(found.scores, logits.sigmoid().sort(descending=True).values)


def test_the_second_head_of_seqnet_trains_on_the_boxes_of_the_first(build_detector, make_batch, monkeypatch):
    """The boxes are clipped to the image and have no gradient; the annotated boxes are added again."""
    detector = build_detector('seqnet').train()
    seen = []
    second = detector.roi_head.second
    loss = second.loss
    monkeypatch.setattr(
        second, 'loss', lambda x, boxes, samples: seen.extend(each.bboxes.clone() for each in boxes) or loss(x, boxes, samples)
    )
    inputs, samples = make_batch([[0, 3], [-1]])
    detector.loss(inputs, samples)
    assert len(seen) == 2 and not any(boxes.requires_grad for boxes in seen)
    for boxes in seen:
        assert boxes.min() >= 0 and boxes[:, ::2].max() <= 96 and boxes[:, 1::2].max() <= 64


@torch.no_grad()
def test_seqnet_keeps_the_scores_of_the_first_head(build_detector, make_batch, monkeypatch):
    detector = build_detector('seqnet').eval()
    inputs, samples = make_batch([[0]])
    feats = detector.extract_feat(inputs)
    first = InstanceData(bboxes=torch.tensor([[4.0, 6, 24, 58], [60, 4, 88, 62]]), scores=torch.tensor([0.8, 0.3]))
    monkeypatch.setattr(detector.roi_head.first, 'predict', lambda *args: [first])
    assert detector.roi_head.predict(feats, [], samples)[0].scores.tolist() == pytest.approx([0.8, 0.3])
