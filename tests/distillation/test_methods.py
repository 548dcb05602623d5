"""Tests that every method of configs/_base_/distillers trains every student."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmps.distillation.teachers import StudentItself
from mmps.registry import MODELS

DISTILLERS = Path(__file__).parents[2] / 'configs' / '_base_' / 'distillers'
METHODS = sorted(path.stem for path in DISTILLERS.glob('*.py'))
STUDENTS = ['fpn', 'seqnet', 'alignps']
HEADS = ['hkd', 'hkd-prw']  # a second head teaches: for students with a RoI head that embeds


def build(detector_config, method, student, teacher=None, losses=None, **changes):
    distil = Config.fromfile(DISTILLERS / f'{method}.py').distil
    distil.distiller.losses = losses
    theirs = detector_config(teacher or student)
    if method in HEADS:
        theirs = dict(type='CropReIDHead', detector=theirs, crop_size=(32, 16))
    teaches = {} if method == 'hkd-self' else dict(teacher=theirs)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(
            dict(type='PersonSearchDistill', architecture=detector_config(student), **teaches, **{**distil, **changes})
        )
        model.init_weights()
    for network in (model.student, model.teacher.network):
        network.memory.lut.copy_(torch.nn.functional.normalize(torch.randn_like(network.memory.lut)))
    return model.train()


def test_all_methods_are_found():
    two_stage = {f'{method}-two-stage' for method in ('ddps', 'fgd', 'mgd', 'pkd', 'cwd')}
    maps = {'pkd', 'fgd', 'mgd', 'cwd'}
    gdps = {'gdps', 'gdps-squared', 'gdps-detection'}
    methods = {*gdps, 'munjal-detector', 'dkd', 'ddps', 'ddps-pkd', *HEADS, 'hkd-self', *maps}
    assert methods | two_stage == set(METHODS)


@pytest.mark.parametrize(
    'method, student',
    [(method, student) for method in METHODS for student in (['fpn', 'seqnet', 'nae'] if method in HEADS else STUDENTS)],
)
def test_every_term_reaches_the_student_for_any_number_of_persons(method, student, detector_config, make_batch):
    model = build(detector_config, method, student)
    terms = set(Config.fromfile(DISTILLERS / f'{method}.py').distil.distiller.distill_losses)
    weights = [weight for weight in model.student.parameters() if weight.requires_grad]
    for persons in ([[0, 3], [-1, 5, 1]], [[], []], [[2], []]):
        losses = model.loss(*make_batch(persons))
        found = {name.removeprefix('distill.'): value for name, value in losses.items() if name.startswith('distill.')}
        assert found.keys() == terms
        for name, value in found.items():
            gradients = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
            gradients = [each for each in gradients if each is not None]
            assert value.isfinite() and all(each.isfinite().all() for each in gradients), name
            if persons == [[0, 3], [-1, 5, 1]]:
                assert any(each.any() for each in gradients) or (value == 0 and name == 'loss_bounded'), name


@pytest.mark.parametrize('method', METHODS)
def test_recorders_and_connectors_that_no_loss_reads_are_removed(method, detector_config):
    model = build(detector_config, method, 'fpn')
    mappings = model.distiller.loss_forward_mappings
    records = [record for mapping in mappings.values() for record in mapping.values()]
    assert set(model.distiller.connectors) == {record['connector'] for record in records if 'connector' in record}
    for ours, recorders in ((True, model.distiller.student_recorders), (False, model.distiller.teacher_recorders)):
        assert set(recorders.recorders) == {each['recorder'] for each in records if each['from_student'] == ours}


@pytest.mark.parametrize('how', [dict(teacher_channels_last=False), dict(teacher_autocast='bfloat16')], ids=str)
@pytest.mark.parametrize('method', ['gdps', 'munjal-detector', 'cwd', 'mgd', 'fgd'])
def test_the_teachers_precision_and_memory_layout_change_the_losses_little(method, how, detector_config, make_batch):
    models = [build(detector_config, method, 'fpn', **changes) for changes in (dict(), how)]
    for ours, theirs in ((models[0], models[1]), (models[0].teacher, models[1].teacher)):
        theirs.load_state_dict(ours.state_dict())  # random weights depend on the memory layout
    values = []
    for model in models:
        torch.manual_seed(1)
        losses = model.loss(*make_batch([[0, 3], [-1, 5, 1]]))
        values.append({name: value for name, value in losses.items() if 'distill' in name})
    for name, value in values[0].items():
        torch.testing.assert_close(values[1][name], value, rtol=0.05, atol=1e-2 if 'autocast' in str(how) else 1e-4)


def test_only_the_teachers_backbone_and_neck_are_compiled(detector_config, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: compiled.append(self))
    teacher = build(detector_config, 'gdps', 'fpn', teacher_compile=True).teacher
    assert compiled == [teacher.network.backbone, teacher.network.neck]
    build(detector_config, 'gdps', 'fpn')
    assert len(compiled) == 2


@pytest.mark.parametrize('student', STUDENTS)
def test_a_network_teaches_itself_without_gradient_through_the_true_boxes(student, detector_config, make_batch, monkeypatch):
    model = build(detector_config, 'hkd-self', student)
    assert isinstance(model.teacher, StudentItself)
    asked = []
    embed_in_place = type(model.student).embed_in_place
    monkeypatch.setattr(
        type(model.student),
        'embed_in_place',
        lambda self, feats, boxes: (asked.append((boxes, torch.is_grad_enabled())), embed_in_place(self, feats, boxes))[1],
    )
    images, samples = make_batch([[0, 3], [5]])
    model.loss(images, samples)
    (detected, learns), (true, teaches) = asked
    assert learns and not teaches
    for found, given, sample in zip(detected, true, samples, strict=True):
        assert torch.equal(given, sample.gt_instances.bboxes) and not torch.equal(found, given)
        assert (found[:, 2:] > found[:, :2]).all()
    assert not any(name.startswith('teacher.') for name in model.state_dict())
    model.load_state_dict(model.state_dict())


def test_distillation_losses_grow_linearly_during_warmup(detector_config, make_batch, monkeypatch):

    class Hub:
        step = 0

        def get_info(self, name, default):
            assert name == 'iter'
            return self.step

    hub = Hub()
    monkeypatch.setattr('mmps.distillation.algorithm.MessageHub.get_current_instance', lambda: hub)
    values = []
    for hub.step in (0, 5, 10, 20):
        torch.manual_seed(1)
        model = build(detector_config, 'gdps', 'fpn', losses=['loss_relation'], warmup=10)
        values.append(model.loss(*make_batch([[0, 3], [5]]))['distill.loss_relation'].item())
    assert values == pytest.approx([0, values[3] / 2, values[3], values[3]]) and values[3] > 0


def plain_detector(detector_config, kind='PersonDetector'):
    """Returns a detector of the same size as 'fpn', without a re-id branch."""
    teacher = detector_config('fpn')
    teacher.type, teacher.roi_head.type = kind, 'StandardRoIHead'
    for name in ('embedding_head', 'reid_loss'):
        del teacher.roi_head[name]
    return teacher


def test_a_detector_without_a_re_id_branch_teaches_detection(detector_config, mmps_scope, make_batch):
    """The specialized detector of Munjal et al."""
    distil = Config.fromfile(DISTILLERS / 'munjal-detector.py').distil
    torch.manual_seed(0)
    model = MODELS.build(
        dict(type='PersonSearchDistill', architecture=detector_config('fpn'), teacher=plain_detector(detector_config), **distil)
    )
    model.init_weights()
    weights = [weight for weight in model.train().student.parameters() if weight.requires_grad]
    for persons in ([[0, 3], [-1, 5, 1]], [[2], []], [[], []]):
        losses = model.loss(*make_batch(persons))
        for name in ('loss_feature', 'loss_dense', 'loss_boxes', 'loss_bounded'):
            loss = losses[f'distill.{name}']
            gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            assert loss.isfinite() and all(each.isfinite().all() for each in gradients if each is not None), name
            if persons[0] == [0, 3] and name != 'loss_bounded':
                assert any(each.any() for each in gradients if each is not None), name


@pytest.mark.parametrize('losses', [None, ['loss_relation'], ['loss_response']])
def test_a_detector_without_a_re_id_branch_cannot_teach_re_id(detector_config, mmps_scope, losses):
    distil = Config.fromfile(DISTILLERS / 'gdps.py').distil
    distil.distiller.losses = losses
    with pytest.raises(ValueError, match=r'teacher is a PersonDetector, which has no re-id branch: the recorder'):
        MODELS.build(
            dict(
                type='PersonSearchDistill',
                architecture=detector_config('fpn'),
                teacher=plain_detector(detector_config),
                **distil,
            )
        )


def test_a_plain_detector_trains_and_detects_without_embeddings(detector_config, mmps_scope, make_batch):
    torch.manual_seed(0)
    detector = MODELS.build(plain_detector(detector_config))
    detector.init_weights()
    images, samples = make_batch([[0, 3], [-1, 5, 1]])
    losses = detector.train().loss(images, samples)
    assert {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'} < losses.keys() and 'loss_reid' not in losses
    found = detector.eval().predict(images, samples)[0].pred_instances
    assert {'bboxes', 'scores', 'labels'} == set(found.keys())


def test_dkds_terms_are_those_that_its_authors_print(detector_config, make_batch):
    """Compares the distiller's losses on the embeddings of a step with plain loops over the persons in float64."""
    model = build(detector_config, 'dkd', 'fpn')
    recorded, call = {}, model.distiller.compute_distill_losses
    for role in ('student', 'teacher'):
        recorders = getattr(model.distiller, f'{role}_recorders')
        recorded[role] = lambda recorders=recorders: (
            torch.cat(recorders.get_recorder('embeddings').get_record_data()).detach().double(),
            recorders.get_recorder('lut').get_record_data().double(),
        )
    seen = {}
    model.distiller.compute_distill_losses = lambda: (seen.update({role: get() for role, get in recorded.items()}), call())[1]
    losses = model.loss(*make_batch([[0, 3], [-1, 5, 1]]))
    (s, s_lut), (t, t_lut) = seen['student'], seen['teacher']
    count = len(s)

    def row(embeddings, i):
        values = [float(embeddings[i] @ embeddings[j]) for j in range(count)]
        return [value / sum(each**2 for each in values) ** 0.5 for value in values]

    pairs = sum((a - b) ** 2 for i in range(count) for a, b in zip(row(s, i), row(t, i), strict=True)) / count**2
    triplets = sum(
        max(0.3 + float((s[i] - t[i]).norm()) - min(float((s[i] - t[j]).norm()) for j in range(count) if j != i), 0)
        for i in range(count)
    )
    lower, temperature, divergence = 0.01, 1.0, 0.0
    for _ in range(14):  # the teacher hesitates between three identities
        middle = (lower * temperature) ** 0.5
        hesitation = torch.special.entr((t @ t_lut.T / middle).softmax(1)).sum(1).mean()
        lower, temperature = (lower, middle) if hesitation > math.log(3) else (middle, temperature)
    for i in range(count):
        p, q = ((embeddings[i] @ lut.T / temperature).softmax(0).tolist() for embeddings, lut in ((s, s_lut), (t, t_lut)))
        divergence += sum(a * (torch.tensor(a).log() - torch.tensor(b).log()).item() for a, b in zip(p, q, strict=True))
    assert losses['distill.loss_pairs'].item() == pytest.approx(25 * pairs, rel=1e-4)
    assert losses['distill.loss_triplets'].item() == pytest.approx(triplets / count, rel=1e-4)
    assert losses['distill.loss_probability'].item() == pytest.approx(100 * temperature**2 * divergence / count, rel=1e-3)


@pytest.mark.parametrize('student', STUDENTS)
def test_dkd_moves_the_rois_of_the_students_re_id_branch(student, detector_config):
    model = build(detector_config, 'dkd', student)
    heads = [module for module in model.student.modules() if hasattr(module, 'reid_jitter')]
    assert [head.reid_jitter for head in heads] == ([] if student == 'alignps' else [0.1])


def test_a_teacher_without_a_re_id_branch_is_refused(detector_config, mmps_scope):
    teacher = plain_detector(detector_config, 'mmdet.FasterRCNN')
    distil = Config.fromfile(DISTILLERS / 'gdps.py').distil
    with pytest.raises(ValueError, match=r'teacher is a FasterRCNN, which has no re-id branch.*expected a person-search'):
        MODELS.build(dict(type='PersonSearchDistill', architecture=detector_config('fpn'), teacher=teacher, **distil))
    features_alone = Config.fromfile(DISTILLERS / 'pkd.py').distil
    assert MODELS.build(
        dict(type='PersonSearchDistill', architecture=detector_config('fpn'), teacher=teacher, **features_alone)
    ).teacher


@pytest.mark.parametrize(
    'recorder, message',
    [
        (dict(type='MethodOutputs', source='extract_feats'), "no method 'extract_feats': did you mean extract_feat"),
        (
            dict(type='mmrazor.ModuleOutputs', source='backbone.layer5'),
            "no module 'backbone.layer5' to record: did you mean backbone.layer",
        ),
        (dict(type='Attribute', source='memory.lookup'), "no tensor 'memory.lookup'"),
    ],
)
def test_a_wrong_source_of_a_recorder_is_refused_with_similar_names(detector_config, mmps_scope, recorder, message):
    distil = Config.fromfile(DISTILLERS / 'gdps.py').distil
    distil.distiller.losses = ['loss_relation']
    distil.distiller.student_recorders.embeddings = recorder
    with pytest.raises(ValueError, match=message) as error:
        MODELS.build(
            dict(type='PersonSearchDistill', architecture=detector_config('fpn'), teacher=detector_config('fpn'), **distil)
        )
    assert '\n' not in str(error.value)


def test_a_method_of_feature_maps_without_a_teacher_is_refused(detector_config, mmps_scope):
    distil = Config.fromfile(DISTILLERS / 'pkd.py').distil
    with pytest.raises(ValueError, match='to compare feature maps, name a teacher'):
        MODELS.build(dict(type='PersonSearchDistill', architecture=detector_config('fpn'), **distil))


def test_a_loss_without_a_mapping_is_refused(detector_config, mmps_scope):
    distil = Config.fromfile(DISTILLERS / 'gdps.py').distil
    del distil.distiller.loss_forward_mappings.loss_relation
    with pytest.raises(ValueError, match="loss_forward_mappings has no 'loss_relation'"):
        MODELS.build(
            dict(type='PersonSearchDistill', architecture=detector_config('fpn'), teacher=detector_config('fpn'), **distil)
        )


def test_the_dense_head_is_recorded_without_the_students_own_losses(detector_config, make_batch):
    model = build(detector_config, 'munjal-detector', 'fpn', losses=['loss_dense'], calculate_student_loss=False)
    assert model.loss(*make_batch([[0, 3], [5]])).keys() == {'distill.loss_dense'}


@pytest.mark.parametrize('teacher, expected', [('seqnet', [(8, 8)]), ('c4', [(8, 16)]), ('alignps', [(8, 8)])])
def test_alignps_is_distilled_on_the_map_of_a_test(teacher, expected, detector_config, make_batch):
    """In training it has maps of strides 16 to 128 too, which are thrown away."""
    model = build(detector_config, 'gdps', 'alignps', teacher, losses=['loss_feature'])
    assert [(pair.student.stride, pair.teacher.stride) for pair in model.distiller.pairs] == expected
    loss = model.loss(*make_batch([[0, 3], [-1, 5]]))['distill.loss_feature']
    assert torch.autograd.grad(loss, next(model.student.neck.parameters()))[0].any()
