"""Tests complete small two-stage detectors: OIM in both forms, NAE and SeqNet."""

import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn

from mmps.registry import MODELS
from mmps.structures import person_boxes
from mmps.synthetic import generate

KINDS = pytest.mark.parametrize('kind', ['fpn', 'c4', 'nae', 'seqnet'])
RPN_LOSSES = {'loss_rpn_cls', 'loss_rpn_bbox'}
LOSSES = {
    'fpn': {'loss_cls', 'acc', 'loss_bbox', 'loss_reid'},
    'c4': {'loss_cls', 'acc', 'loss_bbox', 'loss_reid'},
    'nae': {'loss_cls', 'loss_bbox', 'loss_reid'},
    'seqnet': {'s0.loss_cls', 's0.acc', 's0.loss_bbox', 's1.loss_cls', 's1.loss_bbox', 'loss_reid'},
}


def total(losses):
    values = []
    for name, value in losses.items():
        if 'loss' in name:
            values.extend(value if isinstance(value, list | tuple) else [value])
    return sum(value.sum() for value in values)


def embedding_layers(detector):
    head = getattr(detector.roi_head, 'second', detector.roi_head).embedding_head
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear)]


def memory_of(detector):
    return {name: value.clone() for name, value in detector.memory.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@KINDS
def test_training_gives_box_and_reid_losses_with_gradients(build_detector, make_batch, kind):
    detector = build_detector(kind).train()
    detector.memory.lut.normal_()  # an empty LUT gives no gradient
    losses = detector.loss(*make_batch([[0, 3], [-1, 5, 3]]))
    assert set(losses) == RPN_LOSSES | LOSSES[kind]
    total(losses).backward()
    missing = [name for name, parameter in detector.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert not missing
    assert all(layer.weight.grad.abs().sum() > 0 for layer in embedding_layers(detector))


@KINDS
def test_training_adds_the_batch_to_the_memory(build_detector, make_batch, kind):
    detector = build_detector(kind).train()
    detector.loss(*make_batch([[0, 3], [-1, 5, 3]]))
    assert detector.memory.lut.norm(dim=1).gt(0).tolist() == [True, False, False, True, False, True]
    assert detector.memory.queue.norm(dim=1).gt(0).any()


@KINDS
def test_a_batch_without_labelled_persons_trains(build_detector, make_batch, kind):
    detector = build_detector(kind).train()
    losses = detector.loss(*make_batch([[-1, -1], [-1]]))
    value = total(losses)
    value.backward()
    assert torch.isfinite(value) and losses['loss_reid'] == 0
    assert all(losses[name] > 0 for name in losses if name.endswith('loss_bbox'))
    assert not detector.memory.lut.any()


@KINDS
def test_a_batch_without_persons_trains_and_does_not_change_the_memory(build_detector, make_batch, kind):
    detector = build_detector(kind).train()
    before = memory_of(detector)
    losses = detector.loss(*make_batch([[], []]))
    value = total(losses)
    value.backward()
    assert torch.isfinite(value) and losses['loss_reid'] == 0
    assert same(memory_of(detector), before)
    assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())


def test_one_image_of_a_batch_may_have_no_persons(build_detector, make_batch):
    detector = build_detector().train()
    losses = detector.loss(*make_batch([[], [2, -1]]))
    assert torch.isfinite(total(losses)) and losses['loss_reid'] > 0


def test_ignored_boxes_are_not_persons(build_detector, make_batch):
    inputs, samples = make_batch([[0], [3]])
    for sample in samples:
        sample.ignored_instances = InstanceData(
            bboxes=torch.tensor([[60.0, 4, 88, 62]]), labels=torch.tensor([0]), person_ids=torch.tensor([-1])
        )
    detector = build_detector().train()
    assert torch.isfinite(total(detector.loss(inputs, samples)))
    assert not detector.memory.queue.any()  # the ignored person has the id -1 and would be in the queue


def test_persons_update_the_rows_of_their_own_ids(build_detector, make_batch):
    """Only the RoIs of a person update its row."""
    inputs, samples = make_batch([[0, 3], [5, 1, 4]])
    seen = []
    detector = build_detector().train()
    detector.roi_head.reid_loss.register_forward_pre_hook(lambda _, args: seen.append(args))
    feats = detector.extract_feat(inputs)
    detector.roi_head.train_cfg.sampler.num = 5000
    # Without proposals only the ground truth is sampled, so each person has exactly one RoI.
    detector.roi_head.loss(
        feats,
        [
            InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long))
            for _ in samples
        ],
        samples,
    )
    ((embeddings, person_ids),) = seen
    assert person_ids.tolist() == [0, 3, 5, 1, 4]
    expected = detector.embed(feats, [sample.gt_instances.bboxes for sample in samples])
    torch.testing.assert_close(embeddings, torch.cat(expected), atol=1e-5, rtol=0)


@pytest.fixture(params=['fpn', 'c4', 'nae', 'seqnet'])
def detector(request, build_detector):
    return build_detector(request.param).eval()


def is_confidence_weighted(detector):
    return getattr(getattr(detector.roi_head, 'second', detector.roi_head), 'confidence_weighted', False)


def with_queries(samples, boxes, image=0):
    samples[image].query_instances = InstanceData(bboxes=torch.tensor(boxes), query_ids=torch.arange(len(boxes)))
    return samples


@torch.no_grad()
def test_one_pass_gives_detections_and_query_embeddings(detector, make_batch, monkeypatch):
    passes = []
    detector.backbone.register_forward_hook(lambda *_: passes.append(1))
    inputs, samples = make_batch([[0, 3], [-1]])
    with_queries(samples, [[4.0, 6, 24, 58], [34, 10, 50, 50]])
    results = detector.predict(inputs, samples)
    assert len(passes) == 1
    for sample in results:
        found = sample.pred_instances
        count = len(found)
        assert count > 0
        assert found.bboxes.shape == (count, 4) and found.scores.shape == found.labels.shape == (count,)
        weights = found.scores if is_confidence_weighted(detector) else torch.ones(count)
        torch.testing.assert_close(found.embeddings.norm(dim=1), weights)
        assert not found.labels.any()
    torch.testing.assert_close(results[0].query_instances.embeddings.norm(dim=1), torch.ones(2))
    assert 'query_instances' not in results[1]


@torch.no_grad()
def test_predict_and_embed_give_the_same_embeddings(detector, make_batch):
    inputs, samples = make_batch([[0], [3]])
    box = [[6.0, 8, 30, 60]]
    sample = detector.predict(inputs, with_queries(samples, box, image=1))[1]
    feats = detector.extract_feat(inputs)
    query = detector.embed(feats, [torch.zeros(0, 4), torch.tensor(box)])[1]
    torch.testing.assert_close(sample.query_instances.embeddings, query, atol=1e-5, rtol=0)
    if is_confidence_weighted(detector):
        return  # it embeds the box before regression, see test_norm_aware.py
    found = detector.embed(feats, [torch.zeros(0, 4), sample.pred_instances.bboxes])[1]
    torch.testing.assert_close(sample.pred_instances.embeddings, found, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize('person_ids', [[[0, 3], [-1]], [[], [-1, 5, 3]], [[], []]])
def test_annotated_persons_get_the_embeddings_of_embed(detector, make_batch, person_ids):
    inputs, samples = make_batch(person_ids)
    with_queries(samples, [[6.0, 8, 30, 60]])
    samples[0].gt_instances.bboxes = HorizontalBoxes(samples[0].gt_instances.bboxes)
    results = detector.predict(inputs, samples)
    expected = detector.embed(detector.extract_feat(inputs), person_boxes(samples))
    for sample, embeddings, ids in zip(results, expected, person_ids, strict=True):
        assert sample.gt_instances.embeddings.shape == (len(ids), detector.memory.lut.shape[1])
        torch.testing.assert_close(sample.gt_instances.embeddings, embeddings, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize('annotations', [None, InstanceData()])
def test_annotations_do_not_change_detections(detector, make_batch, annotations):
    expected = detector.predict(*make_batch([[0, 3]]))[0].pred_instances
    inputs, (sample,) = make_batch([[0, 3]])
    del sample.gt_instances
    if annotations is not None:
        sample.gt_instances = annotations
    found = detector.predict(inputs, [sample])[0].pred_instances
    for name in ('bboxes', 'scores', 'embeddings'):
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=0)
    assert 'embeddings' not in sample.get('gt_instances', {})


@torch.no_grad()
def test_a_test_runs_the_network_once_per_image(repository, mmps_scope, tmp_path, monkeypatch):
    """Detections, queries and annotated persons share one pass and one call of embed. Query images are in the gallery."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    generate(tmp_path / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    cfg = Config.fromfile(repository / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py')
    cfg.merge_from_dict(
        {'test_dataloader.dataset.data_root': str(tmp_path / 'tiny'), 'test_dataloader.dataset.pipeline.1.scale': (224, 128)}
    )
    loader = Runner.build_dataloader(cfg.test_dataloader)
    detector = MODELS.build(cfg.model).eval()
    images = {'extract_feat': 0, 'embed_boxes': 0}

    def counted(name):
        method = getattr(detector, name)

        def call(*args):
            images[name] += len(args[-1])  # images of extract_feat, lists of boxes of embed_boxes
            return method(*args)

        return call

    for name in images:
        monkeypatch.setattr(detector, name, counted(name))
    samples = [sample for batch in loader for sample in detector.test_step(batch)]
    protocol = loader.dataset.metainfo['protocol']
    assert images == {'extract_feat': len(protocol.images), 'embed_boxes': len(protocol.images)}
    queries = [sample.query_instances for sample in samples if 'query_instances' in sample]
    assert sorted(torch.cat([each.query_ids for each in queries]).tolist()) == list(range(protocol.num_queries))
    assert all(len(each.embeddings) == len(each) for each in (*queries, *(sample.gt_instances for sample in samples)))


@torch.no_grad()
def test_an_image_without_detections_still_has_its_queries(detector, make_batch):
    head = getattr(detector.roi_head, 'first', detector.roi_head)
    head.test_cfg.score_thr = 1.0
    inputs, samples = make_batch([[0], [3]])
    results = detector.predict(inputs, with_queries(samples, [[6.0, 8, 30, 60]]))
    for sample in results:
        assert sample.pred_instances.embeddings.shape == (0, detector.memory.lut.shape[1])
        assert sample.pred_instances.bboxes.shape == (0, 4)
    assert results[0].query_instances.embeddings.shape[0] == 1


@torch.no_grad()
def test_given_and_predicted_boxes_are_in_original_pixels(detector, make_batch):
    """An image that was enlarged 2 x in width and 4 x in height."""
    inputs, samples = make_batch([[0]], scale=(2.0, 4.0))
    samples[0].gt_instances.bboxes /= torch.tensor([2.0, 4, 2, 4])
    original = detector.predict(inputs, with_queries(samples, [[3.0, 2, 15, 15]]))[0]
    inputs, samples = make_batch([[0]])
    network = detector.predict(inputs, with_queries(samples, [[6.0, 8, 30, 60]]))[0]
    scale = torch.tensor([2.0, 4, 2, 4])
    torch.testing.assert_close(original.pred_instances.bboxes * scale, network.pred_instances.bboxes)
    torch.testing.assert_close(original.pred_instances.embeddings, network.pred_instances.embeddings)
    torch.testing.assert_close(original.query_instances.embeddings, network.query_instances.embeddings)
    torch.testing.assert_close(original.gt_instances.embeddings, network.gt_instances.embeddings)
    inputs, samples = make_batch([[0]], scale=(2.0, 4.0))
    kept = detector.predict(inputs, samples, rescale=False)[0]
    torch.testing.assert_close(kept.pred_instances.bboxes, network.pred_instances.bboxes)


@torch.no_grad()
@pytest.mark.parametrize('counts', [(0, 0), (0, 2), (3, 0), (1, 2)])
def test_embed_returns_one_tensor_per_image_also_without_boxes(detector, make_batch, counts):
    inputs, _ = make_batch([[], []])
    boxes = [torch.tensor([[4.0, 6, 24, 58]]).repeat(count, 1).reshape(-1, 4) for count in counts]
    embeddings = detector.embed(detector.extract_feat(inputs), boxes)
    assert [e.shape for e in embeddings] == [(count, detector.memory.lut.shape[1]) for count in counts]


def test_embed_is_differentiable(detector, make_batch):
    inputs, samples = make_batch([[0, 1], [2]])
    embeddings = detector.embed(detector.extract_feat(inputs), [sample.gt_instances.bboxes for sample in samples])
    torch.cat(embeddings)[:, 0].sum().backward()
    assert detector.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(layer.weight.grad.abs().sum() > 0 for layer in embedding_layers(detector))


@torch.no_grad()
def test_prediction_does_not_change_the_state(detector, make_batch):
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.predict(*make_batch([[0, 3], [-1]]))
    assert same(before, detector.state_dict())


def test_a_separate_reid_extractor_pools_for_the_reid_branch(build_detector, detector_config, make_batch):
    cfg = detector_config()
    cfg.roi_head.reid_roi_extractor = {
        **cfg.roi_head.bbox_roi_extractor,
        'roi_layer': dict(type='RoIAlign', output_size=(12, 4), sampling_ratio=2),
    }
    cfg.roi_head.embedding_head.roi_feat_size = (12, 4)
    detector = MODELS.build(cfg).train()
    losses = detector.loss(*make_batch([[0, 3], [-1]]))
    assert losses['loss_reid'] > 0
    embeddings = detector.eval().embed(detector.extract_feat(make_batch([[0]])[0]), [torch.tensor([[4.0, 6, 24, 58]])])
    assert embeddings[0].shape == (1, 16)


def test_state_dict_carries_the_memory(build_detector, make_batch):
    detector, other = build_detector(), build_detector(num_identities=0, seed=1)
    detector.train().loss(*make_batch([[0, 3], [-1]]))
    other.load_state_dict(detector.state_dict())
    assert same(memory_of(detector), memory_of(other))


def rois_of_the_reid_branch(detector, batch, monkeypatch):
    """Returns the losses of a step and the boxes whose embeddings its re-id loss got."""
    head = getattr(detector.roi_head, 'second', detector.roi_head)
    pooled, learnt, extract = [], [], head.bbox_roi_extractor.forward
    reid_loss = head.reid_loss.forward
    with monkeypatch.context() as patch:
        patch.setattr(head.bbox_roi_extractor, 'forward', lambda x, rois: (pooled.append(rois), extract(x, rois))[1])
        patch.setattr(head.reid_loss, 'forward', lambda e, *ids, **more: (learnt.append(e), reid_loss(e, *ids, **more))[1])
        torch.manual_seed(0)
        losses = detector.loss(*batch)
    return losses, pooled, learnt[0]


@pytest.mark.parametrize('kind', ['fpn', 'c4', 'nae', 'seqnet'])
def test_the_rois_of_the_reid_branch_move_in_training(build_detector, make_batch, kind, monkeypatch):
    """DKD's feature-level spatial-invariant augmentation. The boxes of the detection branch stay."""
    detector = build_detector(kind).train()
    head = getattr(detector.roi_head, 'second', detector.roi_head)
    batch = make_batch([[0, 3], [-1, 5, 3]])
    still, pooled, embeddings = rois_of_the_reid_branch(detector, batch, monkeypatch)
    detector = build_detector(kind).train()
    head = getattr(detector.roi_head, 'second', detector.roi_head)
    head.reid_jitter = 0.1
    moved, pooled_anew, embeddings_anew = rois_of_the_reid_branch(detector, batch, monkeypatch)
    count, rois = len(embeddings), torch.cat(pooled_anew)
    assert len(embeddings_anew) == count and len(rois) == len(torch.cat(pooled)) + count
    assert not torch.equal(embeddings_anew, embeddings)
    boxes, shifted = rois[:-count], rois[-count:]
    distance = (shifted[:, None] - boxes).abs()
    size = (shifted[:, 3:] - shifted[:, 1:3]).repeat(1, 2)
    nearest = (distance[..., 1:] / size[:, None]).amax(2).masked_fill(distance[..., 0] > 0, 9).amin(1)
    assert 0.001 < nearest.max() <= 0.1 / 0.8
    for name in ('loss_bbox', 's0.loss_bbox', 's0.loss_cls'):
        if name in still and kind != 'nae':  # the batch norm of NAE's head sees the moved boxes too
            torch.testing.assert_close(moved[name], still[name])
    total(moved).backward()
    assert all(layer.weight.grad.isfinite().all() for layer in embedding_layers(detector))
    with torch.no_grad():
        given = person_boxes(batch[1])
        feats = detector.eval().extract_feat(batch[0])
        head.reid_jitter, first = 0.0, detector.embed(feats, given)
        assert all(map(torch.equal, first, detector.embed(feats, given)))  # given boxes do not move


@KINDS
def test_a_moved_re_id_branch_trains_on_any_number_of_persons(build_detector, make_batch, kind):
    detector = build_detector(kind).train()
    getattr(detector.roi_head, 'second', detector.roi_head).reid_jitter = 0.1
    for persons in ([[], []], [[2], []], [[-1], [4, 1]]):
        loss = total(detector.loss(*make_batch(persons)))
        loss.backward()
        assert loss.isfinite()
