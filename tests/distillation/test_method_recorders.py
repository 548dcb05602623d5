"""Tests that recorders record the inputs and outputs of a model's methods, and only inside their context."""

import copy
from functools import partial

import pytest
import torch
from mmrazor.registry import TASK_UTILS as MMRAZOR
from torch import nn

from mmps.distillation.recorders import AttributeRecorder, FeatureMapsRecorder, MethodInputsRecorder, MethodOutputsRecorder


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.Linear(2, 2)
        self.register_buffer('factor', torch.tensor(2.0))
        self.name = 'original'

    def scale(self, value, plus=0):
        return value * self.factor + plus, self.name


def recording(recorder_class, source, model):
    recorder = recorder_class(source)
    recorder.initialize(model)
    return recorder


@pytest.mark.parametrize(
    'recorder_class, expected',
    [(MethodInputsRecorder, [(1,), (2, 5)]), (MethodOutputsRecorder, [(2, 'original'), (9, 'original')])],
)
def test_calls_are_recorded_inside_the_context_only(recorder_class, expected):
    model = Model()
    recorder = recording(recorder_class, 'scale', model)
    model.scale(7)
    with recorder:
        model.scale(1)
        model.scale(2, 5)
    model.scale(8)
    assert recorder.data_buffer == expected
    assert recorder.get_record_data(record_idx=1, data_idx=0) == expected[1][0]
    with recorder:
        pass
    assert recorder.data_buffer == []


def test_recorded_methods_return_the_same_values():
    model = Model()
    recorder = recording(MethodOutputsRecorder, 'scale', model)
    with recorder:
        assert model.scale(3, plus=1) == (7, 'original')


def test_inputs_and_outputs_of_one_method_are_recorded_together():
    model = Model()
    inputs, outputs = (recording(each, 'scale', model) for each in (MethodInputsRecorder, MethodOutputsRecorder))
    with inputs, outputs:
        model.scale(3)
    assert inputs.data_buffer == [(3,)] and outputs.data_buffer == [(6, 'original')]


def test_an_attribute_is_recorded_as_it_was_before_the_context():
    model = Model()
    before = model.part.bias.detach().clone()
    recorder = recording(AttributeRecorder, 'part.bias', model)
    with recorder:
        model.part.bias.data.add_(1)
    assert torch.equal(recorder.get_record_data(), before) and not torch.equal(model.part.bias, before)


@pytest.mark.parametrize('source', ['nothing', 'name', 'part', 'part.nothing', 'nothing.forward'])
@pytest.mark.parametrize('recorder_class', [MethodInputsRecorder, MethodOutputsRecorder])
def test_a_source_that_is_no_method_is_refused_in_one_line(recorder_class, source):
    with pytest.raises(ValueError, match=f"Model has no method '{source}'") as error:
        recording(recorder_class, source, Model())
    assert '\n' not in str(error.value)


def test_a_copied_model_calls_its_own_methods():
    """MMEngine's EMA makes such a copy."""
    model = Model()
    recorder = recording(MethodOutputsRecorder, 'scale', model)
    other = copy.deepcopy(model)
    other.factor.fill_(100)
    other.name = 'copy'
    assert other.scale(1) == (100, 'copy')
    assert model.scale(1) == (2, 'original')
    with recorder:
        model.scale(3)
    assert recorder.data_buffer == [(6, 'original')]


def test_recorders_do_not_own_the_model():
    model = Model()
    before = set(model.state_dict())
    holder = nn.Module()
    holder.recorder = recording(AttributeRecorder, 'factor', model)
    recording(MethodOutputsRecorder, 'scale', model)
    assert set(model.state_dict()) == before and not holder.state_dict()


@pytest.mark.parametrize('name', ['MethodInputsRecorder', 'MethodOutputsRecorder', 'AttributeRecorder'])
def test_mmrazors_distiller_finds_them(mmps_scope, name):
    recorder = MMRAZOR.build(dict(type=name, source='scale'))
    assert type(recorder).__module__ == 'mmps.distillation.recorders'


def test_standardised_maps_have_the_same_size_for_any_teacher(build_detector):
    detector = build_detector('fpn').eval()
    recorder = recording(partial(FeatureMapsRecorder, standardised=True), 'extract_feat', detector)
    with recorder:
        detector.extract_feat(torch.randn(2, 3, 64, 96))
    maps = recorder.get_record_data(data_idx=8)
    assert maps.shape == (2, 16, 8, 12)
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(16), atol=1e-5, rtol=0)
    assert (maps.var((0, 2, 3)) > 0.9).all() and (maps.var((0, 2, 3)) < 1.01).all()
