"""Tests that the repairs work and allow nothing more than needed."""

import pickle
import re
import zipfile
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub

import mmps  # noqa: F401


class Unlisted:
    """A class that MMEngine's checkpoints do not contain."""


def test_mmrazors_models_import():
    from mmrazor.models import ConfigurableDistiller, PKDLoss, SingleTeacherDistill

    assert all(isinstance(each, type) for each in (ConfigurableDistiller, PKDLoss, SingleTeacherDistill))


def test_mmengines_checkpoints_load_weights_only(tmp_path):
    hub = MessageHub('checkpoint')
    for step in range(3):
        hub.update_scalar('train/loss', torch.tensor(step / 2))
        hub.update_scalar('train/time', np.float64(step))
        hub.update_scalar('train/data_time', step)
    hub.update_info('iter', 3)
    hub.update_info('last_ckpt', 'epoch_1.pth')
    hub.update_info('best_score', np.float64(0.5))
    torch.save(
        {'meta': {'epoch': 1, 'iter': 3}, 'state_dict': {'weight': torch.ones(2)}, 'message_hub': hub.state_dict()},
        tmp_path / 'a.pth',
    )
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    restored = MessageHub('restored')
    restored.load_state_dict(loaded['message_hub'])
    assert restored.get_info('iter') == 3 and restored.get_info('best_score') == 0.5
    for name in ('train/loss', 'train/time', 'train/data_time'):
        for ours, theirs in zip(restored.get_scalar(name).data, hub.get_scalar(name).data, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('module', [b'numpy.core.multiarray', b'numpy._core.multiarray'])
def test_a_log_history_of_another_numpy_loads(tmp_path, module):
    torch.save({'history': HistoryBuffer([1, 2], [1, 1])}, tmp_path / 'a.pth')
    with zipfile.ZipFile(tmp_path / 'a.pth') as one, zipfile.ZipFile(tmp_path / 'b.pth', 'w') as other:
        for name in one.namelist():
            other.writestr(name, re.sub(rb'numpy\._?core\.multiarray', module, one.read(name)))
    assert torch.load(tmp_path / 'b.pth', weights_only=True)['history'].data[0].tolist() == [1, 2]


def test_other_classes_in_a_checkpoint_are_still_refused(tmp_path):
    torch.save({'state_dict': {}, 'extra': Unlisted()}, tmp_path / 'a.pth')
    with pytest.raises(pickle.UnpicklingError, match='Unlisted'):
        torch.load(tmp_path / 'a.pth')


class Reaching:
    """Unpickles to an attribute of an allowed class that no checkpoint needs."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__subclasses__')


def test_a_checkpoint_reaches_no_attribute_but_a_log_historys_statistics(tmp_path):
    torch.save({'state_dict': {}, 'extra': Reaching()}, tmp_path / 'a.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'a.pth')


def test_a_config_is_formatted_once_and_as_before():
    config = Config(dict(model=dict(type='OIM', dims=[1, 2], scales={'a': 0.5})))
    formatted = config.pretty_text
    with mock.patch('yapf.yapflib.yapf_api.FormatTree', side_effect=AssertionError('formatted again')):
        assert config.pretty_text == formatted
        config.model.dims.append(3)
        with pytest.raises(SyntaxError):  # mmengine's word for any error of yapf
            config.pretty_text  # noqa: B018
    assert Config.fromstring(config.pretty_text, '.py').model.dims == [1, 2, 3]
