"""Tests that a distilled student differs from a plain one only by the distillation."""

import copy
from itertools import cycle, islice

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmps.models.dense_heads.alignps_head import AlignPSHead
from mmps.models.dense_heads.points import sample_at_centres
from mmps.synthetic import generate


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


def test_a_given_box_is_embedded_at_that_box_in_both_models(detector_config, mmps_scope, make_batch, monkeypatch):
    """As published, AlignPS embeds it at the detection that overlaps it most, which may be another person's."""
    student = detector_config('alignps')
    cfg = dict(build(detector_config)[1], architecture=student, teacher=copy.deepcopy(student), box_jitter=0.1)
    model = MODELS.build(cfg).train()
    seen = []
    monkeypatch.setattr(AlignPSHead, 'predict_by_feat', lambda *args, **kwargs: 1 / 0)  # no hidden detection
    embed_centres = AlignPSHead.embed_centres

    def embed(head, feats, boxes):
        found = embed_centres(head, feats, boxes)
        expected = head.describe(sample_at_centres(head.reid_map(feats), boxes, head.strides[0]))
        torch.testing.assert_close(torch.cat(found), expected)
        seen.append((head, boxes))
        return found

    monkeypatch.setattr(AlignPSHead, 'embed_centres', embed)
    assert model.student.bbox_head.embed_from == 'best_detection'
    model.loss(*make_batch([[0, 3], [-1, 5]]))
    assert [head for head, _ in seen] == [model.teacher.network.bbox_head, model.student.bbox_head]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen[0][1], seen[1][1], strict=True))


def test_only_the_students_lookup_table_is_copied(detector_config, mmps_scope, make_batch, monkeypatch):
    """The teacher's table never changes: CUHK-SYSU's has 5.7 MB."""
    model = MODELS.build(build(detector_config)[1]).train()
    tables = {}
    monkeypatch.setattr(
        model.distiller,
        'compute_distill_losses',
        lambda: tables.update(
            (role, getattr(model.distiller, f'{role}_recorders').get_recorder('lut').get_record_data().data_ptr())
            for role in ('student', 'teacher')
        ),
    )
    monkeypatch.setattr(model, '_warmed_up', lambda losses: {})
    model.loss(*make_batch([[0, 3], [-1, 5]]))
    assert tables['teacher'] == model.teacher.memory.lut.data_ptr()
    assert tables['student'] != model.student.memory.lut.data_ptr()


def test_a_distilled_embedding_is_normalized_as_in_the_students_own_loss(detector_config, mmps_scope, make_batch):
    """So a shift of all features before the norm changes no distillation loss, and its gradient does not move their mean."""
    cfg = build(detector_config)[1]
    cfg['architecture'] = detector_config('seqnet')
    model = MODELS.build(cfg).train()
    for detector in (model.student, model.teacher.network):
        detector.memory.lut.copy_(torch.nn.functional.normalize(torch.randn_like(detector.memory.lut)))
    linear = model.student.roi_head.second.embedding_head.projectors[1].linear
    values = []
    for shift in (0.0, 0.3):
        with torch.no_grad():
            linear.bias.add_(shift)
        torch.manual_seed(0)
        state = copy.deepcopy(model.student.state_dict())
        losses = {name: value for name, value in model.loss(*make_batch([[0, 3], [-1, 5]])).items() if 'distill' in name}
        (gradient,) = torch.autograd.grad(sum(losses.values()), linear.bias)
        values.append(losses)
        model.student.load_state_dict(state)
        assert gradient.abs().max() < 1e-5 * linear.weight.abs().sum()
    for name, value in values[0].items():
        torch.testing.assert_close(values[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.soak
def test_the_distillation_does_not_move_the_mean_before_the_norm(repository, mmps_scope, tmp_path):
    """With running statistics in the distillation, it ends two standard deviations away from 0."""
    generate(tmp_path / 'data', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    cfg = Config.fromfile(repository / 'configs/hkd/hkd-self_oim-r18-w8_10e_synthps-mini.py')
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'data')
    torch.manual_seed(0)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    model.memory.resize(loader.dataset.metainfo['num_identities'])
    shares = []

    def measure(norm, args):
        if norm.training and len(args[0]) > 1:
            variance, mean = torch.var_mean(args[0].detach(), 0)
            shares.append((mean.square().mean() / variance.mean()).sqrt().item())

    model.student.roi_head.embedding_head.norm.register_forward_pre_hook(measure)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=2e-3)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=50)
    for batch in islice(cycle(loader), 200):
        data = model.data_preprocessor(batch, True)
        optimizer.zero_grad()
        model.parse_losses(model.loss(data['inputs'], data['data_samples']))[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        warmup.step()
    assert len(shares) == 200 and sum(shares[-20:]) / 20 < 1
