"""HKD as published: a second re-id head, trained before on crops, gets the student's RoIs, teaches and learns on."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import load_checkpoint, save_checkpoint

from mmps.distillation.teachers import TeachingHead
from mmps.registry import MODELS

DISTILLERS = Path(__file__).parents[3] / 'configs' / '_base_' / 'distillers'
STUDENTS = ['seqnet', 'fpn', 'nae', 'c4']
PERSONS = [[0, 3], [-1, 5, 1]]


@pytest.fixture
def head_config(detector_config):

    def make(student: str = 'seqnet', **kwargs) -> dict:
        return dict(type='CropReIDHead', detector=detector_config(student, **kwargs), crop_size=(32, 16))

    return make


@pytest.fixture
def build(detector_config, head_config, mmps_scope):

    def make(student: str = 'seqnet', seed: int = 0, method: str = 'hkd', architecture: dict | None = None, **changes):
        cfg = Config.fromfile(DISTILLERS / f'{method}.py').distil
        cfg.update(type='PersonSearchDistill', architecture=architecture or detector_config(student))
        cfg.update({'teacher': head_config(student), **changes})
        torch.manual_seed(seed)
        model = MODELS.build(cfg)
        model.init_weights()
        for memory in (model.student.memory, model.teacher.memory):
            if memory.num_identities:
                memory.lut.copy_(F.normalize(torch.randn_like(memory.lut)))
        return model.train()

    return make


def run(model, batch):
    """Returns the losses, and what the re-id losses of student and teacher were called with."""
    calls = {}
    hooks = [
        network.reid_loss.register_forward_pre_hook(lambda module, args, name=name: calls.setdefault(name, args))
        for name, network in (('student', model.student), ('teacher', model.teacher))
    ]
    luts = {
        name: network.reid_loss.memory.lut.clone() for name, network in (('student', model.student), ('teacher', model.teacher))
    }
    losses = model.loss(*batch)
    for hook in hooks:
        hook.remove()
    return losses, calls, luts


def gradients(loss, parameters):
    found = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
    return [each is not None and bool(each.any()) for each in found]


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize('student', STUDENTS)
def test_the_heads_own_loss_trains_the_head_and_nothing_of_the_student(student, build, make_batch):
    model = build(student)
    losses = model.loss(*make_batch(PERSONS))
    trained = [each for each in model.student.parameters() if each.requires_grad]
    assert not any(gradients(losses['teacher.loss_reid'], trained))
    head = {name: each for name, each in model.teacher.named_parameters() if each.requires_grad}
    assert not any('rescaler' in name or 'bbox_head' in name for name in head)
    assert all(gradients(losses['teacher.loss_reid'], head.values()))


@pytest.mark.parametrize('mutual', [True, False])
@pytest.mark.parametrize('loss', ['loss_response', 'loss_relation'])
def test_a_distillation_loss_trains_both_heads_if_mutual(loss, mutual, build, make_batch):
    model = build(mutual=mutual)
    losses = model.loss(*make_batch(PERSONS))
    head = [each for each in model.teacher.parameters() if each.requires_grad]
    assert any(gradients(losses[f'distill.{loss}'], model.student.backbone.parameters()))
    assert any(gradients(losses[f'distill.{loss}'], head)) == mutual
    assert all(gradients(losses['teacher.loss_reid'], head))


@pytest.mark.parametrize('student', STUDENTS)
def test_both_heads_embed_the_same_rois_of_the_same_features(student, build, make_batch):
    """With the weights of the student's head the second one gives the same embeddings."""
    model = build(student)
    theirs = model.teacher.roi_head.state_dict()
    ours = model.student.roi_head.reid_head.state_dict()
    model.teacher.roi_head.load_state_dict({name: ours[name] for name in theirs})
    _, calls, _ = run(model, make_batch(PERSONS))
    (embeddings, person_ids), (taught, ids) = calls['teacher'], calls['student']
    assert torch.equal(person_ids, ids) and len(ids) >= 5
    torch.testing.assert_close(embeddings, taught)


def test_its_own_lookup_table_learns_from_its_own_embeddings(build, make_batch):
    model = build()
    _, calls, luts = run(model, make_batch([[0, 3], []]))
    embeddings, person_ids = calls['teacher']
    expected = luts['teacher'].clone()
    for embedding, person_id in zip(embeddings.detach(), person_ids.tolist(), strict=True):
        expected[person_id] = F.normalize(0.9 * expected[person_id] + 0.1 * embedding, dim=0)
    torch.testing.assert_close(model.teacher.memory.lut, expected)
    assert not torch.allclose(model.teacher.memory.lut, model.student.memory.lut)


def divergence(student, teacher, temperature):
    """t^2 KL(teacher || student) of two rows of logits, in float64."""
    p_s, p_t = (torch.exp(row / temperature) / torch.exp(row / temperature).sum() for row in (student, teacher))
    return temperature**2 * sum(t * torch.log(t / s) for s, t in zip(p_s, p_t, strict=True)).item()


@pytest.mark.parametrize('method', ['hkd', 'hkd-prw'])
@pytest.mark.parametrize('scale, weight', [(30.0, 1.0), (16.0, 0.5)])
def test_losses_equal_plain_loops_over_the_labelled_persons(method, scale, weight, build, detector_config, make_batch):
    architecture = detector_config('seqnet')
    architecture.roi_head.second.reid_loss.update(scale=scale, loss_weight=weight)
    losses, calls, luts = run(model := build(method=method, architecture=architecture), make_batch(PERSONS))
    labelled = calls['student'][1] >= 0
    assert 0 < labelled.sum() < len(labelled)
    student, teacher = (calls[name][0].detach().double()[labelled] for name in ('student', 'teacher'))
    ours, theirs = (scale * each @ luts[name].double().T for name, each in (('student', student), ('teacher', teacher)))
    both = (
        (lambda s, t: divergence(s, t, 2.0) + divergence(t, s, 2.0))
        if method == 'hkd'
        else (lambda s, t: divergence(s, t, 2.0))
    )
    responses = [both(s, t) for s, t in zip(ours, theirs, strict=True)]
    temperature, of_relations, of_responses = (4.0, 50.0, 1.0) if method == 'hkd' else (2.0, 150.0, 3.0)
    relations = [divergence(s, t, temperature) for s, t in zip(student @ student.T, teacher @ teacher.T, strict=True)]
    for name, factor, rows in (('response', of_responses, responses), ('relation', of_relations, relations)):
        expected = weight * factor * sum(rows) / len(rows)
        assert losses[f'distill.loss_{name}'].item() == pytest.approx(expected, rel=1e-3), (name, model)


@pytest.mark.parametrize('method, student', [('hkd', 'seqnet'), ('hkd-self', 'seqnet'), ('hkd-self', 'alignps')])
def test_constants_follow_the_students_own_loss(method, student, build, detector_config):
    architecture = detector_config(student)
    own = architecture.roi_head.second.reid_loss if student == 'seqnet' else architecture.bbox_head.reid_loss
    own.update(scale=13.0, loss_weight=0.25)
    changes = {} if method == 'hkd' else dict(teacher=None)
    losses = build(student, method=method, architecture=architecture, **changes).distiller.distill_losses
    assert (losses['loss_response'].scale, losses['loss_response'].temperature) == (13.0, 2.0)
    assert (losses['loss_response'].loss_weight, losses['loss_relation'].loss_weight) == (0.25, 12.5)


def test_a_loss_that_the_student_does_not_have_is_named(build):
    distiller = Config.fromfile(DISTILLERS / 'hkd.py').distil.distiller
    distiller.accompanies = 'oim'
    with pytest.raises(ValueError, match=r"accompanies='oim': TwoStagePersonSearch has no such loss with a scale"):
        build(distiller=distiller)


def test_batches_without_labelled_persons_train(build, make_batch):
    model = build()
    for persons in ([[], []], [[-1], [-1, -1]], [[2], []]):
        losses = model.loss(*make_batch(persons))
        for name in ('teacher.loss_reid', 'distill.loss_response', 'distill.loss_relation'):
            assert losses[name].isfinite()
            assert (losses[name] == 0) or 2 in persons[0]


def test_a_plain_student_loads_the_checkpoint_without_the_head(build, build_detector, make_batch, tmp_path):
    model = build()
    save_checkpoint({'state_dict': model.state_dict()}, str(tmp_path / 'a.pth'))
    plain = build_detector('seqnet', seed=1)
    load_checkpoint(plain, str(tmp_path / 'a.pth'), strict=True)
    assert same(state(plain), state(model.student))
    images, samples = make_batch([[0], [1]])
    found = [each.eval()(images, copy.deepcopy(samples), mode='predict')[0].pred_instances for each in (model, plain)]
    assert torch.equal(found[0].embeddings, found[1].embeddings)


@pytest.mark.parametrize('through_file', [False, True])
def test_a_resumed_training_has_the_head_as_it_was(through_file, build, make_batch, tmp_path):
    model, other = build(), build(seed=1)
    model.loss(*make_batch(PERSONS))
    assert not same(state(model.teacher), state(other.teacher))
    if through_file:
        save_checkpoint({'state_dict': model.state_dict()}, str(tmp_path / 'a.pth'))
        load_checkpoint(other, str(tmp_path / 'a.pth'), strict=True)
    else:
        assert not any(other.load_state_dict(model.state_dict()))
    assert same(state(model.teacher), state(other.teacher)) and same(state(model.student), state(other.student))


@pytest.mark.parametrize('training', [True, False])
def test_the_head_is_in_training_mode_with_the_student(training, build):
    model = build().train(training)
    assert all(module.training == training for module in model.teacher.modules())


@pytest.fixture
def head_file(head_config, mmps_scope, tmp_path):

    def make(student: str = 'seqnet', **kwargs) -> tuple[str, dict]:
        torch.manual_seed(7)
        network = MODELS.build(head_config(student, **kwargs))
        network.init_weights()
        network.memory.lut.copy_(torch.randn_like(network.memory.lut))
        save_checkpoint({'state_dict': network.state_dict()}, str(tmp_path / 'head.pth'))
        return str(tmp_path / 'head.pth'), state(network)

    return make


def test_the_head_starts_with_its_checkpoint_lookup_table_included(build, head_file, head_config):
    path, weights = head_file()
    cfg = dict(teacher=head_config(num_identities=0), teacher_ckpt=path)
    model = build(**cfg)
    started = {name: value for name, value in state(model.teacher).items() if 'lut' not in name}
    assert started and all(torch.equal(value, weights[name]) for name, value in started.items())
    assert model.teacher.memory.num_identities == 6


def test_a_checkpoint_that_is_missing_or_of_another_head_is_refused(build, head_file, head_config):
    with pytest.raises(FileNotFoundError, match=r'^teacher_ckpt: there is no file nowhere/head\.pth$'):
        build(teacher_ckpt='nowhere/head.pth')
    with pytest.raises(ValueError, match=r'^teacher_ckpt: .*head\.pth is a checkpoint of another model: .*') as error:
        build(teacher_ckpt=head_file('fpn')[0])
    assert '\n' not in str(error.value)


def test_a_teacher_that_does_not_fit_is_refused(build, head_config, detector_config):
    with pytest.raises(
        ValueError, match=r'the teacher is a TwoStagePersonSearch: a head that learns on \(HKD\) is a CropReIDHead'
    ):
        build(teacher=detector_config('seqnet'))
    with pytest.raises(ValueError, match='needs a teacher, which is a CropReIDHead'):
        build(teacher=None)
    with pytest.raises(ValueError, match='the student is a AlignPS without a RoI head that embeds'):
        build('alignps', teacher=head_config('seqnet'))
    with pytest.raises(
        ValueError, match=r'pools 16 channels of .*, the head of the student 256 channels of .*: they must agree'
    ):
        build('nae', teacher=head_config('seqnet'))
    with pytest.raises(ValueError, match='a teaching head embeds RoIs only'):
        build(method='cwd', teacher_input='rois')
    with pytest.raises(ValueError, match="teacher_input is 'crops': expected 'images' or 'rois'"):
        build(teacher_input='crops')


def test_the_students_own_losses_are_needed(build, make_batch):
    with pytest.raises(ValueError, match='set calculate_student_loss=True'):
        build(calculate_student_loss=False).loss(*make_batch(PERSONS))


def test_the_student_starts_with_the_weights_of_a_plain_one(build, build_detector):
    weights = state(build_detector('seqnet', seed=3))
    assert all(
        torch.equal(value, weights[name]) for name, value in build(seed=3).student.state_dict().items() if 'lut' not in name
    )


@pytest.mark.soak
@pytest.mark.parametrize('student', ['seqnet', 'fpn'])
def test_all_losses_fall_over_a_short_training(student, build, make_batch):
    model = build(student)
    assert isinstance(model.teacher, TeachingHead)
    weights = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    seen = []
    for step in range(40):
        torch.manual_seed(step)
        losses = model.loss(*make_batch(PERSONS, seed=step % 2))
        total = sum(sum(value) if isinstance(value, list) else value for name, value in losses.items() if 'loss' in name)
        optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, 10)
        assert norm.isfinite()
        optimizer.step()
        seen.append([losses[name].item() for name in ('student.loss_reid', 'teacher.loss_reid', 'distill.loss_response')])
    first, last = (torch.tensor(part).mean(0) for part in (seen[:8], seen[-8:]))
    assert (last < 0.8 * first).all()
