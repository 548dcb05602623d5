"""A checkpoint that does not fit is refused. The message is one line and names the first difference."""

import pytest
import torch
from torch import nn

from mmps.fileio.checkpoint import load_exactly


@pytest.fixture
def model(build_detector):
    return build_detector()


def saved(path, state_dict):
    torch.save({'state_dict': state_dict}, path)
    return str(path)


def test_weights_are_loaded(tmp_path, model, build_detector):
    other = build_detector(seed=1)
    load_exactly(model, saved(tmp_path / 'a.pth', other.state_dict()), 'checkpoint')
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())


def test_bare_state_dict_is_a_checkpoint_too(tmp_path):
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save(other.state_dict(), tmp_path / 'a.pth')
    load_exactly(model, str(tmp_path / 'a.pth'), 'checkpoint')
    assert torch.equal(model.weight, other.weight)


def test_tensors_of_a_distiller_are_ignored(tmp_path, model):
    extra = {**model.state_dict(), 'distiller.connectors.neck0.weight': torch.zeros(3)}
    load_exactly(model, saved(tmp_path / 'a.pth', extra), 'checkpoint')


def test_an_empty_lookup_table_takes_the_checkpoints_size(tmp_path, model, build_detector):
    opened = build_detector(num_identities=0)
    load_exactly(opened, saved(tmp_path / 'a.pth', model.state_dict()), 'checkpoint')
    assert opened.memory.num_identities == model.memory.num_identities


def test_a_missing_file_is_named(tmp_path, model):
    with pytest.raises(FileNotFoundError, match=f'teacher_ckpt.*{tmp_path}/nothing.pth'):
        load_exactly(model, str(tmp_path / 'nothing.pth'), 'teacher_ckpt')


@pytest.mark.parametrize(
    'change',
    [
        lambda state: state.pop('rpn_head.rpn_conv.weight'),
        lambda state: state.update({'rpn_head.rpn_conv.weight': torch.zeros(1)}),
        lambda state: state.update({'rpn_head.extra': torch.zeros(1)}),
    ],
    ids=['missing', 'of another shape', 'too many'],
)
def test_a_tensor_that_differs_is_named_in_one_line(tmp_path, model, change):
    state = dict(model.state_dict())
    change(state)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r'checkpoint: .*a\.pth.*rpn_head\.') as error:
        load_exactly(model, saved(tmp_path / 'a.pth', state), 'checkpoint')
    assert '\n' not in str(error.value)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_another_number_of_identities_is_refused(tmp_path, model, build_detector):
    with pytest.raises(ValueError, match=r'memory\.lut: \(6, 16\).*\(4, 16\)'):
        load_exactly(model, saved(tmp_path / 'a.pth', build_detector(num_identities=4).state_dict()), 'checkpoint')
