"""Assigning and sampling with fixed shapes gives what MMDetection's assigner and sampler give."""

import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.losses import GIoULoss
from mmdet.models.task_modules import AssignResult, DeltaXYWHBBoxCoder, MaxIoUAssigner, RandomSampler
from mmengine.structures import InstanceData

from mmps.models.assignment import assign, draw, fits, most_sightings
from mmps.models.box_deltas import BoxDeltaCoder
from mmps.models.losses import BoxGIoULoss


def boxes(count, seed, largest=60.0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 80
    return torch.cat([corners, corners + 5 + torch.rand(count, 2, generator=generator) * largest], dim=1)


@pytest.mark.parametrize('persons', [0, 1, 7])
@pytest.mark.parametrize('ignored', [0, 2])
@pytest.mark.parametrize(
    'options',
    [
        dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=0.5),
        dict(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False, ignore_iof_thr=0.5),
        dict(pos_iou_thr=0.5, neg_iou_thr=(0.1, 0.5), min_pos_iou=0.0),
    ],
)
def test_boxes_belong_to_the_persons_that_mmdetection_gives_them(persons, ignored, options):
    assigner = MaxIoUAssigner(**options)
    priors, people, crowd = boxes(300, 0), boxes(persons, 1), boxes(ignored, 2)
    priors[:persons] = people  # ties
    expected = assigner.assign(
        InstanceData(priors=priors),
        InstanceData(bboxes=people, labels=torch.zeros(persons, dtype=torch.long)),
        InstanceData(bboxes=crowd),
    ).gt_inds
    assert torch.equal(assign(priors, people, assigner, crowd), expected)
    assert len(assign(priors[:0], people, assigner, crowd)) == 0


@pytest.mark.parametrize(('count', 'share'), [(16, 0.5), (64, 0.25), (1000, 0.5)])
def test_sampled_boxes_have_the_statistics_of_mmdetections(count, share):
    assigned = torch.tensor([1] * 12 + [0] * 60 + [-1] * 8)
    sampler = RandomSampler(num=count, pos_fraction=share, add_gt_as_proposals=False)
    priors, person = InstanceData(priors=torch.zeros(80, 4)), InstanceData(bboxes=torch.ones(1, 4), labels=torch.zeros(1))
    runs = 400
    ours, theirs = torch.zeros(2, len(assigned)), torch.zeros(2, len(assigned))
    for _ in range(runs):
        drawn = draw(assigned[None] > 0, assigned[None] == 0, count, int(count * share))
        chosen, taken, others, filled = (each[0] for each in drawn)
        positive, negative = chosen[taken], others[filled]
        assert len(positive.unique()) == len(positive) == min(12, int(count * share))
        assert len(negative.unique()) == len(negative) == min(60, count - len(positive))
        ours[0, positive] += 1
        ours[1, negative] += 1
        found = sampler.sample(AssignResult(1, assigned, torch.zeros(80), torch.zeros(80)), priors, person)
        theirs[0, found.pos_inds] += 1
        theirs[1, found.neg_inds] += 1
    assert (ours[:, assigned < 0] == 0).all()
    # Each box is chosen equally often: five standard deviations of a binomial.
    apart = (ours - theirs).abs() / runs
    assert apart.max() < 5 * (2 * 0.25 / runs) ** 0.5


def test_only_what_is_the_same_replaces_mmdetections():
    plain = dict(pos_iou_thr=0.7, neg_iou_thr=0.3)
    assert fits(MaxIoUAssigner(**plain), RandomSampler(8, 0.5))
    assert not fits(MaxIoUAssigner(**plain), RandomSampler(8, 0.5, neg_pos_ub=3))
    assert not fits(MaxIoUAssigner(**plain, gpu_assign_thr=100), RandomSampler(8, 0.5))
    assert not fits(object(), RandomSampler(8, 0.5))


@pytest.mark.parametrize(
    ('ids', 'most'), [([], 0), ([-1, -1], 0), ([3], 1), ([3, -1, 3, 0, 3, 0], 3), ([2, 2], 2), ([0, -1], 1)]
)
def test_the_most_frequent_identity_is_counted(ids, most):
    assert most_sightings(torch.tensor(ids, dtype=torch.long)) == most


@pytest.mark.parametrize(
    'options', [{}, dict(target_stds=(0.1, 0.1, 0.2, 0.2), target_means=(0.1, 0, 0, 0.2)), dict(add_ctr_clamp=True)]
)
def test_deltas_are_mmdetections(options):
    ours, theirs = BoxDeltaCoder(**options), DeltaXYWHBBoxCoder(**options)
    one, other = boxes(50, 0), boxes(50, 1)
    assert torch.equal(ours.encode(one, other), theirs.encode(one, other))
    deltas = torch.randn(50, 4, generator=torch.Generator().manual_seed(3)) * 3
    assert torch.equal(ours.decode(one, deltas, (90, 100)), theirs.decode(one, deltas, (90, 100)))
    assert torch.equal(ours.decode(one, deltas.repeat(1, 3)), theirs.decode(one, deltas.repeat(1, 3)))


@pytest.mark.parametrize('weights', [None, 0.0, 1.5])
def test_the_giou_loss_is_mmdetections(weights):
    found, target = boxes(40, 0), boxes(40, 1)
    weight = None if weights is None else torch.full((40,), weights)
    kwargs = dict(weight=weight, avg_factor=7.0)
    assert torch.equal(
        BoxGIoULoss(loss_weight=2.0)(found, target, **kwargs), GIoULoss(loss_weight=2.0)(found, target, **kwargs)
    )


@pytest.mark.parametrize('kind', ['fpn', 'c4'])
def test_targets_losses_and_proposals_of_the_rpn_are_mmdetections(build_detector, make_batch, kind, monkeypatch):
    inputs, samples = make_batch([[0, -1, 2], [], [1]])
    samples[0].ignored_instances.bboxes = torch.tensor([[0.0, 0, 40, 40]])
    head = build_detector(kind).train().rpn_head
    head.sampler.num = 10**6  # all, so that nothing is drawn
    detector = build_detector(kind).train()
    feats = detector.extract_feat(inputs)
    cfg = detector.train_cfg.rpn_proposal
    losses, proposals = head.loss_and_predict(feats, samples, cfg)
    for name in ('get_targets', 'loss_by_feat_single', 'predict_by_feat'):
        monkeypatch.setattr(type(head), name, getattr(RPNHead, name))
    expected, theirs = head.loss_and_predict(feats, samples, cfg)
    for name, values in expected.items():
        torch.testing.assert_close(torch.stack(list(losses[name])), torch.stack(list(values)))
    for one, other in zip(proposals, theirs, strict=True):
        assert torch.equal(one.bboxes, other.bboxes) and torch.equal(one.scores, other.scores)
