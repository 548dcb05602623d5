"""Tests that a distilled student differs from a plain one only by the distillation."""

import copy

import torch
from mmengine.registry import MODELS

from mmps.distillation.losses import ResponseLoss


def build(detector_config, **changes):
    student, teacher = detector_config(width=4), detector_config(width=8)
    for model in (student, teacher):
        model.roi_head.embedding_head.batch_norm = True
    recorders = dict(embeddings=dict(type='MethodOutputs', source='embed'), lut=dict(type='Attribute', source='memory.lut'))
    mapping = {role: dict(from_student=role == 'student', recorder='embeddings') for role in ('student', 'teacher')}
    tables = {f'{role}_lut': dict(from_student=role == 'student', recorder='lut') for role in ('student', 'teacher')}
    distiller = dict(
        type='PersonSearchDistiller',
        student_recorders=recorders,
        teacher_recorders=recorders,
        distill_losses=dict(loss_relation=dict(type='RelationLoss'), loss_response=dict(type='ResponseLoss')),
        loss_forward_mappings=dict(loss_relation=mapping, loss_response={**mapping, **tables}),
    )
    return student, dict(
        type='PersonSearchDistill', _scope_='mmps', architecture=student, teacher=teacher, distiller=distiller, **changes
    )


def test_the_student_starts_with_the_weights_it_has_without_a_teacher(detector_config, mmps_scope):
    student, distillation = build(detector_config)
    states = []
    for cfg in (student, distillation):
        torch.manual_seed(3)
        model = MODELS.build({'_scope_': 'mmps', **cfg})
        model.init_weights()
        states.append(getattr(model, 'student', model).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_embedding_the_persons_does_not_update_running_statistics(detector_config, mmps_scope, make_batch):
    model = MODELS.build(build(detector_config)[1]).train()
    norm = model.student.roi_head.embedding_head.norm
    for detector in (model.student, model.teacher.network):
        detector.memory.lut.normal_()
    model.calculate_student_loss = False
    before = norm.running_mean.clone()
    model.loss(*make_batch([[0, 3], [-1, 5]]))
    assert torch.equal(norm.running_mean, before) and norm.training


def test_the_lookup_table_is_recorded_before_the_batch_updates_it(detector_config, mmps_scope, make_batch, monkeypatch):
    model = MODELS.build(build(detector_config)[1]).train()
    for detector in (model.student, model.teacher.network):
        detector.memory.lut.copy_(torch.nn.functional.normalize(torch.randn_like(detector.memory.lut)))
    before, seen = model.memory.lut.clone(), []
    recorders = model.distiller.student_recorders
    monkeypatch.setattr(
        model.distiller, 'compute_distill_losses', lambda: seen.append(recorders.get_recorder('lut').get_record_data()) or {}
    )
    model.loss(*make_batch([[0, 3], [-1, 5]]))
    assert torch.equal(seen[0], before) and not torch.equal(model.memory.lut, before)


def test_recorders_are_empty_after_the_losses(detector_config, mmps_scope, make_batch):
    model = MODELS.build(build(detector_config)[1]).train()
    for detector in (model.student, model.teacher.network):
        detector.memory.lut.normal_()
    model.loss(*make_batch([[0, 3], [-1, 5]]))
    assert not any(
        recorder.data_buffer
        for recorders in (model.distiller.student_recorders, model.distiller.teacher_recorders)
        for recorder in recorders.recorders.values()
    )


def test_the_model_can_be_copied_between_two_steps(detector_config, mmps_scope, make_batch):
    model = MODELS.build(build(detector_config)[1]).train()
    for detector in (model.student, model.teacher.network):
        detector.memory.lut.normal_()
    model.loss(*make_batch([[0, 3], [-1, 5]]))
    averaged = copy.deepcopy(model)
    assert torch.equal(averaged.memory.lut, model.memory.lut) and averaged.student is not model.student


def test_a_stopped_distillation_trains_the_student_alone(detector_config, mmps_scope, make_batch, monkeypatch):
    model = MODELS.build(build(detector_config)[1]).train()
    model.student.memory.lut.normal_()
    model.distillation_stopped = True
    monkeypatch.setattr(model.teacher.network, 'extract_feat', lambda inputs: 1 / 0)
    losses = model.loss(*make_batch([[0, 3], [-1, 5]]))
    assert 'student.loss_reid' in losses and not any(name.startswith('distill') for name in losses)


def test_identities_unseen_by_either_model_are_ignored_in_the_response():
    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    student, teacher = (unit(torch.randn(3, size, generator=generator)) for size in (4, 6))
    student_lut, teacher_lut = (unit(torch.randn(5, size, generator=generator)) for size in (4, 6))
    student_lut[1], teacher_lut[4] = 0, 0
    loss = ResponseLoss()
    both = [0, 2, 3]
    expected = loss(student, teacher, student_lut[both], teacher_lut[both])
    torch.testing.assert_close(loss(student, teacher, student_lut, teacher_lut), expected)
    assert loss(student, teacher, torch.zeros_like(student_lut), teacher_lut) == 0
