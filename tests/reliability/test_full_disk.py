"""A disk that fills up ends a training in one line; what was saved before is whole, and the training can go on from it."""

import subprocess
from pathlib import Path

import pytest
import torch

from mmps.synthetic import generate

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'
MEGABYTE = 2**20

# train.py, whose files may not become larger than sys.argv[1] bytes
LIMITED = f"""
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv[0] = '{ROOT}/tools/train.py'
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'tiny'
    generate(folder, 'cuhk-sysu', 'tiny', progress=False, style='classic')
    return folder


def options(data, epochs):
    return [
        '--cfg-options',
        f'train_dataloader.dataset.data_root={data}',
        f'val_dataloader.dataset.data_root={data}',
        'train_dataloader.dataset.pipeline.2.scale=(224,128)',
        f'train_cfg.max_epochs={epochs}',
        'train_cfg.val_interval=100',
        'train_cfg.val_begin=100',
    ]


def assert_ended_in_one_line(done, folder, saved, words):
    """It failed in epoch ``saved`` + 1, and left the checkpoints of those before, whole, and nothing of the one that failed."""
    errors = [line for line in done.stderr.splitlines() if 'rror' in line]
    assert done.returncode == 1 and errors == [f'error: {folder}/epoch_{saved + 1}.pth: {words}'], done.stderr[-3000:]
    assert 'Traceback' not in done.stdout + done.stderr
    assert {path.name for path in folder.glob('*.pth*')} <= {f'epoch_{epoch}.pth' for epoch in range(1, saved + 1)}
    assert not list(folder.glob('*.tmp'))
    if saved:
        assert Path((folder / 'last_checkpoint').read_text()).name == f'epoch_{saved}.pth'
        assert torch.load(folder / f'epoch_{saved}.pth', map_location='cpu')['meta']['epoch'] == saved


@pytest.mark.soak
def test_a_checkpoint_that_cannot_be_written_costs_nothing_that_was_saved(server, data, tmp_path):
    (tmp_path / 'limited.py').write_text(LIMITED)
    work, args = tmp_path / 'work', [STUDENT, '--work-dir', tmp_path / 'work', '--resume']
    done = server('train.py', *args, *options(data, 1))
    assert done.returncode == 0 and 'there is no checkpoint in' in done.stdout, done.stderr[-3000:]
    done = server(tmp_path / 'limited.py', MEGABYTE, *args, *options(data, 2))
    assert_ended_in_one_line(done, work, saved=1, words='File too large')
    done = server('train.py', *args, *options(data, 2))
    assert done.returncode == 0 and 'resumed epoch: 1' in done.stdout, done.stderr[-3000:]
    assert Path((work / 'last_checkpoint').read_text()).name == 'epoch_2.pth'


@pytest.fixture
def disk(tmp_path):
    """disk(bytes) -> the folder that a file system of this size is mounted on, which can be made larger."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={MEGABYTE}', 'tmpfs', folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f'no file system can be mounted here: {mounted.stderr.strip()}')

    def resize(size):
        subprocess.run(['mount', '-o', f'remount,size={size}', folder], check=True)
        return folder

    yield resize
    subprocess.run(['umount', folder], check=True)


@pytest.mark.soak
@pytest.mark.parametrize('checkpoints', [0.5, 1.5, 2.5])
def test_a_full_disk_ends_the_training_and_a_larger_one_lets_it_go_on(checkpoints, server, data, disk, tmp_path, report):
    """A disk on which so many checkpoints fit. Two are kept: with less than three, the third only fits in place of one."""
    assert server('train.py', STUDENT, '--work-dir', tmp_path / 'whole', *options(data, 3)).returncode == 0
    checkpoint = (tmp_path / 'whole/epoch_3.pth').stat().st_size
    folder = disk(int(checkpoints * checkpoint) + MEGABYTE // 4) / 'work'
    args = [STUDENT, '--work-dir', folder, '--resume', *options(data, 3)]
    assert_ended_in_one_line(server('train.py', *args), folder, saved=int(checkpoints), words='No space left on device')
    disk(4 * checkpoint + MEGABYTE)
    done = server('train.py', *args)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(path / 'epoch_3.pth', map_location='cpu')['state_dict'] for path in (folder, tmp_path / 'whole'))
    assert all(torch.equal(one[name], other[name]) for name in one | other)
    report(checkpoint_bytes=checkpoint, fit=checkpoints, saved=int(checkpoints), resumed_bit_for_bit=True)
