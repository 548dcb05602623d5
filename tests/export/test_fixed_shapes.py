"""A graph with a fixed number of rows finds what the detector finds. PyTorch runs both, which takes no export."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from small_exports import GIVEN, KINDS, predict, random_images

from mmps.export.graph import PersonSearchGraph, most_persons


def run(graph, images, divisor=32):
    height, width = (-(-max(image.shape[axis] for image in images) // divisor) * divisor for axis in (0, 1))
    batch = torch.zeros(len(images), height, width, 3, dtype=torch.uint8)
    for padded, image in zip(batch, images, strict=True):
        padded[: image.shape[0], : image.shape[1]] = torch.from_numpy(image)
    sizes = torch.tensor([image.shape[:2] for image in images])
    with torch.no_grad():
        return graph(batch, sizes, torch.from_numpy(GIVEN).expand(len(images), -1, -1))


def assert_same(outputs, samples):
    for boxes, scores, embeddings, count, given, sample in zip(*outputs, samples, strict=True):
        found = sample.pred_instances
        assert count == len(found)
        np.testing.assert_allclose(boxes[:count], found.bboxes, atol=1e-2)
        np.testing.assert_allclose(scores[:count], found.scores, atol=1e-4)
        np.testing.assert_allclose(embeddings[:count], found.embeddings, atol=1e-4)
        np.testing.assert_allclose(given, sample.query_instances.embeddings, atol=1e-4)
        assert not boxes[count:].any() and not scores[count:].any() and not embeddings[count:].any()


@pytest.mark.parametrize('kind', KINDS)
def test_a_graph_finds_what_the_detector_finds(build_finder, detector_config, kind):
    detector = build_finder(detector_config(kind))
    graph = PersonSearchGraph(detector, most_persons(detector)).eval()
    for images in (random_images(1, 90, 120), random_images(3, 64, 96) + random_images(1, 50, 70)):
        samples = predict(detector, images)
        assert sum(len(sample.pred_instances) for sample in samples)
        assert_same(run(graph, images), samples)


@pytest.mark.parametrize('kind', KINDS)
def test_of_too_many_persons_the_most_confident_are_kept(build_finder, detector_config, kind):
    detector = build_finder(detector_config(kind))
    images = random_images(2, 90, 120)
    everybody, (first, second, *_) = (
        run(PersonSearchGraph(detector, 5).eval(), images),
        run(PersonSearchGraph(detector, 1).eval(), images),
    )
    assert first.shape == (2, 1, 4) and second.shape == (2, 1)
    torch.testing.assert_close(second[:, 0], everybody.scores[:, 0])
    torch.testing.assert_close(first[:, 0], everybody.boxes[:, 0])


@pytest.mark.parametrize('kind', KINDS)
def test_an_image_without_anybody_has_no_rows(build_finder, detector_config, kind):
    detector = build_finder(detector_config(kind))
    for module in detector.modules():
        if hasattr(module, 'test_cfg') and isinstance(module.test_cfg, dict) and 'score_thr' in module.test_cfg:
            module.test_cfg['score_thr'] = 1.0
    graph = PersonSearchGraph(detector, 4).eval()
    outputs = run(graph, random_images(2, 64, 96))
    assert outputs.counts.tolist() == [0, 0]
    assert not outputs.boxes.any() and not outputs.scores.any() and not outputs.embeddings.any()
    assert torch.linalg.vector_norm(outputs.given_embeddings, dim=2).allclose(torch.ones(2, len(GIVEN)), atol=1e-4)


def test_a_deformable_convolution_without_its_operator_is_the_same(build_finder, detector_config):
    config = detector_config('alignps')
    config.neck.conv_cfg, config.bbox_head.dcn_on_last_conv = dict(type='DCN'), True
    detector, images = build_finder(config), random_images(2, 90, 120)
    for unroll in (False, True):
        assert_same(run(PersonSearchGraph(detector, 6, unroll).eval(), images), predict(detector, images))


def test_a_detector_that_needs_its_query_is_refused(build_finder, repository):
    config = Config.fromfile(repository / 'configs/_base_/models/qeeps_r18-w8_fpn.py').model
    config.roi_head.reid_loss.num_identities = 6
    with pytest.raises(ValueError, match='QEEPS: expected OIM, NAE, SeqNet'):
        PersonSearchGraph(build_finder(config), 5)


def test_another_suppression_is_refused(build_finder, detector_config):
    config = detector_config('fpn')
    config.test_cfg.rcnn.nms.type = 'soft_nms'
    with pytest.raises(ValueError, match="nms: expected type 'nms', got 'soft_nms'"):
        PersonSearchGraph(build_finder(config), 5)
