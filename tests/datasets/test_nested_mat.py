import shutil

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csr_matrix
from small_datasets import CUHK_QUERIES, protocol_rows, struct, write_protocol

from mmps.fileio import nested_mat
from mmps.fileio.annotations import AnnotationError, read_mat
from mmps.synthetic import mat5

BOX = (5, 6, 20, 50)
QUERIES = [
    *CUHK_QUERIES,
    (('t2.jpg', BOX), []),
    (('a scene of a longer name.jpg', BOX), [('t3.jpg', None), ('t1.jpg', (5, 5, 20, 50)), ('t3.jpg', BOX)]),
]


@pytest.fixture
def streamed_only(monkeypatch):
    monkeypatch.setattr(nested_mat, '_load', lambda path, *_: pytest.fail(f'{path.name} was left to loadmat'))


@pytest.fixture
def path(tmp_path):
    write_protocol(tmp_path / 'TestG100.mat', 'TestG100', QUERIES, hard=[1])
    return tmp_path / 'TestG100.mat'


def assert_same(ours, theirs):
    assert type(ours) is type(theirs) and ours.dtype == theirs.dtype and ours.shape == theirs.shape
    if ours.dtype.names is None:
        np.testing.assert_array_equal(ours, theirs)
        return
    for name in ours.dtype.names:
        for our_value, their_value in zip(ours[name].ravel(), theirs[name].ravel(), strict=True):
            assert_same(our_value, their_value)


def assert_reads_as_loadmat(path, step=1):
    nested, whole = nested_mat.read_nested(path, path.stem, 'Gallery'), loadmat(path)[path.stem].ravel()
    assert len(nested.rows) == len(whole)
    for row in range(0, len(whole), step):
        assert_same(nested.rows[row]['Query'], whole[row]['Query'])
        places = nested.indices[nested.offsets[row] : nested.offsets[row + 1]]
        assert_same(nested.records[places], whole[row]['Gallery'].ravel())
    return nested


@pytest.mark.parametrize('compressed', [True, False])
def test_streamed_rows_equal_those_of_loadmat(tmp_path, streamed_only, compressed):
    write_protocol(tmp_path / 'TestG50.mat', 'TestG50', QUERIES, [1], compressed)
    assert_reads_as_loadmat(tmp_path / 'TestG50.mat')


def test_streamed_rows_of_the_published_file_equal_those_of_loadmat(real_data, streamed_only):
    nested = assert_reads_as_loadmat(real_data('cuhk-sysu/TestG100.mat'), step=10)
    assert len(nested.indices) == 290000 and len(nested.records) < 15000


def test_rows_longer_than_an_inflated_chunk_equal_those_of_loadmat(tmp_path, streamed_only, monkeypatch):
    monkeypatch.setattr(nested_mat, 'CHUNK_BYTES', 64)
    rng, fields = np.random.default_rng(0), ('imname', 'idlocate', 'ishard')
    scene = [mat5.record(mat5.text(f's{i}.jpg'), mat5.empty(), mat5.empty()) for i in range(300)]
    rows = [
        [
            *mat5.struct(fields, [mat5.record(mat5.text('s1.jpg'), mat5.numbers([BOX]), mat5.numbers([[0]]))]),
            *mat5.struct(fields, [scene[i] for i in rng.permutation(300)]),
        ]
        for _ in range(5)
    ]
    mat5.save(tmp_path / 'TestG4000.mat', mat5.struct(('Query', 'Gallery'), rows, 'TestG4000'))
    nested = assert_reads_as_loadmat(tmp_path / 'TestG4000.mat')
    assert len(nested.indices) == 1500


def test_records_of_equal_bytes_are_decoded_once(tmp_path, streamed_only):
    write_protocol(tmp_path / 'TestG50.mat', 'TestG50', [(('t1.jpg', BOX), [('t2.jpg', None), ('t2.jpg', BOX)] * 20)] * 30)
    nested = nested_mat.read_nested(tmp_path / 'TestG50.mat', 'TestG50', 'Gallery')
    assert len(nested.records) == 2 and nested.indices.tolist() == [0, 1] * 600


def without_rows(path):
    savemat(path, {path.stem: protocol_rows(QUERIES)[:, :0]})


def of_unlike_records(path):
    rows = protocol_rows(QUERIES)
    rows['Gallery'][0, 1] = struct([(np.array([BOX]), 't1.jpg', 0)], 'idlocate', 'imname', 'ishard')
    savemat(path, {path.stem: rows})


def test_a_file_that_cannot_be_streamed_is_read_by_loadmat(tmp_path, monkeypatch):
    path, left, load = tmp_path / 'TestG50.mat', [], nested_mat._load
    savemat(path, {'first': np.eye(3), 'TestG50': protocol_rows(QUERIES)}, do_compression=True)
    monkeypatch.setattr(nested_mat, '_load', lambda *arguments: left.append(arguments) or load(*arguments))
    assert_reads_as_loadmat(path)
    assert len(left) == 1


@pytest.mark.parametrize('write', [without_rows, of_unlike_records])
def test_rows_that_are_absent_or_of_different_fields_are_an_error(tmp_path, write):
    write(tmp_path / 'TestG50.mat')
    with pytest.raises((TypeError, ValueError)):
        nested_mat.read_nested(tmp_path / 'TestG50.mat', 'TestG50', 'Gallery')


def test_a_variable_that_is_not_read_is_not_checked(tmp_path):
    savemat(tmp_path / 'a.mat', dict(other=csr_matrix(np.eye(3)), pool=np.arange(3)))
    assert read_mat(tmp_path / 'a.mat', 'pool').ravel().tolist() == [0, 1, 2]


def test_a_file_of_matlab_7_3_is_refused(tmp_path):
    (tmp_path / 'a.mat').write_bytes(b'MATLAB 7.3 MAT-file'.ljust(124) + b'\0\2IM' + b'HDF' * 99)
    with pytest.raises(AnnotationError, match=r'a\.mat.*version 7\.3'):
        read_mat(tmp_path / 'a.mat', 'pool')


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: b'',
        lambda content: content[:64],
        lambda content: content[:128],
        lambda content: content[:132],
        lambda content: content[:300],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:400] + bytes(64) + content[464:],
        lambda content: content[:-4] + bytes(4),
        lambda content: b'TestG100 ' * 100,
        lambda content: content[:128] + b'\xff' * 500,
    ],
)
def test_a_damaged_file_is_named_in_one_line(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AnnotationError, match=r'^[^\n]*TestG100.mat: expected a MATLAB file [^\n]*damaged or truncated'):
        nested_mat.read_nested(path, 'TestG100', 'Gallery')


def test_a_truncated_published_file_is_named_without_reading_it_twice(real_data, tmp_path, streamed_only):
    path = tmp_path / 'TestG100.mat'
    shutil.copyfile(real_data('cuhk-sysu/TestG100.mat'), path)
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(AnnotationError, match='damaged or truncated'):
        nested_mat.read_nested(path, 'TestG100', 'Gallery')


def test_a_missing_key_is_named(path):
    with pytest.raises(AnnotationError, match=r'TestG100\.mat: expected the key TestG50, not found'):
        nested_mat.read_nested(path, 'TestG50', 'Gallery')


@pytest.mark.parametrize(('delay', 'shown'), [(0, True), (60, False)])
def test_only_a_slow_file_shows_a_progress_bar(path, monkeypatch, capsys, delay, shown):
    monkeypatch.setattr(nested_mat, 'DELAY', delay)
    nested_mat.read_nested(path, 'TestG100', 'Gallery')
    output = capsys.readouterr()
    assert ('TestG100.mat' in output.err) is shown and output.out == ''
