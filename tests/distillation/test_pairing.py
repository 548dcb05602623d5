"""Tests that the levels of feature maps are found and paired, and that per-level parts are copied for every pair."""

import pytest
import torch

from mmps.distillation.pairing import Level, Pair, apply_per_level, average, levels_of, pair_levels

CONFIG = dict(
    student_recorders=dict(feats=dict(type='FeatureMaps'), embeddings=dict(type='MethodOutputs', source='embed')),
    teacher_recorders=dict(feats=dict(type='FeatureMaps')),
    connectors=dict(
        neck=dict(type='mmrazor.ConvModuleConnector', kernel_size=1, per_level=True),
        other=dict(type='Linear', in_features=3),
    ),
    distill_losses=dict(loss_map=dict(type='FGDLoss', loss_weight=2.0, per_level=True), loss_persons=dict(type='RelationLoss')),
    loss_forward_mappings=dict(
        loss_map=dict(
            student=dict(from_student=True, recorder='feats', connector='neck'),
            teacher=dict(from_student=False, recorder='feats'),
        ),
        loss_persons=dict(student=dict(from_student=True, recorder='embeddings', connector='other')),
    ),
)


@pytest.mark.parametrize(
    'kind, training, expected',
    [
        ('fpn', True, [(0, 16, 4), (1, 16, 8), (2, 16, 16), (3, 16, 32)]),
        ('c4', True, [(0, 256, 16)]),
        ('alignps', True, [(0, 16, 8)]),
        ('alignps', False, [(0, 16, 8)]),
        ('alignps-roi', True, [(0, 16, 8), (5, 32, 16)]),
        ('alignps-roi', False, [(0, 16, 8), (1, 32, 16)]),
    ],
)
def test_levels_of_detectors_are_those_of_the_test(build_detector, kind, training, expected):
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
        ([8], [16], [(8, 16)]),
        ([4, 8], [16, 32], [(8, 16)]),
    ],
)
def test_levels_of_equal_stride_are_paired_or_else_the_two_nearest(student, teacher, expected):
    pairs = pair_levels(*([Level(index, 7, stride) for index, stride in enumerate(strides)] for strides in (student, teacher)))
    assert [(pair.student.stride, pair.teacher.stride) for pair in pairs] == expected


def test_per_level_parts_are_copied_with_the_sizes_of_each_pair():
    pairs = [Pair(Level(0, 32, 4), Level(1, 64, 4)), Pair(Level(1, 32, 8), Level(2, 128, 8))]
    cfg, copies = apply_per_level(CONFIG, pairs)
    assert copies == dict(loss_map=['loss_map_s4', 'loss_map_s8'])
    conv = dict(type='mmrazor.ConvModuleConnector', kernel_size=1)
    assert cfg['connectors'] == dict(
        other=CONFIG['connectors']['other'],
        neck_s4=dict(conv, in_channel=32, out_channel=64),
        neck_s8=dict(conv, in_channel=32, out_channel=128),
    )
    assert cfg['distill_losses'] == dict(
        loss_persons=dict(type='RelationLoss'),
        loss_map_s4=dict(type='FGDLoss', channels=64, stride=4, loss_weight=2.0),
        loss_map_s8=dict(type='FGDLoss', channels=128, stride=8, loss_weight=2.0),
    )
    assert cfg['loss_forward_mappings']['loss_map_s8'] == dict(
        student=dict(from_student=True, recorder='feats', data_idx=8, connector='neck_s8'),
        teacher=dict(from_student=False, recorder='feats', data_idx=8),
    )
    assert cfg['loss_forward_mappings']['loss_persons'] == CONFIG['loss_forward_mappings']['loss_persons']


def test_a_size_in_the_config_is_kept():
    own = dict(CONFIG, distill_losses=dict(CONFIG['distill_losses'], loss_map=dict(type='FGDLoss', stride=2, per_level=True)))
    cfg, _ = apply_per_level(own, [Pair(Level(0, 32, 4), Level(1, 64, 4))])
    assert cfg['distill_losses']['loss_map_s4'] == dict(type='FGDLoss', channels=64, stride=2)


@pytest.mark.parametrize('strides', [(16, 8), (8, 16)], ids=['finer teacher', 'finer student'])
def test_maps_of_other_strides_are_compared_at_the_coarser_one(strides):
    cfg, _ = apply_per_level(CONFIG, [Pair(Level(2, 32, strides[0]), Level(0, 64, strides[1]))])
    assert cfg['loss_forward_mappings']['loss_map_s16'] == dict(
        student=dict(from_student=True, recorder='feats', data_idx=16, connector='neck_s16'),
        teacher=dict(from_student=False, recorder='feats', data_idx=16),
    )
    assert cfg['distill_losses']['loss_map_s16']['stride'] == 16


def test_a_finer_map_is_averaged_over_the_cells_of_the_coarser_stride():
    maps = {4: torch.rand(2, 3, 9, 10), 8: torch.rand(2, 3, 5, 5)}
    assert average(maps, 8) is maps[8]
    coarse = average(maps, 16)
    assert coarse.shape == (2, 3, 3, 3)
    torch.testing.assert_close(coarse[:, :, 0, 0], maps[8][:, :, :2, :2].mean((2, 3)))
    torch.testing.assert_close(coarse[:, :, 2, 2], maps[8][:, :, 4, 4])  # the last row and column have no neighbour


@pytest.mark.parametrize('data_idx', [None, 'student_level'])
def test_a_loss_that_reads_maps_without_per_level_is_refused_with_advice(data_idx):
    record = dict(from_student=True, recorder='feats', data_idx=data_idx)
    own = dict(CONFIG, loss_forward_mappings=dict(CONFIG['loss_forward_mappings'], loss_persons=dict(student=record)))
    with pytest.raises(ValueError, match=r'loss_persons.*set per_level=True in distill_losses\.loss_persons') as error:
        apply_per_level(own, [Pair(Level(0, 32, 4), Level(1, 64, 4))])
    assert '\n' not in str(error.value)


def test_a_connector_per_level_of_another_loss_is_refused():
    record = dict(from_student=True, recorder='embeddings', connector='neck')
    own = dict(CONFIG, loss_forward_mappings=dict(CONFIG['loss_forward_mappings'], loss_persons=dict(student=record)))
    with pytest.raises(ValueError, match=r"loss_persons.*connector 'neck', which is per level") as error:
        apply_per_level(own, [Pair(Level(0, 32, 4), Level(1, 64, 4))])
    assert '\n' not in str(error.value)


def test_a_recorder_of_maps_is_known_with_its_scope_too():
    own = dict(CONFIG, teacher_recorders=dict(feats=dict(type='mmps.FeatureMaps')))
    cfg, _ = apply_per_level(own, [Pair(Level(0, 32, 4), Level(1, 64, 4))])
    assert cfg['loss_forward_mappings']['loss_map_s4']['teacher']['data_idx'] == 4
