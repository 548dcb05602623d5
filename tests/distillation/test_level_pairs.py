"""A distiller's config leaves the levels open; the models fill them in."""

import pytest
import torch

from mmps.distillation.levels import Level, Pair, fit_levels, levels_of, pair_levels

CONFIG = dict(
    type='mmrazor.ConfigurableDistiller',
    connectors=dict(
        neck=dict(type='Conv', in_channel='student_channels', out_channel='teacher_channels', kernel_size=1),
        other=dict(type='Linear', in_features=3),
    ),
    distill_losses=dict(loss_map=dict(type='Map', stride='stride', weight=2.0), loss_persons=dict(type='Persons')),
    loss_forward_mappings=dict(
        loss_map=dict(
            student=dict(from_student=True, recorder='feats', data_idx='student_level', connector='neck'),
            teacher=dict(from_student=False, recorder='feats', data_idx='teacher_level'),
        ),
        loss_persons=dict(student=dict(from_student=True, recorder='embeddings', connector='other')),
    ),
)


@pytest.mark.parametrize(
    'kind, training, expected',
    [
        ('fpn', True, [(0, 16, 4), (1, 16, 8), (2, 16, 16), (3, 16, 32)]),
        ('c4', True, [(0, 256, 16)]),
        ('alignps', True, [(0, 16, 8), (1, 16, 16), (2, 16, 32), (3, 16, 64), (4, 16, 128)]),
        ('alignps', False, [(0, 16, 8)]),
        ('alignps-roi', False, [(0, 16, 8), (1, 32, 16)]),
    ],
)
def test_a_detectors_levels_are_found_out(build_detector, kind, training, expected):
    detector = build_detector(kind).train(training)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    draw = torch.random.get_rng_state()
    assert levels_of(detector) == [Level(*each) for each in expected]
    assert detector.training == training and torch.equal(draw, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


@pytest.mark.parametrize(
    'student, teacher, expected',
    [
        ([4, 8, 16], [8, 16, 32], [(8, 8), (16, 16)]),
        ([16], [8], [(16, 8)]),
        ([16, 32], [4, 8], [(16, 8)]),
    ],
)
def test_levels_of_one_stride_are_compared_or_else_the_teachers_finer_one(student, teacher, expected):
    pairs = pair_levels(*([Level(index, 7, stride) for index, stride in enumerate(strides)] for strides in (student, teacher)))
    assert [(pair.student.stride, pair.teacher.stride) for pair in pairs] == expected


def test_a_teacher_with_only_coarser_maps_is_refused():
    with pytest.raises(ValueError, match=r'strides of the student are \[4, 8\], those of the teacher \[16\]') as error:
        pair_levels([Level(0, 1, 4), Level(1, 1, 8)], [Level(0, 1, 16)])
    assert '\n' not in str(error.value)


def test_what_has_words_is_repeated_with_their_numbers():
    pairs = [Pair(Level(0, 32, 4), Level(1, 64, 4)), Pair(Level(1, 32, 8), Level(2, 128, 8))]
    cfg, copies = fit_levels(CONFIG, pairs)
    assert copies == dict(loss_map=['loss_map_s4', 'loss_map_s8'])
    assert cfg['connectors'] == dict(
        other=CONFIG['connectors']['other'],
        neck_s4=dict(type='Conv', in_channel=32, out_channel=64, kernel_size=1),
        neck_s8=dict(type='Conv', in_channel=32, out_channel=128, kernel_size=1),
    )
    assert cfg['distill_losses'] == dict(
        loss_persons=dict(type='Persons'),
        loss_map_s4=dict(type='Map', stride=4, weight=2.0),
        loss_map_s8=dict(type='Map', stride=8, weight=2.0),
    )
    assert cfg['loss_forward_mappings']['loss_map_s8'] == dict(
        student=dict(from_student=True, recorder='feats', data_idx=1, connector='neck_s8'),
        teacher=dict(from_student=False, recorder='feats', data_idx=2),
    )
    assert cfg['loss_forward_mappings']['loss_persons'] == CONFIG['loss_forward_mappings']['loss_persons']


def test_a_finer_map_of_the_teacher_is_averaged():
    cfg, _ = fit_levels(CONFIG, [Pair(Level(2, 32, 16), Level(0, 64, 8))])
    assert cfg['loss_forward_mappings']['loss_map_s16']['teacher'] == dict(
        from_student=False, recorder='feats', data_idx=0, connector='average'
    )
    assert cfg['connectors']['average']['func_args']['kernel_size'] == 2
