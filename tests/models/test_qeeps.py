"""QEEPS: OIM without a query; with one, excitation, proposals and similarity that depend on it."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmps.models.dense_heads.query_rpn_head import joint_scores
from mmps.models.query_guidance import Excitation, QuerySimilarity, choose_queries
from mmps.registry import MODELS
from mmps.structures import person_boxes

KINDS = pytest.mark.parametrize('kind', ['fpn', 'c4'])
GUIDED = {
    f'query.{name}'
    for name in ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_query_rpn', 'loss_cls', 'acc', 'loss_bbox', 'loss_similarity')
}


def qeeps_config(detector_config, kind):
    cfg = detector_config(kind)
    cfg.type, cfg.rpn_head.type = 'QEEPS', 'QueryRPNHead'
    return cfg


@pytest.fixture
def build_qeeps(mmps_scope, detector_config):
    def make(kind='fpn', seed=0):
        torch.manual_seed(seed)
        detector = MODELS.build(qeeps_config(detector_config, kind))
        detector.init_weights()
        return detector

    return make


def queries_of(detector, feats, samples):
    """The first person of each image."""
    return detector.describe_queries(feats, samples, [boxes[:1] for boxes in person_boxes(samples)])


def total(losses):
    return sum(
        sum(each.sum() for each in value) if isinstance(value, list) else value.sum()
        for name, value in losses.items()
        if 'loss' in name
    )


@KINDS
def test_without_a_query_it_is_oim_with_the_same_weights(build_qeeps, build_detector, make_batch, kind):
    qeeps, oim = build_qeeps(kind).eval(), build_detector(kind, seed=1).eval()
    assert not oim.load_state_dict(qeeps.state_dict(), strict=False).missing_keys
    images, samples = make_batch([[0, 3], [3]])
    ours, theirs = (
        [each.pred_instances for each in model.predict(images, [sample.clone() for sample in samples])]
        for model in (qeeps, oim)
    )
    assert any(len(each) for each in ours)
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ('bboxes', 'scores', 'embeddings'))
    feats, boxes = qeeps.extract_feat(images), person_boxes(samples)
    for name in ('embed', 'refine_boxes'):
        for one, other in zip(getattr(qeeps, name)(feats, boxes), getattr(oim, name)(feats, boxes), strict=True):
            assert torch.equal(one, other)


@KINDS
def test_training_gives_the_losses_of_both_searches_and_every_weight_a_gradient(build_qeeps, make_batch, kind):
    detector = build_qeeps(kind).train()
    detector.memory.lut.normal_()
    losses = detector.loss(*make_batch([[0, 3], [-1, 5, 3]]))
    assert {name for name in losses if name.startswith('query.')} == GUIDED
    assert {'loss_rpn_cls', 'loss_reid'} < losses.keys()
    total(losses).backward()
    assert not [name for name, parameter in detector.named_parameters() if parameter.requires_grad and parameter.grad is None]


@pytest.mark.parametrize('person_ids', [[[-1, -1], [-1]], [[0], [1]], [[], []], [[2, -1], [2], [4]], [[], [1]]])
def test_images_without_a_common_identity_train(build_qeeps, make_batch, person_ids):
    detector = build_qeeps().train()
    losses = detector.loss(*make_batch(person_ids))
    assert losses.keys() >= GUIDED and torch.isfinite(total(losses))
    total(losses).backward()
    assert all(parameter.grad is not None for parameter in detector.parameters() if parameter.requires_grad)


def test_queries_are_the_persons_that_partners_share(make_batch):
    _, samples = make_batch([[0, 3], [-1, 5, 3], [-1, 2], [2, -1, 4], [1, 1]])
    partners, boxes, wanted = choose_queries(samples)
    assert partners == [1, 0, 3, 2, 4]
    assert wanted[:4] == [1, 2, 1, 0] and wanted[4] in (0, 1)
    persons = person_boxes(samples)
    for query, expected in zip(boxes, (persons[1][2:], persons[0][1:], persons[3][:1], persons[2][1:]), strict=False):
        assert torch.equal(query, expected)


def test_an_image_that_shares_nobody_is_searched_for_one_of_its_own_persons(make_batch):
    _, samples = make_batch([[-1], [-1, 5]])
    partners, boxes, wanted = choose_queries(samples)
    assert partners == [0, 1] and wanted[0] == 0 and wanted[1] in (0, 1)
    assert all(torch.equal(query[0], own[each]) for query, own, each in zip(boxes, person_boxes(samples), wanted, strict=True))


def test_an_image_without_persons_has_itself_as_query_and_nothing_to_find(make_batch):
    _, samples = make_batch([[]])
    partners, boxes, wanted = choose_queries(samples)
    assert (partners, wanted) == ([0], [-1]) and boxes[0].tolist() == [[0, 0, 96, 64]]


def test_the_seed_decides_about_the_queries(make_batch):
    _, samples = make_batch([[0, 1, 2, 3], [3, 2, 1, 0]])

    def chosen(seed):
        torch.manual_seed(seed)
        return choose_queries(samples)[2]

    assert chosen(0) == chosen(0) and len({tuple(chosen(seed)) for seed in range(20)}) > 5


@KINDS
def test_one_excitation_between_0_and_1_multiplies_both_images(build_qeeps, make_batch, kind):
    detector = build_qeeps(kind).eval()
    images, samples = make_batch([[0, 3], [3]])
    feats = detector.extract_feat(images)
    queries = queries_of(detector, tuple(level.flip(0) for level in feats), samples[::-1])
    maps, query_feats = detector.excite(feats, samples, queries)
    for image in range(2):
        level = queries.levels[image]
        used = feats[level][image].abs().amax((1, 2)) > 0
        of_map = (maps[level][image].sum((1, 2)) / feats[level][image].sum((1, 2)))[used]
        of_query = (query_feats[image].sum((1, 2)) / queries.feats[image].sum((1, 2)))[used]
        known = of_map.isfinite() & of_query.isfinite()
        torch.testing.assert_close(of_map[known], of_query[known], rtol=1e-3, atol=1e-3)
        assert known.any() and (of_map[known] > 0).all() and (of_map[known] < 1).all()


def test_the_excitation_depends_on_both_images(build_qeeps, make_batch):
    detector = build_qeeps().eval()
    images, samples = make_batch([[0], [0]])
    feats = detector.extract_feat(images)
    queries = queries_of(detector, feats, samples)
    crossed = InstanceData(contexts=queries.contexts.flip(0), feats=queries.feats, levels=queries.levels)
    own, other = detector.excite(feats, samples, queries)[0], detector.excite(feats, samples, crossed)[0]
    assert not torch.equal(own[0], other[0])


def test_scaling_the_pooled_query_equals_pooling_the_scaled_map(build_qeeps, make_batch):
    """So the loop keeps pooled features of queries only."""
    detector = build_qeeps().eval()
    images, samples = make_batch([[0], [1]])
    feats = detector.extract_feat(images)
    maps, query_feats = detector.excite(feats, samples, queries_of(detector, feats, samples))
    torch.testing.assert_close(queries_of(detector, maps, samples).feats, query_feats)
    boxes = [each[:1] for each in person_boxes(samples)]
    torch.testing.assert_close(torch.cat(detector.embed(maps, boxes)), detector.roi_head.embedding_head(query_feats))


def test_padding_does_not_change_the_excitation(build_qeeps, make_batch):
    detector = build_qeeps().eval()
    images, samples = make_batch([[0]])
    feats = detector.extract_feat(images)
    padded = tuple(F.pad(level, (0, level.shape[3], 0, level.shape[2]), value=7.0) for level in feats)
    of_padded = [samples[0].clone()]
    of_padded[0].set_metainfo(dict(batch_input_shape=(128, 192)))
    torch.testing.assert_close(queries_of(detector, padded, of_padded).contexts, queries_of(detector, feats, samples).contexts)


def test_a_proposals_score_is_the_mean_of_both_probabilities():
    scores, query_scores = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    (joint,) = joint_scores([scores], [query_scores])
    torch.testing.assert_close(joint.sigmoid(), (scores.sigmoid() + query_scores.sigmoid()) / 2)


def test_the_query_rpn_ranks_the_proposals(build_qeeps, make_batch):
    """A QRPN that is sure of one place alone brings it to the top."""
    detector = build_qeeps().eval()
    images, samples = make_batch([[0]])
    feats = detector.extract_feat(images)
    queries = queries_of(detector, feats, samples)
    plain = detector.rpn_head.predict(feats, samples)[0]

    def sure_of_one_place(feats, query_feats):
        scores = [level.new_full((1, 1, *level.shape[2:]), -20.0) for level in feats]
        scores[0][0, 0, 8, 12] = 20.0
        return scores

    detector.rpn_head.query_scores = sure_of_one_place
    best = detector.rpn_head.query_predict(feats, queries.feats, samples)[0]
    centre = (best.bboxes[0, :2] + best.bboxes[0, 2:]) / 2
    assert (centre - torch.tensor([12.0, 8]) * 4).abs().max() < 4
    assert best.scores[0] > 0.5 > best.scores[1] and not torch.equal(plain.bboxes[0], best.bboxes[0])


def test_the_similarity_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    head, embeddings, queries = QuerySimilarity(4).eval(), torch.randn(3, 4), torch.randn(3, 4)
    head.norm.running_mean.normal_()
    head.norm.running_var.uniform_(0.5, 2)
    weight, bias = head.classify.weight.double(), head.classify.bias.double()
    for logits, one, other in zip(head(embeddings, queries), embeddings.double(), queries.double(), strict=True):
        for k in range(2):
            expected = bias[k]
            for d in range(4):
                squared = (one[d] - other[d]) ** 2
                expected = (
                    expected + weight[k, d] * (squared - head.norm.running_mean[d]) / (head.norm.running_var[d] + 1e-5).sqrt()
                )
            assert logits[k].item() == pytest.approx(expected.item(), abs=1e-5)


def test_excitation_starts_near_one():
    torch.manual_seed(0)
    excitation = Excitation(8, 4)
    excitation.init_weights()
    factors = excitation(torch.randn(5, 8))
    assert ((factors > 0.9) & (factors < 1)).all()


@pytest.mark.parametrize('loss', ['loss_query_rpn', 'loss_similarity'])
def test_gradients_reach_the_querys_image(build_qeeps, make_batch, monkeypatch, loss):
    detector, described = build_qeeps().train(), []
    describe = detector.describe_queries

    def noted(*args):
        described.append(describe(*args))
        described[0].feats.retain_grad()
        described[0].contexts.retain_grad()
        return described[0]

    monkeypatch.setattr(detector, 'describe_queries', noted)
    images, samples = make_batch([[0, 3], [5, 3]])
    losses = detector.query_loss(detector.extract_feat(images), samples)
    total({loss: losses[loss]}).backward()
    assert described[0].feats.grad.abs().sum() > 0 and described[0].contexts.grad.abs().sum() > 0


@KINDS
def test_a_search_predicts_for_each_query(build_qeeps, make_batch, kind):
    detector = build_qeeps(kind).eval()
    images, samples = make_batch([[0, 3], [3]], scale=(2.0, 2.0))
    feats = detector.extract_feat(images)
    queries = queries_of(detector, feats, samples)
    results = detector.predict(images, samples, queries=queries[[1, 0]])
    for sample, sought in zip(results, (1, 0), strict=True):
        found = sample.pred_instances
        assert len(found) and found.similarities.shape == found.scores.shape and found.bboxes.max() <= 48
        torch.testing.assert_close(found.embeddings.norm(dim=1), torch.ones(len(found)))
        alone = detector.search(tuple(level[sample.img_id][None] for level in feats), [sample], queries[[sought]])[0]
        torch.testing.assert_close(alone.similarities, found.similarities, rtol=1e-3, atol=1e-5)
    assert not torch.equal(
        detector.search(feats, samples, queries)[0].similarities,
        detector.search(feats, samples, queries[[1, 0]])[0].similarities,
    )


def test_a_roi_head_that_pools_twice_is_refused(mmps_scope, detector_config):
    cfg = qeeps_config(detector_config, 'fpn')
    cfg.roi_head.reid_roi_extractor = cfg.roi_head.bbox_roi_extractor
    with pytest.raises(ValueError, match=r'QEEPS: roi_head\.reid_roi_extractor: expected None'):
        MODELS.build(cfg)


def test_a_plain_rpn_is_refused(mmps_scope, detector_config):
    cfg = detector_config('fpn')
    cfg.type = 'QEEPS'
    with pytest.raises(ValueError, match="QEEPS: rpn_head: expected type='QueryRPNHead', got AllRanksRPNHead"):
        MODELS.build(cfg)


@pytest.mark.soak
def test_a_short_training_lowers_the_losses_of_the_guided_search(build_qeeps, make_batch):
    detector = build_qeeps().train()
    images, samples = make_batch([[0, 3], [5, 3], [1, 2, 4], [4, 0, 2]])
    optimizer = torch.optim.AdamW(detector.parameters(), lr=0.002)
    course = []
    for _ in range(60):
        losses = detector.loss(images, [sample.clone() for sample in samples])
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        course.append({name: total({name: losses[name]}).item() for name in GUIDED if 'loss' in name})
    for name in ('query.loss_query_rpn', 'query.loss_cls', 'query.loss_similarity'):
        first, last = (sum(each[name] for each in part) for part in (course[:10], course[-10:]))
        assert last < 0.9 * first, name


def test_it_teaches_without_a_query(mmps_scope, detector_config, make_batch, repository):
    """Munjal's detector distillation reads its maps, RPN and boxes; its QRPN and QSimNet do not run."""
    distil = Config.fromfile(repository / 'configs/_base_/distillers/munjal-detector.py').distil
    student, teacher = detector_config('fpn'), qeeps_config(detector_config, 'fpn')
    model = MODELS.build(dict(type='PersonSearchDistill', architecture=student, teacher=teacher, **distil)).train()
    network = model.teacher.network
    for part in (network.rpn_head.query_conv, network.similarity, *network.excitations):
        part.register_forward_hook(lambda *args: pytest.fail('a part that needs a query ran'))
    losses = model.loss(*make_batch([[0, 3], [3]]))
    assert {f'distill.loss_{name}' for name in ('dense', 'boxes', 'bounded')} < losses.keys() and torch.isfinite(total(losses))
