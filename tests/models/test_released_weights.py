"""Released checkpoints are converted to the names and layout of mmps completely or refused."""

import datetime
import pickle
from collections import Counter

import pytest
import torch
from torch import nn

from mmps.models.memory import IdentityMemory
from mmps.models.released_weights import ALIGNPS, SEQNET, convert, fit, load_released
from mmps.registry import MODELS

MEMORY = 'bbox_head.reid_loss.memory'


@pytest.mark.parametrize(
    ('released', 'ours'),
    [
        ('backbone.layer3.5.bn3.running_var', 'backbone.layer3.5.bn3.running_var'),
        ('rpn.head.conv.weight', 'rpn_head.rpn_conv.weight'),
        ('rpn.head.conv.0.0.bias', 'rpn_head.rpn_conv.bias'),
        ('rpn.head.cls_logits.weight', 'rpn_head.rpn_cls.weight'),
        ('rpn.head.bbox_pred.bias', 'rpn_head.rpn_reg.bias'),
        ('roi_heads.box_head.layer4.0.conv1.weight', 'roi_head.first.shared_head.layer4.0.conv1.weight'),
        ('roi_heads.reid_head.layer4.2.bn1.bias', 'roi_head.second.shared_head.layer4.2.bn1.bias'),
        ('roi_heads.embedding_head.projectors.feat_res4.0.weight', 'roi_head.second.embedding_head.projectors.0.linear.weight'),
        ('roi_heads.embedding_head.projectors.feat_res5.1.bias', 'roi_head.second.embedding_head.projectors.1.norm.bias'),
        ('roi_heads.embedding_head.rescaler.weight', 'roi_head.second.embedding_head.rescaler.weight'),
        ('roi_heads.reid_loss.lut', 'roi_head.second.reid_loss.memory.lut'),
        ('roi_heads.reid_loss.cq', 'roi_head.second.reid_loss.memory.queue'),
    ],
)
def test_names_of_seqnet(released, ours):
    tensor = torch.randn(4, 3)
    (found,) = convert({released: tensor}, SEQNET).items()
    assert found[0] == ours and torch.equal(found[1], tensor)


@pytest.mark.parametrize(
    ('released', 'ours'),
    [
        ('backbone.layer2.0.conv2.conv_offset.weight', 'backbone.layer2.0.conv2.conv_offset.weight'),
        ('neck.lateral_convs.2.conv_offset.bias', 'neck.lateral_convs.2.conv_offset.bias'),
        ('bbox_head.cls_convs.3.gn.weight', 'bbox_head.cls_convs.3.gn.weight'),
        ('bbox_head.conv_centerness.bias', 'bbox_head.conv_centerness.bias'),
        ('bbox_head.scales.4.scale', 'bbox_head.scales.4.scale'),
        ('bbox_head.labeled_matching_layer.lookup_table', f'{MEMORY}.lut'),
        ('bbox_head.unlabeled_matching_layer.queue', f'{MEMORY}.queue'),
        ('bbox_head.unlabeled_matching_layer.tail', f'{MEMORY}.queue_position'),
    ],
)
def test_names_of_alignps(released, ours):
    tensor = torch.randn(4, 3)
    (found,) = convert({released: tensor}, ALIGNPS).items()
    assert found[0] == ours and torch.equal(found[1], tensor)


def test_the_background_class_of_seqnet_moves_to_the_end():
    scores = torch.randn(2, 5)
    converted = convert({'roi_heads.faster_rcnn_predictor.cls_score.weight': scores}, SEQNET)
    assert torch.equal(converted['roi_head.first.bbox_head.fc_cls.weight'], scores[[1, 0]])


def test_the_background_boxes_of_seqnet_are_dropped():
    deltas, mean, batches = torch.randn(8, 5), torch.randn(8), torch.tensor(7)
    converted = convert(
        {
            'roi_heads.faster_rcnn_predictor.bbox_pred.weight': deltas,
            'roi_heads.box_predictor.bbox_pred.0.weight': deltas,
            'roi_heads.box_predictor.bbox_pred.1.running_mean': mean,
            'roi_heads.box_predictor.bbox_pred.1.num_batches_tracked': batches,
        },
        SEQNET,
    )
    second = 'roi_head.second.bbox_head.fc_reg'
    assert torch.equal(converted['roi_head.first.bbox_head.fc_reg.weight'], deltas[4:])
    assert torch.equal(converted[f'{second}.linear.weight'], deltas[4:])
    assert torch.equal(converted[f'{second}.norm.running_mean'], mean[4:])
    assert torch.equal(converted[f'{second}.norm.num_batches_tracked'], batches)


def test_all_unknown_tensors_are_named():
    weights = {'backbone.conv1.weight': torch.zeros(1), 'rpn_head.rpn_conv.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}
    with pytest.raises(ValueError, match=r'^2 of 3 tensors belong to no part .*: rpn_head\.rpn_conv\.weight, fc\.bias$'):
        convert(weights, ALIGNPS)


class Detector(nn.Module):
    """The part of a model that the rules for the memory use."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.reid_loss = nn.ModuleDict(dict(memory=IdentityMemory(num_identities=0, queue_size=4, embed_dims=8)))

    @property
    def memory(self):
        return self.reid_loss['memory']


def weights(**memory):
    return {
        'linear.weight': torch.ones(3, 2),
        'linear.bias': torch.ones(3),
        **{f'reid_loss.memory.{name}': tensor for name, tensor in memory.items()},
    }


def test_a_checkpoint_without_memory_keeps_that_of_the_model():
    model = Detector()
    model.load_state_dict(fit(weights(), model))
    assert model.memory.num_identities == 0 and model.linear.bias.eq(1).all()


def test_any_number_of_identities_fits_and_the_queue_position_may_be_missing():
    model, lut = Detector(), torch.randn(7, 8)
    model.load_state_dict(fit(weights(lut=lut, queue=torch.ones(4, 8)), model))
    assert torch.equal(model.memory.lut, lut)
    assert model.memory.queue.eq(1).all() and model.memory.queue_position == 0


@pytest.mark.parametrize('memory', [{'lut': torch.zeros(7, 6)}, {'queue': torch.zeros(5, 8)}, {'queue': torch.zeros(4, 6)}])
def test_a_memory_of_another_size_is_refused(memory):
    with pytest.raises(ValueError, match=rf'1 of another shape: reid_loss\.memory\.{next(iter(memory))} \('):
        fit(weights(**memory), Detector())


def test_all_tensors_that_do_not_fit_are_named():
    wrong = {'linear.weight': torch.ones(2, 2), 'linear.scale': torch.ones(1), 'bias': torch.ones(3)}
    with pytest.raises(
        ValueError,
        match=r'1 missing: linear\.bias; 2 left over: linear\.scale, bias; '
        r'1 of another shape: linear\.weight \(\(2, 2\), the model has \(3, 2\)\)',
    ):
        fit(wrong, Detector())


@pytest.mark.parametrize(
    'wrap',
    [
        lambda named: named,
        lambda named: {'state_dict': named, 'meta': {'epoch': 24}},
        lambda named: {'model': named, 'lr_scheduler': {'milestones': Counter({16: 1})}},
    ],
    ids=['bare', 'state_dict', 'model'],
)
@pytest.mark.parametrize('zipped', [True, False])
def test_tensors_are_found_at_every_nesting(tmp_path, wrap, zipped):
    named = weights()
    torch.save(wrap(named), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    found = load_released(str(tmp_path / 'a.pth'))
    assert found.keys() == named.keys() and all(torch.equal(found[name], named[name]) for name in named)


def truncated(path):
    torch.save(weights(), path)
    path.write_bytes(path.read_bytes()[:400])


@pytest.mark.parametrize(
    ('write', 'why'),
    [
        (lambda path: path.write_bytes(b''), r'can be loaded: EOFError$'),
        (lambda path: path.write_bytes(b'garbage, not a checkpoint'), r'can be loaded: \w+$'),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), r'can be loaded: \w+$'),
        (truncated, r'can be loaded: \w+$'),
        (lambda path: path.write_bytes(pickle.dumps({'a': 1}, protocol=2)), r'can be loaded: \w+$'),
        (lambda path: torch.save({}, path), r'expected named tensors'),
        (lambda path: torch.save({'state_dict': {'a': [1]}}, path), r'expected named tensors'),
        (lambda path: torch.save({1: torch.zeros(1)}, path), r'expected named tensors'),
        (lambda path: torch.save([torch.zeros(1)], path), r'expected named tensors'),
        (
            lambda path: torch.save({'state_dict': weights(), 'meta': datetime.date(2021, 3, 1)}, path),
            r'holds datetime\.date, and only tensors',
        ),
    ],
    ids=['empty', 'text', 'bytes', 'truncated', 'pickle', 'nothing', 'lists', 'numbers', 'unnamed', 'object'],
)
def test_another_file_is_refused_in_one_line(tmp_path, write, why):
    path = tmp_path / 'a.pth'
    write(path)
    with pytest.raises(ValueError, match=why) as error:
        load_released(str(path))
    assert str(error.value).startswith(f'{path} is no checkpoint') and '\n' not in str(error.value)


def test_a_missing_file_raises_the_system_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_released(str(tmp_path / 'a.pth'))


def test_the_other_names_of_alignps_are_those_of_mmdetection(detector_config, mmps_scope):
    model = MODELS.build(detector_config('alignps'))
    released = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(MEMORY)}
    complete = fit(convert(released, ALIGNPS), model)
    assert complete.keys() == model.state_dict().keys()
    assert all(torch.equal(complete[name], tensor) for name, tensor in released.items())
