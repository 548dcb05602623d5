"""No data file runs code: not a pickle, an array of objects, a MATLAB function, YAML with a Python tag or a checkpoint.

Configs are Python, and run: they are code by design. A malicious file of each kind would leave a mark; it never does, and the
answer is one line that names the file.
"""

import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from scipy.io import savemat
from torch import nn

from mmps.benchmark.matrix_file import read_matrix
from mmps.datasets import CUHKSYSU, PRW
from mmps.distillation.lookup_table import load_lookup_table
from mmps.distillation.teachers.cache_files import TeacherCache
from mmps.evaluation import SearchProtocol, load_predictions
from mmps.evaluation.seqnet_cache import load_seqnet_cache
from mmps.fileio.checkpoint import load_exactly
from mmps.models.released_weights import load_released

ROOT = Path(__file__).parents[2]
PROTOCOL = SearchProtocol.from_identities(
    ['a', 'b'],
    np.zeros(2, np.int64),
    [np.array([[0, 0, 9, 9.0]], 'f4')] * 2,
    [np.array([1])] * 2,
    ['a'],
    np.array([[0, 0, 9, 9.0]], 'f4'),
    np.array([1]),
)


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """What a file that runs code would make; at the end it is not there. First the payload is seen to work."""
    mark = tmp_path / 'mark'
    pickle.loads(pickle.dumps(Payload(mark)))
    mark.rmdir()
    yield mark
    assert not mark.exists()


@pytest.fixture(scope='module')
def small_datasets(load_script):
    return load_script(ROOT / 'tests/datasets/small_datasets.py')


def refused(read, path: Path) -> str:
    with pytest.raises((OSError, ValueError)) as error:
        read()
    message = str(error.value)
    assert path.name in message and '\n' not in message
    return message


def objects(mark: Path) -> np.ndarray:
    array = np.empty(1, dtype=object)
    array[0] = Payload(mark)
    return array


READ_ARRAYS = {'predictions': load_predictions, 'lookup table': load_lookup_table}


@pytest.mark.parametrize('read', READ_ARRAYS.values(), ids=READ_ARRAYS)
@pytest.mark.parametrize('form', ['pickle', 'npy', 'npz', 'torch'])
def test_files_of_arrays(tmp_path, mark, read, form):
    path = tmp_path / 'file.npz'
    with path.open('wb') as file:
        if form == 'pickle':
            pickle.dump(Payload(mark), file)
        elif form == 'torch':
            torch.save(Payload(mark), file)
        elif form == 'npy':
            np.save(file, objects(mark), allow_pickle=True)
        else:
            np.savez(file, format=objects(mark), header=objects(mark), images=objects(mark), table=objects(mark))
    refused(lambda: read(path), path)


@pytest.mark.parametrize('name', ['image_ids', 'embeddings', 'lut', 'done'])
def test_a_teacher_caches_arrays(tmp_path, mark, name, load_script):
    fuzz = load_script(ROOT / 'tests/reliability/test_fuzz.py')
    path = fuzz.teacher_cache(tmp_path / 'cache').with_name(f'{name}.npy')
    TeacherCache(path.parent)
    np.save(path, objects(mark), allow_pickle=True)
    refused(lambda: TeacherCache(path.parent), path)


@pytest.mark.parametrize('form', ['new', 'old', 'pickle'])
def test_seqnets_cache_which_is_a_pickle(tmp_path, mark, form):
    path = tmp_path / 'eval_cache.pth'
    content = {'gallery_dets': [], 'x': Payload(mark)}
    if form == 'pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'new')
    assert 'nothing was run' in refused(lambda: load_seqnet_cache(path, PROTOCOL), path)


def test_a_pickle_cannot_change_what_reads_it(tmp_path):
    path = tmp_path / 'eval_cache.pth'
    path.write_bytes(b'\x80\x02cnumpy.core.multiarray\nscalar\nN}X\x0c\x00\x00\x00__defaults__Ns\x86b.')
    assert 'changes what it names' in refused(lambda: load_seqnet_cache(path, PROTOCOL), path)


@pytest.mark.parametrize(
    'tag',
    [
        '!!python/object/apply:os.mkdir [{mark}]',
        '!!python/object/new:os.mkdir [[{mark}]]',
        '!!python/name:os.mkdir',
        '!!python/module:os',
        '!mine x',
    ],
)
def test_a_matrix(tmp_path, mark, tag):
    yaml.unsafe_load(f'!!python/object/apply:os.mkdir [{mark}]')
    mark.rmdir()
    path = tmp_path / 'matrix.yml'
    path.write_text(f'data: {tag.format(mark=mark)}\nstudents: {{}}\nmethods: {{}}\n')
    refused(lambda: read_matrix(path, tmp_path), path)


@pytest.mark.parametrize('content', [np.array([(1,)], dtype=[('function_handle', 'O')]), 'pickle', 'object'])
def test_matlab_files(tmp_path, mark, content, small_datasets):
    root = small_datasets.write_prw(tmp_path / 'prw')
    path = root / 'annotations/c1s1_000001.jpg.mat'
    if isinstance(content, np.ndarray):
        savemat(path, {'box_new': content})
    elif content == 'pickle':
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        savemat(path, {'box_new': np.ones((2, 5))})
        file = bytearray(path.read_bytes())
        for kind in (3, 16, 17):  # the class of the matrix: object, function, opaque
            file[128 + 16] = kind
            path.write_bytes(file)
            refused(lambda: PRW(data_root=str(root)), path)
    refused(lambda: PRW(data_root=str(root)), path)


def test_the_annotation_cache(tmp_path, mark, monkeypatch, small_datasets):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    root = small_datasets.write_cuhk_sysu(tmp_path / 'cuhk')
    CUHKSYSU(data_root=str(root))
    [path] = (tmp_path / 'cache/annotations').iterdir()
    for write in (lambda: np.savez(path, boxes=objects(mark)), lambda: path.write_bytes(pickle.dumps(Payload(mark)))):
        write()
        assert CUHKSYSU(data_root=str(root)).metainfo['num_identities'] == 2  # read again from the data set's own files


def resume_info(payload) -> dict:
    return {'meta': {'epoch': 1, 'iter': 1}, 'state_dict': nn.Linear(1, 1).state_dict(), 'optimizer': payload}


WHERE = {
    'alone': lambda payload: payload,
    'state_dict': lambda payload: {'state_dict': {'weight': torch.zeros(1, 1), 'bias': payload}},
    'meta': lambda payload: {'state_dict': nn.Linear(1, 1).state_dict(), 'meta': {'cfg': payload}},
    'optimizer': resume_info,
    'message_hub': lambda payload: {'state_dict': nn.Linear(1, 1).state_dict(), 'message_hub': {'log_scalars': payload}},
}


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'before 1.6'])
@pytest.mark.parametrize('where', WHERE.values(), ids=WHERE)
def test_a_checkpoint_however_it_is_loaded(tmp_path, mark, where, new):
    path = tmp_path / 'a.pth'
    torch.save(where(Payload(mark)), path, _use_new_zipfile_serialization=new)
    assert 'nothing was run' in refused(lambda: load_exactly(nn.Linear(1, 1), str(path), 'teacher_ckpt'), path)
    assert 'nothing was run' in refused(lambda: load_released(str(path)), path)
    # what load_from, resume, init_cfg and MMRazor's teacher_ckpt come to
    assert 'mkdir' in refused(lambda: CheckpointLoader.load_checkpoint(str(path), 'cpu', logger='silent'), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)  # a default that torch < 2.6 does not have


def test_a_checkpoint_in_torchs_oldest_format(tmp_path, mark):
    path, member = tmp_path / 'a.pth', tmp_path / 'pickle'
    member.write_bytes(pickle.dumps(Payload(mark)))
    with tarfile.open(path, 'w') as archive:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            archive.add(member, name)
    refused(lambda: load_exactly(nn.Linear(1, 1), str(path), 'checkpoint'), path)
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        torch.load(path)


class Reduced:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


ARRAY = np.empty(0).__reduce__()[0]


@pytest.mark.parametrize(
    'value',
    [
        # bytes that an array would take for the places of objects
        Reduced(
            ARRAY,
            (np.ndarray, (0,), b'b'),
            (
                1,
                (1,),
                Reduced(np.dtype, ('f8', False, True), (3, '<', None, ('a',), {'a': (np.dtype('f8'), 0)}, 8, 8, 63)),
                False,
                b'AAAAAAAA',
            ),
        ),
        Reduced(np.dtype, ('O8', False, True)),
        Reduced(np.dtype, ('V8', False, True)),
        Reduced(getattr, (HistoryBuffer, '__init__')),
    ],
    ids=['fields', 'objects', 'void', 'attribute'],
)
def test_what_mmengines_checkpoints_may_hold_is_no_way_to_more(tmp_path, value):
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': nn.Linear(1, 1).state_dict(), 'message_hub': value}, path)
    try:
        found = CheckpointLoader.load_checkpoint(str(path), 'cpu', logger='silent')['message_hub']
    except ValueError as error:
        assert path.name in str(error) and '\n' not in str(error)
    else:
        assert isinstance(found, np.ndarray) and found.dtype == np.dtype('f8') and found.dtype.fields is None
    assert np.dtype('f8').fields is None


CALLS = {
    'test.py': [
        'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py',
        'FILE',
        '--cfg-options',
        'test_dataloader.dataset.data_root=DATA',
    ],
    'model_converters/seqnet2mmps.py': ['FILE', 'OUT'],
    'model_converters/alignps2mmps.py': ['FILE', 'OUT'],
    'train.py': [
        'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py',
        '--resume',
        'FILE',
        '--cfg-options',
        *(f'{loader}_dataloader.dataset.data_root=DATA' for loader in ('train', 'val', 'test')),
    ],
}


@pytest.mark.soak
@pytest.mark.parametrize('tool', CALLS)
def test_a_malicious_checkpoint_ends_a_tool_with_one_line(tmp_path, mark, environment, tool, report):
    path = tmp_path / 'a.pth'
    torch.save(resume_info(Payload(mark)), path)
    data = tmp_path / 'data'
    from mmps.synthetic import generate

    generate(data, 'cuhk-sysu', 'tiny', progress=False, style='classic')
    names = {'FILE': str(path), 'OUT': str(tmp_path / 'out.pth')}
    arguments = [
        names.get(each, each.replace('DATA', str(data)).replace('configs/', f'{ROOT}/configs/')) for each in CALLS[tool]
    ]
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / tool, *arguments],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
        timeout=300,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith('error: ') and 'a.pth' in last and 'nothing was run' in last
    assert 'Traceback' not in done.stderr and not (tmp_path / 'out.pth').exists()
    report(tool=tool)
