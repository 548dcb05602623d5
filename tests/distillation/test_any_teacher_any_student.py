"""Tests that every detector can teach every other, with feature-, relation- and response-based losses."""

import pytest
import torch

from mmps.registry import MODELS

# The feature map of each detector that is distilled: its index in a teacher (in evaluation) and in a student (in training), its
# stride in a student, and its channels.
FEATURES = {
    'fpn': (1, 1, 8, 16),
    'c4': (0, 0, 16, 256),
    'nae': (0, 0, 16, 256),
    'seqnet': (1, 1, 8, 16),
    'alignps': (0, 0, 8, 16),
    'alignps-roi': (0, 0, 8, 16),
}
TERMS = ['loss_feature', 'loss_relation', 'loss_response']


def distiller(teacher: str, student: str) -> dict:
    recorders = dict(
        feats=dict(type='MethodOutputs', source='extract_feat'),
        embeddings=dict(type='MethodOutputs', source='embed'),
        lut=dict(type='Attribute', source='memory.lut'),
    )
    taught, learnt = FEATURES[teacher], FEATURES[student]

    def both(recorder):
        return dict(student=dict(from_student=True, recorder=recorder), teacher=dict(from_student=False, recorder=recorder))

    return dict(
        type='PersonSearchDistiller',
        student_recorders=dict(recorders, persons=dict(type='MethodInputs', source='embed')),
        teacher_recorders=recorders,
        connectors=dict(
            neck=dict(
                type='mmrazor.ConvModuleConnector', in_channel=learnt[3], out_channel=taught[3], kernel_size=1, act_cfg=None
            )
        ),
        distill_losses=dict(
            loss_feature=dict(type='PersonFeatureLoss', stride=learnt[2]),
            loss_relation=dict(type='RelationLoss', loss_weight=10.0),
            loss_response=dict(type='ResponseLoss', loss_weight=100.0),
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                student=dict(from_student=True, recorder='feats', data_idx=learnt[1], connector='neck'),
                teacher=dict(from_student=False, recorder='feats', data_idx=taught[0]),
                boxes=dict(from_student=True, recorder='persons', data_idx=1),
            ),
            loss_relation=both('embeddings'),
            loss_response=both('embeddings') | {f'{role}_lut': each for role, each in both('lut').items()},
        ),
    )


def total(losses):
    values = [value for name, value in losses.items() if 'loss' in name]
    return sum(part.sum() for value in values for part in (value if isinstance(value, list) else [value]))


# Of the 36 pairs, in a quick run each detector teaches itself and the next one.
KINDS = [*FEATURES]
QUICK = {(kind, KINDS[(index + step) % len(KINDS)]) for index, kind in enumerate(KINDS) for step in (0, 1)}


@pytest.mark.parametrize(
    ('teacher', 'student'),
    [
        pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.soak)
        for pair in ((teacher, student) for teacher in KINDS for student in KINDS)
    ],
)
def test_every_teacher_trains_every_student_for_two_steps(teacher, student, detector_config, mmps_scope, make_batch):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='PersonSearchDistill',
            architecture=detector_config(student),
            teacher=detector_config(teacher),
            distiller=distiller(teacher, student),
            box_jitter=0.1,
        )
    )
    model.init_weights()
    model.train()
    for network in (model.student, model.teacher.network):
        network.memory.lut.copy_(torch.nn.functional.normalize(torch.randn_like(network.memory.lut)))
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3)
    for step in range(2):
        losses = model.loss(*make_batch([[0, 3], [-1, 5, 1]], seed=step))
        weights = [weight for weight in model.student.parameters() if weight.requires_grad]
        for term in TERMS:
            gradients = torch.autograd.grad(losses[f'distill.{term}'], weights, retain_graph=True, allow_unused=True)
            gradients = [each for each in gradients if each is not None]
            assert all(each.isfinite().all() for each in gradients), term
            assert any(each.any() for each in gradients), term
            assert model.student.backbone.conv1.weight is weights[0] and gradients[0].any(), term
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
    assert all(weight.grad is None for weight in model.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())
