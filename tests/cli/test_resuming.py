"""--resume checks its checkpoint before anything is written."""

import pytest
import torch

from mmps.cli.resuming import checkpoint_to_resume

STATE = dict(meta=dict(epoch=1, iter=6), message_hub={}, optimizer={}, state_dict=dict(weight=torch.ones(3000)))


@pytest.fixture
def latest(tmp_path):
    """The checkpoint that last_checkpoint names."""
    path = tmp_path / 'epoch_1.pth'
    torch.save(STATE, path)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    return path


def test_the_latest_one_or_the_one_that_is_asked_for(latest, tmp_path):
    other = latest.rename(tmp_path / 'epoch_7.pth')
    torch.save(STATE, latest)
    assert checkpoint_to_resume('auto', str(tmp_path)) == str(latest)
    assert checkpoint_to_resume(str(other), str(tmp_path)) == str(other)


def test_there_is_none_yet(tmp_path):
    assert checkpoint_to_resume('auto', str(tmp_path)) is None


@pytest.mark.parametrize('note', ['epoch_2.pth', ''])
def test_a_latest_one_that_is_gone_is_named_with_the_file_that_names_it(note, latest, tmp_path):
    (tmp_path / 'last_checkpoint').write_text(note)
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/last_checkpoint names .* not there: '{note}'"):
        checkpoint_to_resume('auto', str(tmp_path))


def test_a_missing_one_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no file nothing\.pth'):
        checkpoint_to_resume('nothing.pth', str(tmp_path))


@pytest.mark.parametrize('part', [0, 0.1, 0.5, 0.99])
def test_a_part_of_one_is_refused_by_name(part, latest, tmp_path):
    whole = latest.read_bytes()
    latest.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=f'{latest} is no checkpoint that can be loaded'):
        checkpoint_to_resume('auto', str(tmp_path))


def test_weights_alone_are_no_state_to_resume(latest, tmp_path):
    torch.save({name: STATE[name] for name in ('meta', 'state_dict')}, latest)  # as the best one is saved
    with pytest.raises(ValueError, match=f'{latest} has weights at most'):
        checkpoint_to_resume('auto', str(tmp_path))
