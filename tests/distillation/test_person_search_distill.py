"""Tests a distillation with the demo's config. Its teacher and student are narrower."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint, save_checkpoint

TERMS = ['loss_relation', 'loss_response', 'loss_feature']


@pytest.fixture
def distill_config(repository, detector_config):
    """distill_config(name of the only loss or None, **changes of the model) -> the demo's model config, narrower."""

    def make(only: str | None = None, teacher: dict | None = None, **changes):
        cfg = Config.fromfile(repository / 'configs/gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py').model
        changes = (
            dict(architecture=detector_config(width=4), teacher=teacher or detector_config(width=8), teacher_ckpt=None)
            | changes
        )
        if only:
            replace(cfg.distiller, losses=[only])
        return replace(cfg, **changes)

    return make


def replace(cfg, **entries):
    """Replaces entries. ``ConfigDict.update`` would merge them."""
    for name, value in entries.items():
        cfg[name] = value
    return cfg


@pytest.fixture
def build_distill(distill_config, mmps_scope):

    def make(*args, seed=0, **kwargs):
        torch.manual_seed(seed)
        model = MODELS.build({'_scope_': 'mmps', **distill_config(*args, **kwargs)})
        fill(model.teacher.memory)
        fill(model.student.memory)
        return model.train()

    return make


def fill(memory):
    """Fills a lookup table, as after some training. With a table of zeros, all identities would be the same."""
    memory.lut.copy_(torch.nn.functional.normalize(torch.randn_like(memory.lut)))


def total(losses):
    values = [value for name, value in losses.items() if 'loss' in name]
    return sum(part.sum() for value in values for part in (value if isinstance(value, list) else [value]))


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_losses_hold_the_students_own_and_every_distillation_term(build_distill, make_batch):
    losses = build_distill().loss(*make_batch([[0, 3], [-1, 5]]))
    assert {name for name in losses if name.startswith('distill.')} == {f'distill.{term}' for term in TERMS}
    assert {
        'student.loss_rpn_cls',
        'student.loss_rpn_bbox',
        'student.loss_cls',
        'student.loss_bbox',
        'student.loss_reid',
    } <= set(losses)


@pytest.mark.parametrize(
    'persons', [[[], []], [[-1, -1], [-1]], [[2], []], [[2, 1, -1], [2]]], ids=['nobody', 'unlabelled', 'one person', 'several']
)
def test_any_batch_of_persons_trains(build_distill, make_batch, persons):
    model = build_distill()
    loss = total(model.loss(*make_batch(persons)))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_teacher_neither_learns_nor_changes(build_distill, make_batch):
    model = build_distill()
    teacher, student = state(model.teacher), state(model.student)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for step in range(2):
        optimizer.zero_grad()
        total(model.loss(*make_batch([[0, 3], [-1, 5]], seed=step))).backward()
        optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert same(state(model.teacher), teacher)  # including the statistics of its batch norms and its memory
    changed = {name for name, value in model.student.state_dict().items() if not torch.equal(value, student[name])}
    assert {'roi_head.reid_loss.memory.lut', 'backbone.bn1.running_mean', 'backbone.conv1.weight'} <= changed


def test_training_mode_leaves_the_teacher_in_evaluation(build_distill):
    model = build_distill().train()
    assert model.student.training and not any(module.training for module in model.teacher.modules())


def test_the_teacher_runs_no_head_that_no_recorder_reads(build_distill, make_batch, monkeypatch):
    model = build_distill()

    def fail(*args, **kwargs):
        raise AssertionError('the teacher ran a head that no recorder reads')

    teacher = model.teacher.network
    for owner, name in (
        (teacher.rpn_head, 'forward'),
        (teacher.roi_head.bbox_head, 'forward'),
        (teacher.roi_head.reid_loss, 'forward'),
        (teacher.roi_head.bbox_assigner, 'assign'),
        (teacher.roi_head.bbox_sampler, 'sample'),
        (teacher.rpn_head.assigner, 'assign'),
        (teacher.roi_head, 'loss'),
        (teacher, 'predict'),
        (teacher, 'loss'),
    ):
        monkeypatch.setattr(owner, name, fail)
    assert total(model.loss(*make_batch([[0, 3], [-1, 5]]))).isfinite()


@pytest.mark.parametrize('term, embeds', [('loss_feature', 0), ('loss_relation', 1)])
def test_the_teacher_embeds_only_if_a_recorder_reads_it(build_distill, make_batch, term, embeds):
    model, calls = build_distill(term), []
    model.teacher.network.roi_head.embedding_head.register_forward_hook(lambda *_: calls.append(1))
    model.loss(*make_batch([[0, 3], [-1, 5]]))
    assert len(calls) == embeds


def test_features_are_computed_once(build_distill, make_batch):
    model, passes = build_distill(), []
    for detector in (model.student, model.teacher.network):
        detector.backbone.register_forward_hook(lambda module, *_: passes.append(module))
    model.loss(*make_batch([[0, 3], [-1, 5]]))
    assert passes == [model.teacher.network.backbone, model.student.backbone]


@pytest.mark.parametrize('jitter', [0.0, 0.2])
def test_both_embed_the_same_persons(build_distill, make_batch, jitter):
    model = build_distill(box_jitter=jitter)
    seen = {}
    for name, detector in (('teacher', model.teacher.network), ('student', model.student)):
        embed = detector.roi_head.embed
        detector.roi_head.embed = lambda feats, boxes, name=name, embed=embed: (
            seen.setdefault(name, boxes),
            embed(feats, boxes),
        )[1]
    inputs, samples = make_batch([[0, 3, -1], [5]])
    model.loss(inputs, samples)
    given = [sample.gt_instances.bboxes for sample in samples]
    for ours, theirs, box in zip(seen['student'], seen['teacher'], given, strict=True):
        assert torch.equal(ours, theirs) and torch.equal(ours, box) == (jitter == 0)


def test_ground_truth_is_left_as_it_was(build_distill, make_batch):
    inputs, samples = make_batch([[0, 3, -1], [5]])
    before = copy.deepcopy(samples)
    build_distill(box_jitter=0.2).loss(inputs, samples)
    for sample, other in zip(samples, before, strict=True):
        assert torch.equal(sample.gt_instances.bboxes, other.gt_instances.bboxes)
        assert torch.equal(sample.gt_instances.person_ids, other.gt_instances.person_ids)


@pytest.mark.parametrize('term', TERMS)
def test_every_term_alone_teaches_the_student(build_distill, make_batch, term):
    model = build_distill(term, calculate_student_loss=False)
    losses = model.loss(*make_batch([[0, 3, -1], [5]]))
    assert set(losses) == {f'distill.{term}'}
    losses[f'distill.{term}'].backward()
    grads = [p.grad for p in model.student.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0


def test_a_factor_scales_every_distillation_loss_and_no_other(distill_config, make_batch, mmps_scope):
    losses = []
    for scale in (1, 3):
        cfg = distill_config(box_jitter=0)
        cfg['distiller']['scale'] = scale
        torch.manual_seed(0)
        model = MODELS.build({'_scope_': 'mmps', **cfg}).train()
        fill(model.teacher.memory)
        fill(model.student.memory)
        torch.manual_seed(1)
        losses.append(model.loss(*make_batch([[0, 3, -1], [5]])))
    for term in TERMS:
        torch.testing.assert_close(losses[1][f'distill.{term}'], 3 * losses[0][f'distill.{term}'])
    torch.testing.assert_close(losses[1]['student.loss_reid'], losses[0]['student.loss_reid'])


@pytest.mark.parametrize('term', TERMS)
def test_each_term_alone_has_the_same_value_as_among_the_others(build_distill, make_batch, term):
    whole, alone = build_distill(box_jitter=0), build_distill(term, box_jitter=0)
    alone.load_state_dict(whole.state_dict(), strict=False)
    alone.teacher.load_state_dict(whole.teacher.state_dict())
    values = []
    for model in (whole, alone):
        torch.manual_seed(1)
        values.append(model.loss(*make_batch([[0, 3, -1], [5]]))[f'distill.{term}'])
    torch.testing.assert_close(*values)


def test_a_checkpoint_holds_the_student_and_the_distillers_weights(build_distill):
    model = build_distill()
    names = set(model.state_dict())
    student = set(model.student.state_dict())
    assert student <= names
    assert names - student == {f'distiller.{name}' for name in model.distiller.state_dict()}
    assert any(name.startswith('distiller.connectors.neck_s4.') for name in names)


def test_a_plain_student_loads_the_checkpoint(build_distill, build_detector, tmp_path):
    model = build_distill()
    plain = build_detector(width=4, num_identities=0, seed=1)
    plain.load_state_dict(model.state_dict())
    assert same(state(plain), state(model.student))
    save_checkpoint({'state_dict': model.state_dict()}, str(tmp_path / 'a.pth'))
    again = build_detector(width=4, seed=2)
    load_checkpoint(again, str(tmp_path / 'a.pth'), strict=True)
    assert same(state(again), state(model.student))


@pytest.mark.parametrize('through_file', [False, True])
def test_a_checkpoint_resumes_in_a_new_distillation(build_distill, tmp_path, through_file):
    model, other = build_distill(), build_distill(seed=1)
    teacher = state(other.teacher)
    assert not same(state(other.student), state(model.student))
    if through_file:
        save_checkpoint({'state_dict': model.state_dict()}, str(tmp_path / 'a.pth'))
        load_checkpoint(other, str(tmp_path / 'a.pth'), strict=True)
    else:
        assert not any(other.load_state_dict(model.state_dict()))
    assert same(state(other.student), state(model.student))
    assert same(state(other.distiller), state(model.distiller))
    assert same(state(other.teacher), teacher)


def test_a_students_own_checkpoint_starts_a_distillation(build_distill, build_detector):
    plain, model = build_detector(width=4, seed=1), build_distill()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert same(state(model.student), state(plain)) and not unexpected
    assert all('distiller.' in name for name in missing)


def test_a_distilled_model_predicts_as_its_student(build_distill, make_batch):
    model = build_distill().eval()
    with torch.no_grad():
        ours = model(*make_batch([[0]]), mode='predict')[0].pred_instances
        students = model.student.predict(*make_batch([[0]]))[0].pred_instances
    assert torch.equal(ours.bboxes, students.bboxes) and torch.equal(ours.embeddings, students.embeddings)


def test_an_averaged_copy_predicts_with_its_own_weights(build_distill, make_batch):
    model = build_distill().eval()
    other = copy.deepcopy(model)
    torch.manual_seed(5)
    for parameter in other.student.parameters():
        parameter.data.normal_(std=0.1)
    inputs, samples = make_batch([[0]])
    boxes = [samples[0].gt_instances.bboxes]
    with torch.no_grad():
        found = other.student.embed(other.student.extract_feat(inputs), boxes)[0]
        model.student.load_state_dict(other.student.state_dict())
        expected = model.student.embed(model.student.extract_feat(inputs), boxes)[0]
    torch.testing.assert_close(found, expected)


@pytest.fixture
def teacher_file(tmp_path, build_detector):

    def make(**kwargs):
        path = str(tmp_path / 'teacher.pth')
        save_checkpoint({'state_dict': build_detector(**kwargs).state_dict()}, path)
        return path

    return make


def test_the_teachers_checkpoint_is_loaded_and_kept(build_distill, build_detector, teacher_file):
    model = build_distill(teacher_ckpt=teacher_file(seed=3))
    weight = 'backbone.conv1.weight'
    expected = build_detector(seed=3).state_dict()[weight]
    assert torch.equal(model.teacher.network.state_dict()[weight], expected)
    model.init_weights()
    assert torch.equal(model.teacher.network.state_dict()[weight], expected)


def test_a_missing_teacher_checkpoint_is_named(build_distill):
    with pytest.raises(FileNotFoundError, match=r'nowhere/teacher\.pth') as error:
        build_distill(teacher_ckpt='nowhere/teacher.pth')
    assert '\n' not in str(error.value)


def test_a_teacher_checkpoint_of_another_model_is_refused(build_distill, teacher_file):
    with pytest.raises(ValueError, match=r'teacher\.pth.*backbone\.conv1\.weight') as error:
        build_distill(teacher_ckpt=teacher_file(width=4))
    assert '\n' not in str(error.value)


def test_teacher_and_student_of_other_identities_are_refused(build_distill, detector_config, make_batch):
    model = build_distill(teacher=detector_config(width=8, num_identities=9))
    with pytest.raises(ValueError, match=r'num_identities=6.*9'):
        model.loss(*make_batch([[0, 3], [5]]))


def test_mmrazors_own_losses_work_unchanged(distill_config, make_batch, mmps_scope):
    cfg = distill_config('loss_feature')
    mapping = cfg.distiller.loss_forward_mappings.loss_feature
    replace(
        cfg.distiller,
        losses=None,
        distill_losses=dict(loss_pkd=dict(type='mmrazor.PKDLoss', loss_weight=2.0, per_level=True)),
        loss_forward_mappings=dict(loss_pkd=mapping),
    )
    model = MODELS.build({'_scope_': 'mmps', **cfg}).train()
    losses = model.loss(*make_batch([[0, 3], [5]]))
    assert losses['distill.loss_pkd'] > 0
    losses['distill.loss_pkd'].backward()
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0


def test_a_teacher_may_be_the_model_of_a_config_file(build_distill, detector_config, tmp_path):
    (tmp_path / 'mine.py').write_text(f'model = {detector_config(width=8).to_dict()}')
    model = build_distill(teacher=dict(cfg_path=str(tmp_path / 'mine.py'), pretrained=False))
    assert model.teacher.network.neck.out_channels == 16
    with pytest.raises(FileNotFoundError, match=r'nothing\.py'):
        build_distill(teacher=dict(cfg_path=str(tmp_path / 'nothing.py'), pretrained=False))
    with pytest.raises(ValueError, match=r'expected only cfg_path=.*teacher_ckpt names a checkpoint'):
        build_distill(teacher=dict(cfg_path=str(tmp_path / 'mine.py'), pretrained=True))


@pytest.mark.parametrize('kind', ['mmrazor.ConfigurableDistiller', 'NoDistiller', None])
def test_a_distiller_of_another_type_is_answered_with_the_one_that_is_expected(build_distill, distill_config, kind):
    distiller = distill_config().distiller
    distiller.type = kind
    with pytest.raises(ValueError, match=r"distiller.type is .*: expected 'PersonSearchDistiller'"):
        build_distill(distiller=distiller)
