"""Tests complete small AlignPS detectors."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer
from mmdet.models.dense_heads import FCOSHead
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmps.models.dense_heads.points import assign_points, pad_rows, sample_at_centres
from mmps.models.necks.aligned_aggregation import convolve
from mmps.registry import MODELS

LOSSES = {'loss_cls', 'loss_bbox', 'loss_centerness', 'loss_reid', 'loss_triplet'}
KINDS = pytest.mark.parametrize('kind', ['plain', 'dcn', 'roi'])


@pytest.fixture
def config(detector_config):
    """config('plain', 'dcn' or 'roi', {name: value, ...}) returns the config of a small detector."""

    def make(kind='plain', changes=None):
        cfg = Config(dict(model=detector_config('alignps-roi' if kind == 'roi' else 'alignps')))
        if kind == 'dcn':
            cfg.model.neck.conv_cfg = dict(type='DCN')
            cfg.model.bbox_head.dcn_on_last_conv = True
        cfg.merge_from_dict({f'model.{name}': value for name, value in (changes or {}).items()})
        return cfg.model

    return make


@pytest.fixture
def build(config, mmps_scope):
    """Builds ``config`` with weights drawn from a seed. About half of all points are detections."""

    def make(kind='plain', changes=None, seed=0):
        torch.manual_seed(seed)
        detector = MODELS.build(config(kind, changes))
        detector.init_weights()
        with torch.no_grad():
            detector.bbox_head.conv_cls.bias.zero_()
            detector.bbox_head.conv_reg.bias.fill_(2)  # no degenerate boxes
        return detector

    return make


def memories(detector):
    return {name: value.clone() for name, value in detector.state_dict().items() if 'memory' in name}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def roi_losses(kind):
    return {'roi_loss_cls', 'roi_loss_bbox', 'roi_loss_reid', 'roi_acc'} if kind == 'roi' else set()


def with_queries(samples, boxes, image=0):
    samples[image].query_instances = InstanceData(bboxes=torch.tensor(boxes), query_ids=torch.arange(len(boxes)))
    return samples


# Training


@KINDS
def test_training_gives_all_losses_and_reaches_every_weight(build, make_batch, kind):
    detector = build(kind).train()
    detector.memory.lut.normal_()  # an empty LUT gives no gradient
    losses = detector.loss(*make_batch([[0, 3], [-1, 5, 3]]))
    assert set(losses) == LOSSES | roi_losses(kind)
    assert all(value > 0 for name, value in losses.items() if 'loss' in name)
    total(losses).backward()
    lacking = [name for name, weight in detector.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not lacking
    assert all(weight.grad.isfinite().all() for weight in detector.parameters() if weight.grad is not None)
    assert detector.neck.lateral_convs[0].weight.grad.any() and detector.bbox_head.reg_convs[-1].conv.weight.grad.any()
    frozen = {name for name, weight in detector.named_parameters() if not weight.requires_grad}
    assert frozen == {f'bbox_head.scales.{level}.scale' for level in range(1, 5)}


@pytest.mark.parametrize(
    'person_ids',
    [[[-1, -1], [-1]], [[], []], [[], [2, -1]], [[4], [4]]],
    ids=['nobody labelled', 'nobody', 'one image empty', 'one identity'],
)
def test_any_batch_trains(build, make_batch, person_ids):
    detector = build().train()
    before = memories(detector)
    losses = detector.loss(*make_batch(person_ids))
    total(losses).backward()
    assert set(losses) == LOSSES and all(value.isfinite() for value in losses.values())
    ids = [each for of_image in person_ids for each in of_image]
    assert (losses['loss_reid'] > 0) == any(each >= 0 for each in ids)
    assert losses['loss_triplet'] == 0  # no batch here has two identities
    assert (losses['loss_bbox'] > 0) == bool(ids)
    assert all(
        weight.grad is not None and weight.grad.isfinite().all() for weight in detector.parameters() if weight.requires_grad
    )
    assert same(memories(detector), before) == (not ids)


@pytest.mark.parametrize('score_thr', [0.05, 1.0], ids=['with detections', 'without'])
@pytest.mark.parametrize('person_ids', [[[-1], [-1]], [[], [2, -1]], [[], []]])
def test_any_batch_trains_a_roi_head(build, make_batch, person_ids, score_thr):
    detector = build('roi', {'test_cfg.score_thr': score_thr}).train()
    losses = detector.loss(*make_batch(person_ids))
    total(losses).backward()
    assert total(losses).isfinite() and (losses['roi_loss_bbox'] > 0) == any(person_ids)


def test_rpn_proposal_selects_the_detections_that_a_roi_head_trains_on(build, make_batch, monkeypatch):
    all_of_seven = dict(nms_pre=7, score_thr=0.0, nms=dict(type='nms', iou_threshold=1.0))
    detector, counts = build('roi', {'train_cfg.rpn_proposal': all_of_seven}).train(), []
    loss = detector.roi_head.loss

    def counted(feats, proposals, samples):
        counts.extend(len(each) for each in proposals)
        return loss(feats, proposals, samples)

    monkeypatch.setattr(detector.roi_head, 'loss', counted)
    detector.loss(*make_batch([[0], [3]]))
    assert counts == [7, 7]


def test_training_adds_the_batch_to_the_memory(build, make_batch):
    detector = build().train()
    detector.loss(*make_batch([[0, 3], [-1, 5, 3]]))
    assert detector.memory.lut.norm(dim=1).gt(0).tolist() == [True, False, False, True, False, True]
    queue = detector.memory.queue.ne(0).any(0)
    assert queue[:4].all() and not queue[4:].any()  # queue_dims
    norms = detector.memory.lut[[0, 3, 5]].norm(dim=1)
    assert (norms - 1).abs().min() > 1e-3  # not normalized


def test_the_triplet_loss_gets_the_memory_before_its_update(build, make_batch, monkeypatch):
    detector, seen = build().train(), []
    forward = detector.bbox_head.triplet_loss.forward
    monkeypatch.setattr(
        detector.bbox_head.triplet_loss, 'forward', lambda *args: (seen.append(args[2].clone()), forward(*args))[1]
    )
    detector.loss(*make_batch([[0, 3], [5]]))
    assert len(seen) == 1 and not seen[0].any() and detector.memory.lut.any()


def test_ignored_boxes_are_not_persons(build, make_batch):
    inputs, samples = make_batch([[0], [3]])
    for sample in samples:
        sample.ignored_instances = InstanceData(
            bboxes=torch.tensor([[60.0, 4, 88, 62]]), labels=torch.tensor([0]), person_ids=torch.tensor([-1])
        )
    detector = build().train()
    detector.loss(inputs, samples)
    assert not detector.memory.queue.any()  # the ignored person has the id -1 and would be in the queue


def test_coarser_levels_are_background(build, make_batch):
    """They change only the classification loss."""
    detector = build().train()
    inputs, samples = make_batch([[0, 3], [-1, 5]])
    feats = [feat.detach() for feat in detector.extract_feat(inputs)]
    assert len(feats) == 5
    memory = {name: value.clone() for name, value in detector.memory.state_dict().items()}
    alone = detector.bbox_head.loss(feats[:1], samples)
    detector.memory.load_state_dict(memory)
    together = detector.bbox_head.loss(feats, samples)
    assert together['loss_cls'] > alone['loss_cls']
    for name in LOSSES - {'loss_cls'}:
        torch.testing.assert_close(together[name], alone[name])


def test_the_triplet_loss_is_optional(build, make_batch):
    detector = build(changes={'bbox_head.triplet_loss': None}).train()
    assert set(detector.loss(*make_batch([[0, 3]]))) == LOSSES - {'loss_triplet'}


def test_boxes_may_be_of_mmdetections_type(build, make_batch):
    expected = build().train().loss(*make_batch([[0, 3], [5]]))
    inputs, samples = make_batch([[0, 3], [5]])
    for sample in samples:
        sample.gt_instances.bboxes = HorizontalBoxes(sample.gt_instances.bboxes)
    found = build().train().loss(inputs, samples)
    assert same(found, expected)


def test_mixed_precision_keeps_losses_and_embeddings_in_float32(build, make_batch):
    detector = build().train()
    inputs, samples = make_batch([[0, 3], [-1, 5]])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = detector.loss(inputs, samples)
        embeddings = detector.embed(detector.extract_feat(inputs), [sample.gt_instances.bboxes for sample in samples])
    total(losses).backward()
    assert total(losses).isfinite() and all(losses[name].dtype == torch.float32 for name in LOSSES)
    assert all(each.dtype == torch.float32 for each in embeddings)
    assert all(weight.grad.isfinite().all() for weight in detector.parameters() if weight.grad is not None)


def test_training_lowers_the_loss(build, make_batch):
    detector = build().train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.02, momentum=0.9)
    values = []
    for _ in range(8):
        optimizer.zero_grad()
        losses = detector.loss(*make_batch([[0, 3], [-1, 5]]))
        total(losses).backward()
        optimizer.step()
        values.append((losses['loss_cls'] + losses['loss_bbox'] + losses['loss_centerness']).item())
    assert values[-1] < 0.8 * values[0]


# Assignment of points to persons


def test_points_are_assigned_as_in_fcos(mmps_scope):
    head = FCOSHead(
        num_classes=1,
        in_channels=4,
        feat_channels=4,
        strides=[8],
        regress_ranges=((-1, 1e8),),
        stacked_convs=1,
        center_sampling=True,
        norm_cfg=None,
    )
    generator = torch.Generator().manual_seed(0)
    points = head.prior_generator.single_level_grid_priors((16, 24), 0, device='cpu')
    boxes = []
    for count in (0, 1, 30):  # in an image this small, 30 persons overlap
        corner, size = torch.rand(count, 2, generator=generator), torch.rand(count, 2, generator=generator)
        boxes.append(torch.cat([corner * 120, corner * 120 + size * 60], dim=1))
    labels, targets = head.get_targets(
        [points], [InstanceData(bboxes=each, labels=torch.zeros(len(each), dtype=torch.long)) for each in boxes]
    )
    person = assign_points(points, pad_rows(boxes), 1.5 * 8)
    assert torch.equal(person.flatten() < 0, labels[0] == 1) and (person[2] >= 0).sum() > 50
    image, point = (person >= 0).nonzero(as_tuple=True)
    box = pad_rows(boxes)[image, person[image, point]]
    distances = torch.cat([points[point] - box[:, :2], box[:, 2:] - points[point]], dim=1)
    torch.testing.assert_close(distances, targets[0].view(3, -1, 4)[image, point])


def test_without_centre_sampling_all_points_in_a_box_are_positive():
    points = torch.tensor([[4.0, 4], [12, 4], [20, 4], [28, 4]])
    boxes = torch.tensor([[[0.0, 0, 26, 8], [0, 0, 0, 0]]])
    assert assign_points(points, boxes, torch.inf).tolist() == [[0, 0, 0, -1]]
    assert assign_points(points, boxes, 2).tolist() == [[-1, 0, -1, -1]]


# Embeddings of given boxes


def test_the_map_is_sampled_bilinearly_at_box_centres():
    """The values of the map are its positions, so they tell where it was read."""
    stride, height, width = 8, 6, 9
    y, x = torch.meshgrid((torch.arange(height) + 0.5) * stride, (torch.arange(width) + 0.5) * stride, indexing='ij')
    positions = torch.stack([x, y, torch.full_like(x, 10)]).expand(2, -1, -1, -1)
    boxes = [torch.tensor([[10.0, 12, 31, 29], [4, 4, 4.5, 4.5], [20, 20, 28, 28]]), torch.zeros(0, 4)]
    inside = sample_at_centres(positions, boxes, stride)
    assert inside.shape == (3, 3)
    read = 10 * inside[:, :2] / inside[:, 2:]
    torch.testing.assert_close(read, torch.tensor([[20.5, 20.5], [4.25, 4.25], [24, 24]]))
    corner = sample_at_centres(positions[:1], [torch.tensor([[-20.0, -20, 10, 10]])], stride)
    torch.testing.assert_close(10 * corner[:, :2] / corner[:, 2:], torch.tensor([[4.0, 4]]))


@pytest.fixture(params=['centre', 'best_detection', 'dcn', 'roi'])
def detector(request, build):
    if request.param in ('dcn', 'roi'):
        return build(request.param).eval()
    return build(changes={'bbox_head.embed_from': request.param}).eval()


@torch.no_grad()
def test_one_pass_gives_detections_and_query_embeddings(detector, make_batch):
    passes = []
    detector.backbone.register_forward_hook(lambda *_: passes.append('backbone'))
    detector.bbox_head.register_forward_hook(lambda *_: passes.append('head'))
    inputs, samples = make_batch([[0, 3], [-1]])
    results = detector.predict(inputs, with_queries(samples, [[4.0, 6, 24, 58], [34, 10, 50, 50]]))
    assert passes == ['backbone', 'head']
    for sample in results:
        found = sample.pred_instances
        assert found.bboxes.shape == (6, 4) and found.scores.shape == found.labels.shape == (6,)
        torch.testing.assert_close(found.embeddings.norm(dim=1), torch.ones(6))
        assert not found.labels.any() and (found.scores.diff() <= 0).all()
        assert (found.bboxes >= 0).all() and (found.bboxes <= torch.tensor([96.0, 64, 96, 64])).all()
    torch.testing.assert_close(results[0].query_instances.embeddings.norm(dim=1), torch.ones(2))
    assert 'query_instances' not in results[1]


@torch.no_grad()
def test_predict_and_embed_give_the_same_embeddings(detector, make_batch):
    inputs, samples = make_batch([[0], [3, -1]])
    box = [[6.0, 8, 30, 60]]
    sample = detector.predict(inputs, with_queries(samples, box, image=1))[1]
    feats = detector.extract_feat(inputs)
    query = detector.embed(feats, [torch.zeros(0, 4), torch.tensor(box)])[1]
    torch.testing.assert_close(sample.query_instances.embeddings, query)
    persons = detector.embed(feats, [torch.zeros(0, 4), sample.gt_instances.bboxes])[1]
    torch.testing.assert_close(sample.gt_instances.embeddings, persons)


@torch.no_grad()
def test_a_detected_box_gets_the_embedding_of_its_detection(build, make_batch):
    detector = build(changes={'bbox_head.embed_from': 'best_detection'}).eval()
    inputs, samples = make_batch([[], []])
    feats = detector.extract_feat(inputs)
    found = detector.detect(feats, samples)
    embeddings = detector.embed(feats, [found[0].bboxes, found[1].bboxes[:2]])
    assert torch.equal(embeddings[0], found[0].embeddings) and torch.equal(embeddings[1], found[1].embeddings[:2])


@torch.no_grad()
def test_a_box_without_an_overlapping_detection_is_read_at_its_centre(build, make_batch):
    changes = {'bbox_head.embed_from': 'best_detection'}
    detector = build(changes=changes).eval()
    feats = detector.extract_feat(make_batch([[], []])[0])
    apart, over = [70.0, 30, 80, 50], [2.0, 2, 12, 12]
    detections = [
        InstanceData(bboxes=torch.tensor([[0.0, 0, 10, 10]]), embeddings=F.normalize(torch.ones(1, 16))),
        InstanceData(bboxes=torch.zeros(0, 4), embeddings=torch.zeros(0, 16)),
    ]
    boxes = [torch.tensor([apart, over]), torch.tensor([over])]
    found = detector.bbox_head.embed(feats, boxes, detections)
    detector.bbox_head.embed_from = 'centre'
    centres = detector.embed(feats, boxes)
    assert torch.equal(found[0], torch.stack([centres[0][0], detections[0].embeddings[0]]))
    assert torch.equal(found[1], centres[1])


@torch.no_grad()
@pytest.mark.parametrize('counts', [(0, 0), (0, 2), (3, 0), (1, 2)])
def test_embed_returns_one_tensor_per_image_also_without_boxes(detector, make_batch, counts):
    inputs, _ = make_batch([[], []])
    boxes = [torch.tensor([[4.0, 6, 24, 58]]).repeat(count, 1).reshape(-1, 4) for count in counts]
    embeddings = detector.embed(detector.extract_feat(inputs), boxes)
    assert [each.shape for each in embeddings] == [(count, detector.memory.embed_dims) for count in counts]


@pytest.mark.parametrize('training', [False, True])
def test_embed_is_differentiable(detector, make_batch, training):
    """A distilled student is embedded in training too."""
    detector.train(training)
    inputs, samples = make_batch([[0, 1], [2]])
    embeddings = detector.embed(detector.extract_feat(inputs), [sample.gt_instances.bboxes for sample in samples])
    torch.cat(embeddings)[:, 0].sum().backward()
    assert detector.backbone.conv1.weight.grad.any()
    if not detector.with_roi_head:
        assert detector.neck.fpn_convs[0].weight.grad.any()
        assert detector.bbox_head.conv_cls.weight.grad is None  # the choice of the best detection has no gradient


# Prediction


@torch.no_grad()
def test_prediction_does_not_change_the_state(detector, make_batch):
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    inputs, samples = make_batch([[0, 3], [-1]])
    kept = inputs.clone()
    detector.predict(inputs, samples)
    assert same(before, detector.state_dict()) and torch.equal(inputs, kept)


@torch.no_grad()
def test_an_image_without_detections_still_has_its_queries(detector, make_batch):
    detector.bbox_head.test_cfg.score_thr = 1.0
    inputs, samples = make_batch([[0], [3]])
    results = detector.predict(inputs, with_queries(samples, [[6.0, 8, 30, 60]]))
    for sample in results:
        assert sample.pred_instances.embeddings.shape == (0, detector.memory.embed_dims)
        assert sample.pred_instances.bboxes.shape == (0, 4)
    assert results[0].query_instances.embeddings.shape[0] == 1


@torch.no_grad()
def test_given_and_predicted_boxes_are_in_original_pixels(detector, make_batch):
    """An image that was enlarged 2 x in width and 4 x in height."""
    scale = torch.tensor([2.0, 4, 2, 4])
    inputs, samples = make_batch([[0]], scale=(2.0, 4.0))
    samples[0].gt_instances.bboxes /= scale
    original = detector.predict(inputs, with_queries(samples, [[3.0, 2, 15, 15]]))[0]
    inputs, samples = make_batch([[0]])
    network = detector.predict(inputs, with_queries(samples, [[6.0, 8, 30, 60]]))[0]
    torch.testing.assert_close(original.pred_instances.bboxes * scale, network.pred_instances.bboxes)
    for name in ('pred_instances', 'query_instances', 'gt_instances'):
        torch.testing.assert_close(original.get(name).embeddings, network.get(name).embeddings)


@torch.no_grad()
def test_boxes_are_clipped_to_the_image(build, make_batch):
    """Boxes are clipped to the image without its padding."""
    detector = build().eval()
    inputs, samples = make_batch([[], []])
    samples[1].set_metainfo(dict(img_shape=(40, 50)))
    whole, part = (sample.pred_instances.bboxes.amax(0) for sample in detector.predict(inputs, samples))
    assert part[2] <= 50 and part[3] <= 40 and whole[2] > 50


@torch.no_grad()
def test_the_score_threshold_applies_to_the_probability_alone(build, make_batch):
    detector = build().eval()
    detector.bbox_head.conv_centerness.bias.fill_(-8)
    inputs, samples = make_batch([[]])
    found = detector.predict(inputs, samples)[0].pred_instances
    assert len(found) == 6 and found.scores.max() < 0.05


@torch.no_grad()
@pytest.mark.parametrize(
    'limits, count',
    [
        (dict(nms_pre=3, nms=dict(type='nms', iou_threshold=1.0)), 3),
        (dict(nms_pre=-1, max_per_img=-1, nms=dict(type='nms', iou_threshold=1.0)), 96),
    ],
)
def test_nms_pre_and_max_per_img_limit_detections_and_may_be_off(build, make_batch, limits, count):
    detector = build(changes={f'test_cfg.{name}': value for name, value in limits.items()}).eval()
    detector.bbox_head.conv_cls.bias.fill_(4)
    inputs, samples = make_batch([[]])
    assert len(detector.predict(inputs, samples)[0].pred_instances) == count


def test_training_proposals_equal_test_detections(build, make_batch):
    """In training the distances of the head have another unit."""
    detector = build('roi')
    inputs, samples = make_batch([[0], [3]])
    feats = [feat.detach() for feat in detector.train().extract_feat(inputs)]
    head = detector.bbox_head
    _, proposals = head.train().loss_and_predict(feats[:-1], samples)
    for proposal, result in zip(proposals, head.eval().predict(feats[:1], samples), strict=True):
        assert len(proposal) == 6 and not proposal.embeddings.requires_grad
        torch.testing.assert_close(proposal.bboxes, result.bboxes)
        torch.testing.assert_close(proposal.scores, result.scores)


# With a RoI head


@torch.no_grad()
def test_a_roi_head_embeds_what_the_dense_head_detects(build, make_batch):
    detector, alone = build('roi').eval(), build().eval()
    alone.load_state_dict(detector.state_dict(), strict=False)
    inputs, samples = make_batch([[0], [3]])
    found = detector.predict(inputs, samples)[1].pred_instances
    expected = alone.predict(inputs, samples)[1].pred_instances
    assert torch.equal(found.bboxes, expected.bboxes) and torch.equal(found.scores, expected.scores)
    levels = detector.backbone(inputs)
    embeddings = detector.roi_head.embed((levels[2],), [found.bboxes[:0], found.bboxes])[1]
    torch.testing.assert_close(found.embeddings, embeddings)
    assert detector.memory is detector.roi_head.reid_loss.memory


def test_both_memories_are_resized_together(build):
    open_ones = {'roi_head.reid_loss.num_identities': 0, 'bbox_head.reid_loss.num_identities': 0}
    detector = build('roi', open_ones)
    detector.memory.resize(9)
    assert detector.memory.num_identities == detector.bbox_head.reid_loss.memory.num_identities == 9
    loaded, filled = build('roi', open_ones), build('roi')
    for memory in (filled.memory, filled.bbox_head.reid_loss.memory):
        memory.lut.normal_()
    loaded.load_state_dict(filled.state_dict())
    assert same(memories(loaded), memories(filled))


@KINDS
def test_state_dict_carries_the_memory(build, make_batch, kind):
    detector, other = build(kind), build(kind, seed=1)
    detector.train().loss(*make_batch([[0, 3], [-1]]))
    other.load_state_dict(detector.state_dict())
    assert same(memories(detector), memories(other)) and detector.memory.lut.any()


@torch.no_grad()
@KINDS
def test_tensor_mode_returns_the_head_outputs(build, make_batch, kind):
    outputs = build(kind).eval()(make_batch([[0]])[0], mode='tensor')
    assert [each[0].shape[1] for each in outputs[:3]] == [1, 4, 1] and len(outputs[0]) == 1


# Building


def test_deformable_offsets_start_at_zero(build):
    offsets = [module.conv_offset for module in build('dcn').modules() if hasattr(module, 'conv_offset')]
    assert len(offsets) == 3 + 3 + 2
    assert not any(conv.weight.any() or conv.bias.any() for conv in offsets)


@torch.no_grad()
@pytest.mark.parametrize('size', [(1, 1), (2, 5), (4, 2), (3, 3)])
def test_small_maps_are_convolved_like_large_ones(size):
    deformable, plain = build_conv_layer(dict(type='DCN'), 2, 3, 3, padding=1), torch.nn.Conv2d(2, 3, 3, padding=1, bias=False)
    plain.weight.copy_(deformable.weight)
    x = torch.randn(1, 2, *size)
    torch.testing.assert_close(convolve(deformable, x), plain(x))


def test_only_the_finest_level_is_computed_in_a_test(build, make_batch):
    detector = build()
    inputs, _ = make_batch([[]])
    assert [feat.shape[2:] for feat in detector.train().extract_feat(inputs)] == [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    assert [feat.shape[2:] for feat in detector.eval().extract_feat(inputs)] == [(8, 12)]


@pytest.mark.parametrize(
    'kind, changes, message',
    [
        ('plain', {'neck.num_outs': 4}, r'bbox_head has 5 strides .*the neck gives 4 levels'),
        ('plain', {'neck.out_channels': 32}, r'in_channels of bbox_head is 16, the neck gives 32 channels'),
        ('plain', {'bbox_head.reid_loss.embed_dims': 32}, r'in_channels is 16, embed_dims of reid_loss is 32'),
        ('plain', {'bbox_head.embed_from': 'middle'}, r"embed_from is 'middle': expected 'centre' or 'best_detection'"),
        ('plain', {'neck.num_outs': 2}, r'num_outs is 2, .*3 levels'),
        ('plain', {'backbone.out_indices': (1, 2, 3)}, r'in_channels of the neck names 4 levels .*the backbone gives 3 '),
        ('roi', {'roi_level': 4}, r'roi_level is 4, .* names 4 backbone levels: expected 0 to 3'),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(config, mmps_scope, kind, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        MODELS.build(config(kind, changes))
    assert '\n' not in str(error.value)


def test_another_number_of_backbone_levels_is_refused(build, make_batch):
    detector = build()
    levels = detector.backbone(make_batch([[]])[0])
    with pytest.raises(ValueError, match='the backbone gives 3 levels, in_channels names 4'):
        detector.neck(levels[1:])


@pytest.mark.parametrize('embed_from', ['centre', 'best_detection'])
def test_batch_norm_standardizes_embeddings_over_persons(build, make_batch, embed_from):
    """Training uses the batch statistics, a test the running ones, for detections and given boxes."""
    detector = build(changes={'bbox_head.batch_norm': True, 'bbox_head.embed_from': embed_from}).train()
    norm = detector.bbox_head.embedding_norm
    detector.memory.lut.normal_()
    detector.loss(*make_batch([[0, 3], [-1, 5, 3]]))
    assert norm.running_mean.any()  # updated by the persons
    seen = []
    norm.register_forward_pre_hook(lambda _, values: seen.append(values[0]))
    inputs, samples = make_batch([[0], [3]])
    with torch.no_grad():
        results = detector.eval().predict(inputs, with_queries(samples, [[6.0, 8, 30, 60]]))
    found = results[0].pred_instances
    expected = F.normalize(norm(seen[0]))
    torch.testing.assert_close(found.embeddings, expected)
    assert results[0].query_instances.embeddings.shape == (1, 16)


def test_proposals_do_not_update_the_running_statistics(build, make_batch):
    """They are mostly background, so only the loss updates the statistics, once per step."""
    detector = build('roi', changes={'bbox_head.batch_norm': True}).train()
    detector.memory.lut.normal_()
    detector.loss(*make_batch([[0, 3], [-1, 5, 3]]))
    assert detector.bbox_head.embedding_norm.num_batches_tracked == 1


def test_a_memory_without_identities_is_refused_and_the_hook_named(build, make_batch):
    detector = build(changes={'bbox_head.reid_loss.num_identities': 0}).train()
    with pytest.raises(ValueError, match='IdentityHook'):
        detector.loss(*make_batch([[0]]))


@pytest.mark.parametrize('name', ['alignps_r50', 'alignps_r50-dcn', 'alignps_r18', 'alignps_r18-w8'])
def test_published_models_build(repository, mmps_scope, name):
    detector = MODELS.build(Config.fromfile(repository / f'configs/_base_/models/{name}.py').model)
    assert detector.memory.embed_dims == detector.neck.out_channels
    deformable = sum(hasattr(module, 'conv_offset') for module in detector.modules())
    assert deformable == {'alignps_r50': 8, 'alignps_r50-dcn': 8 + 13, 'alignps_r18': 8, 'alignps_r18-w8': 0}[name]
