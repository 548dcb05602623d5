import errno
import os

import pytest

from mmps.fileio import atomic
from mmps.fileio.atomic import remove_unfinished, write_atomic


@pytest.mark.parametrize('failing', ['write', 'fsync', 'replace'])
def test_a_failed_write_names_the_file_and_keeps_its_old_content(failing, tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'whole')

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')

    if failing == 'write':
        monkeypatch.setattr(atomic, 'open', fail, raising=False)
    else:
        monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match='No space left on device') as error, write_atomic(path) as file:
        file.write(b'another')
    monkeypatch.undo()
    assert error.value.filename == str(path) and error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b'whole' and os.listdir(tmp_path) == ['epoch_1.pth']


def test_a_block_that_raises_keeps_the_old_content(tmp_path):
    path = tmp_path / 'scores.json'
    path.write_text('whole')
    with pytest.raises(ValueError, match='no scores'), write_atomic(path, 'w') as file:
        file.write('half')
        raise ValueError('no scores')
    assert path.read_text() == 'whole' and os.listdir(tmp_path) == ['scores.json']


def test_two_writers_of_one_file_do_not_mix_their_content(tmp_path):
    path = tmp_path / 'new' / 'scores.json'
    with write_atomic(path, 'w') as first, write_atomic(path, 'w') as second:
        first.write('first')
        second.write('second')
    assert path.read_text() == 'first' and os.listdir(path.parent) == ['scores.json']


def test_temporary_files_of_a_killed_writer_are_removed_by_pattern(tmp_path):
    for name in ('epoch_1.pth', 'epoch_2.pth.0a1b2c3d.tmp', 'mine.tmp'):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, '*.pth')
    assert {path.name for path in tmp_path.iterdir()} == {'epoch_1.pth', 'mine.tmp'}
