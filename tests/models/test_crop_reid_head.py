"""A detector's re-id head, trained on crops before it teaches (HKD)."""

import pytest
import torch
import torch.nn.functional as F

from mmps.registry import MODELS

DETECTORS = ['seqnet', 'fpn', 'nae', 'c4']


@pytest.fixture
def build(detector_config, mmps_scope):

    def make(kind: str = 'seqnet', **kwargs):
        torch.manual_seed(0)
        network = MODELS.build(dict(type='CropReIDHead', detector=detector_config(kind, **kwargs), crop_size=(32, 16)))
        network.init_weights()
        return network

    return make


@pytest.mark.parametrize('kind', DETECTORS)
@pytest.mark.parametrize('persons', [[[0, 3], [-1, 5, 1]], [[2], []], [[], []]], ids=['several', 'one', 'nobody'])
def test_every_weight_that_learns_gets_a_gradient_for_any_number_of_persons(kind, persons, build, make_batch):
    """Otherwise distributed training would wait for it."""
    network = build(kind).train()
    losses = network.loss(*make_batch(persons))
    losses['loss_reid'].backward()
    assert losses.keys() == {'loss_reid'} and losses['loss_reid'].isfinite()
    missing = [name for name, each in network.named_parameters() if each.requires_grad and each.grad is None]
    assert not missing
    assert all(each.grad.isfinite().all() for each in network.parameters() if each.grad is not None)


@pytest.mark.parametrize('kind', DETECTORS)
def test_it_has_the_detectors_parts_under_their_names_but_no_box_branch(kind, build, build_detector):
    network, detector = build(kind), build_detector(kind)
    names = set(network.state_dict())
    assert not any('bbox_head' in name or 'rpn' in name for name in names)
    theirs = set(detector.state_dict())
    shared = {name for name in names if name.startswith(('backbone.', 'neck.'))}
    assert shared == {name for name in theirs if name.startswith(('backbone.', 'neck.'))}
    head = 'roi_head.second.' if kind == 'seqnet' else 'roi_head.'
    rest = {name.replace('roi_head.', head) if name.startswith('roi_head.') else head + name for name in names - shared}
    assert rest < theirs


@pytest.mark.parametrize('kind', DETECTORS)
def test_a_crop_is_embedded_as_a_box_that_is_the_whole_image(kind, build):
    network = build(kind).eval()
    images = torch.randn(2, 3, 64, 32)
    feats = network.neck(network.backbone(images))
    whole = torch.tensor([[0.0, 0, 32, 64]])
    torch.testing.assert_close(network.embed_crops(images), torch.cat(network.roi_head.embed(feats, [whole, whole])))


def test_it_learns_the_persons_of_a_batch(build, make_batch):
    network, (images, samples) = build().train(), make_batch([[0, 3], [5, 1]])
    network.memory.fix(F.normalize(torch.randn(6, 16)))
    optimizer = torch.optim.AdamW([each for each in network.parameters() if each.requires_grad], lr=3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        losses.append(network.loss(images, samples)['loss_reid'])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    embeddings = torch.cat(network.embed(network.extract_feat(images), [sample.gt_instances.bboxes for sample in samples]))
    nearest = (embeddings @ network.memory.lut.T).argmax(1)
    assert nearest.tolist() == [0, 3, 5, 1]


@pytest.mark.parametrize('kind', ['alignps'])
def test_a_detector_without_a_roi_head_is_refused(kind, build):
    with pytest.raises(ValueError, match='CropReIDHead: detector is of type AlignPS: expected TwoStagePersonSearch'):
        build(kind)
