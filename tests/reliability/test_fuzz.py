"""Every file that comes from outside, with any content: what is read is what is in it, or one line says which file
cannot be read.

Not a crash, not another exception, not a hang, not the memory filled by a small file, never a silent wrong answer.
"""

import configparser
import contextlib
import copy
import dataclasses
import io
import json
import math
import pickle
import random
import resource
import signal
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import loadmat, savemat

from mmps.datasets import cuhk_sysu, mot, prw
from mmps.distillation.lookup_table import Header as TableHeader
from mmps.distillation.lookup_table import load_lookup_table, save_lookup_table
from mmps.distillation.teachers.cache_files import FORMAT, Header, TeacherCache, create_cache
from mmps.evaluation import Predictions, SearchProtocol, load_predictions, save_predictions
from mmps.evaluation.seqnet_cache import load_seqnet_cache
from mmps.fileio import nested_mat
from mmps.fileio.annotation_cache import cache_folder, cached
from mmps.fileio.annotations import read_mat
from mmps.fileio.checkpoint import read_weights

SECONDS = 20  # one file may take
ROOM = 4 << 30  # bytes of address space beyond what the process has
GROWTH = 1 << 20  # KiB that the process may grow by while it reads small files
REFUSED = object()


class Hang(BaseException):
    """Not an exception that a parser might take for a damaged file."""


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    def stop(*_):
        raise Hang(f'more than {SECONDS} s')

    handler = signal.signal(signal.SIGALRM, stop)
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
    signal.signal(signal.SIGALRM, handler)


@contextlib.contextmanager
def limits():
    """A file that hangs, or fills the memory, fails its test."""
    old, before = resource.getrlimit(resource.RLIMIT_AS), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, old[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, old)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


def answer(read, path: Path):
    """What a parser reads, or REFUSED where it says in one line that it cannot."""
    try:
        with limits():
            return read(path)
    except (OSError, ValueError) as error:
        message = str(error)
        cache = (path.parent / 'header.json').exists()  # where the header says another size, the arrays are those that differ
        assert '\n' not in message and str(path.parent if cache else path) in message, message
        return REFUSED


def fuzzed(*strategies, short: int = 40, long: int = 1000, examples=()):
    """Runs a check(folder, *drawn) on the same few draws each time; under soak on many others."""

    def decorate(check):
        @pytest.mark.parametrize(
            'count', [pytest.param(short, id='short'), pytest.param(long, id='long', marks=pytest.mark.soak)]
        )
        def test(count, tmp_path, report):
            # An inner function would make each draw a new failure, so the folder is bound here.
            def run(drawn):
                check(tmp_path, *drawn)

            for given_ in examples:
                run = example(given_)(run)
            number = random.SystemRandom().randrange(2**32)
            run = settings(
                max_examples=count,
                derandomize=count == short,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )(given(st.tuples(*strategies))(run))
            if count != short:
                print(f'seed {number}')
                run = seed(number)(run)
            run()
            if count != short:
                report(files=count, seed=number, peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


def same(a, b) -> bool:
    """Values alike: types, dtypes, shapes and all, NaN included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and (
                all(map(same, a.ravel(), b.ravel()))
                if a.dtype.hasobject or a.dtype.fields
                else np.array_equal(a, b, equal_nan=a.dtype.kind == 'f')
            )
        )
    if isinstance(a, np.void):
        return a.dtype == b.dtype and all(same(a[name], b[name]) for name in a.dtype.names)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and same(vars(a), vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


# What is valid of each kind, and how it is read again.

NAMES = st.text(st.characters(exclude_categories=['Cs', 'Cc']), min_size=1, max_size=6)
NUMBERS = st.floats(-1e6, 1e6, width=32)
ODD_TEXT = st.sampled_from(['nan', 'inf', '-inf', '1e400', '', ' ', 'x', '1.5', '-1', '0x10', '1_0', '٣', '²', '9' * 30, '-0'])
PLAIN = st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**70) | st.floats() | st.text(max_size=5) | ODD_TEXT
ODD = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6
)
DTYPES = st.sampled_from(['f4', 'f8', '>f8', 'f2', 'i8', 'u8', 'i1', '?', 'c8', 'U3', 'S3', 'M8[s]', 'f8,i4'])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))


def cell(values):
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


def struct(rows, *fields):
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    array[0] = [tuple(row) for row in rows]
    return array


# MOTChallenge


def tracks(path: Path, rows) -> Path:
    path.write_text(''.join(','.join(row) + '\n' for row in rows))
    return path


def read_tracks_simply(path: Path):
    """As the format is described, cell by cell."""
    rows = [[float(each) for each in line.split(',')] for line in path.read_text().splitlines() if line.strip()]
    plain = [row[7] == -1 or len(row) == 10 for row in rows]
    return (
        np.array([row[:7] for row in rows]),
        np.array([1 if one else row[7] for one, row in zip(plain, rows, strict=True)]),
        np.array([1 if one else row[8] for one, row in zip(plain, rows, strict=True)]),
    )


TRACK = st.tuples(
    st.integers(1, 99).map(str),
    st.integers(1, 99).map(str),
    *[NUMBERS.map(repr)] * 4,
    st.sampled_from('01'),
    st.sampled_from(['1', '7', '-1']),
    NUMBERS.map(repr),
)


@fuzzed(
    st.lists(TRACK.map(list), min_size=1, max_size=4),
    st.none() | st.tuples(st.integers(0, 3), st.integers(0, 9), ODD_TEXT),
    examples=[([['1', '1.5', *'1111111']], None), ([['1', '1e300', *'1111111']], None)],
)
def test_tracks_are_those_in_the_file(folder, rows, change):
    rows = copy.deepcopy(rows)
    if change:
        row = rows[change[0] % len(rows)]
        row[change[1] : change[1] + 1] = [change[2]]
    found = answer(mot._read_tracks, tracks(folder / 'gt.txt', rows))
    assert change or found is not REFUSED or rows[0][1] in ('1.5', '1e300')
    if found is not REFUSED:
        expected = read_tracks_simply(folder / 'gt.txt')
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
        assert all(value.is_integer() and abs(value) < 2**53 for row in found[0] for value in row[:2].tolist())


INFO = {'imDir': 'img1', 'imExt': '.jpg', 'imWidth': '100', 'imHeight': '60'}


@fuzzed(
    st.dictionaries(
        st.sampled_from([*INFO, 'x', 'IMDIR']),
        ODD_TEXT
        | NAMES
        | st.sampled_from(['..', '/', 'a/../b', 'C:', '%(x)s', '*', '[', '**', '\0', '1\n[a]', '640', '=', ';']),
        max_size=3,
    ),
    examples=[({'imExt': '**'},), ({'imWidth': '9' * 30},), ({'imExt': ''},), ({'imDir': 'a\0'},), ({'imDir': 'a%%b'},)],
)
def test_a_sequences_size_is_that_in_the_file(folder, changes):
    path = folder / 'seqinfo.ini'
    path.write_text('[Sequence]\n' + ''.join(f'{key}={value}\n' for key, value in (INFO | changes).items()))
    found = answer(lambda path: mot._read_info(path.parent), path)
    assert changes or found is not REFUSED
    if found is not REFUSED:
        plain = configparser.RawConfigParser()
        plain.read(path)
        assert list(map(str, found)) == [
            str(int(value)) if key[2] in 'WH' else value for key in INFO for value in [plain['Sequence'][key]]
        ]
        assert '..' not in found.image_folder and 0 < found.width < 2**31
        list(path.parent.glob(f'*{found.extension}'))


# PRW

FRAMES = ['c1s1_000001.jpg', 'c2s1_000002.jpg', 'c3s1_é.jpg']
QUERY = st.tuples(st.integers(0, 999).map(str), *[NUMBERS.map(repr)] * 4, st.sampled_from([name[:-4] for name in FRAMES]))


@fuzzed(
    st.lists(QUERY.map(list), max_size=3),
    st.none() | st.tuples(st.integers(0, 2), st.integers(0, 7), ODD_TEXT | NAMES),
    examples=[([['1', *'1111', 'c1s1_000001']], (0, 0, '9' * 30)), ([['1', *'1111', 'c1s1_000001']], (0, 0, '-2'))],
)
def test_queries_of_prw_are_those_in_the_file(folder, rows, change):
    rows, path = copy.deepcopy(rows), folder / 'query_info.txt'
    if change and rows:
        rows[change[0] % len(rows)][change[1] : change[1] + 1] = [change[2]]
    path.write_text(''.join(' '.join(row) + '\n' for row in rows), encoding='utf-8')
    found = answer(lambda path: prw._read_queries(path, FRAMES), path)
    assert change or found is not REFUSED
    if found is not REFUSED:
        lines = [line.split() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
        assert found[0].tolist() == [int(line[0]) for line in lines] and (found[0] >= 0).all()
        assert found[1].tolist() == [[float(each) for each in line[1:5]] for line in lines]
        assert [FRAMES[image] for image in found[2]] == [
            line[5] if line[5].endswith('.jpg') else line[5] + '.jpg' for line in lines
        ]


@fuzzed(
    ARRAYS | hnp.arrays('f8', st.tuples(st.integers(0, 4), st.just(5)), elements=st.integers(-2, 999)),
    st.sampled_from(['box_new', 'anno_file', 'x']),
    examples=[
        (np.zeros((5, 2)), 'box_new'),
        (np.full((1, 5), 1.5), 'box_new'),
        (np.full((1, 5), 1 + 1j), 'box_new'),
        (np.array([[['']]]), 'box_new'),
    ],
)
def test_boxes_of_prw_are_those_in_the_file(folder, rows, key):
    path = folder / 'a.jpg.mat'
    try:
        savemat(path, {key: rows})
    except (TypeError, ValueError):
        return  # MATLAB has no such array
    found = answer(prw._read_boxes, path)
    valid = (
        key != 'x'
        and rows.dtype.kind in 'fiu?'
        and rows.shape[1:] == (5,)
        and np.isfinite(rows).all()
        and all(float(number).is_integer() and abs(number) < 2**53 for number in rows[:, 0].tolist())
    )
    assert not valid or found is not REFUSED
    if found is not REFUSED:
        stored = loadmat(path)[key]
        assert np.array_equal(found, stored.astype(float) if stored.size else np.zeros((0, 5)))


@pytest.mark.parametrize(
    ('at', 'value'),
    [(185, 88), (184, 14), (154, 2), (156, 0), (144, 17)],
    ids=['type of the numbers', 'numbers that are a matrix', 'short shape', 'no shape', 'an object'],
)
def test_a_matlab_file_that_would_crash_scipy_is_refused(tmp_path, at, value):
    path = tmp_path / 'a.jpg.mat'
    savemat(path, {'box_new': np.ones((2, 5))})
    assert len(answer(prw._read_boxes, path)) == 2
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    assert answer(prw._read_boxes, path) is REFUSED


@fuzzed(st.lists(NAMES | ODD_TEXT | st.sampled_from(['../a', '/a', 'a\\b']), min_size=1, max_size=4), ARRAYS | st.none())
def test_frames_of_prw_are_those_in_the_file(folder, names, other):
    path = folder / 'frame_test.mat'
    try:
        savemat(path, {'img_index_test': cell(names) if other is None else other})
    except (TypeError, ValueError):
        return
    found = answer(lambda path: prw._read_frames(path, 'img_index_test'), path)
    if found is not REFUSED and other is None:
        assert found == [name if name.endswith('.jpg') else f'{name}.jpg' for name in names]
        prw.image_sizes(folder, found)


# CUHK-SYSU

BOX = hnp.arrays('u2', (1, 4), elements=st.integers(1, 500))
SCENES = ['a.jpg', 'b.jpg', 'ü.jpg']
ENTRY = st.tuples(st.sampled_from(SCENES), BOX | st.just(np.zeros((1, 0))), st.sampled_from([np.uint8(0), np.uint8(1)]))
PART = st.none() | st.tuples(st.sampled_from(['name', 'box', 'fields', 'none']), ARRAYS | NAMES.map(np.array))


def altered(entry, change):
    what, value = change
    return {
        'name': (value, *entry[1:]),
        'box': (entry[0], value, *entry[2:]),
        'fields': (value,) * len(entry),
        'none': (np.zeros((0, 0)),) * len(entry),
    }[what]


@fuzzed(st.lists(st.tuples(ENTRY, st.lists(ENTRY, min_size=1, max_size=3)), min_size=1, max_size=3), PART, PART, st.booleans())
def test_a_protocol_streamed_is_the_protocol_that_scipy_reads(folder, rows, query, record, compressed):
    path, valid = folder / 'TestG100.mat', query is record is None and all(len(row[0][1][0]) for row in rows)
    fields = ('imname', 'idlocate', 'ishard')
    rows = [(list(row[0]), [list(entry) for entry in row[1]]) for row in rows]
    if query:
        rows[0] = (altered(rows[0][0], query), rows[0][1])
    if record:
        rows[-1][1][-1] = altered(rows[-1][1][-1], record)
    try:
        savemat(
            path,
            {'TestG100': struct([(struct([one], *fields), struct(many, *fields)) for one, many in rows], 'Query', 'Gallery')},
            do_compression=compressed,
        )
    except (TypeError, ValueError):
        return
    index, sizes = {name: i for i, name in enumerate(SCENES)}, np.zeros((3, 2))
    found = answer(lambda path: cuhk_sysu._read_queries(path, 'TestG100', index, sizes), path)
    assert not valid or found is not REFUSED
    if found is not REFUSED:
        fields, _ = found
        content = loadmat(path)['TestG100'].ravel()
        places = [index[str(entry['imname'].ravel()[0])] for row in content for entry in row['Gallery'].ravel()]
        assert fields['gallery_images'].tolist() == places
        asked = [row['Query'].ravel()[0] for row in content]
        assert fields['query_images'].tolist() == [index[str(one[0].ravel()[0])] for one in asked]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (one[1].astype(float).ravel() for one in asked)]
        assert np.array_equal(fields['query_boxes'], np.array(corners, np.float32))


@fuzzed(st.lists(st.tuples(NAMES, st.lists(BOX, max_size=3)), min_size=1, max_size=3), st.none() | ARRAYS)
def test_scenes_of_cuhk_sysu_are_those_in_the_file(folder, scenes, odd):
    path = folder / 'Images.mat'
    rows = [(name, len(boxes), struct([(box, np.uint8(0)) for box in boxes], 'idlocate', 'ishard')) for name, boxes in scenes]
    if odd is not None:
        rows[0] = (*rows[0][:2], struct([(odd, np.uint8(0))], 'idlocate', 'ishard'))
    try:
        savemat(path, {'Img': struct(rows, 'imname', 'nAppear', 'box')})
    except (TypeError, ValueError):
        return
    found = answer(cuhk_sysu._read_scenes, path)
    if found is not REFUSED:
        assert found[0] == [name for name, _ in scenes]
        expected = [np.array(boxes, float).reshape(-1, 4) for _, boxes in scenes]
        expected[:1] = [np.array(odd, float).reshape(-1, 4)] if odd is not None else expected[:1]
        assert all(map(np.array_equal, found[1], expected))


# Predictions


@st.composite
def predictions(draw):
    images = draw(st.lists(NAMES, unique=True, max_size=3))
    dim, queries = draw(st.integers(1, 3)), draw(st.integers(0, 3))

    def floats(*shape):
        return draw(hnp.arrays('f4', shape, elements=NUMBERS))

    counts, persons = (draw(st.lists(st.integers(0, 3), min_size=len(images), max_size=len(images))) for _ in range(2))
    return Predictions(
        images=tuple(images),
        boxes=[floats(n, 4) for n in counts],
        scores=[floats(n) for n in counts],
        embeddings=[floats(n, dim) for n in counts],
        query_embeddings=floats(queries, dim),
        query_images=tuple(draw(NAMES) for _ in range(queries)),
        query_boxes=floats(queries, 4),
        gt_boxes=[floats(n, 4) for n in persons],
        gt_embeddings=[floats(n, dim) for n in persons],
        gt_person_ids=[draw(hnp.arrays('i8', n)) for n in persons],
        context_embeddings=[floats(1, dim) for _ in range(queries)],
    )


FIELD = st.sampled_from(
    [
        'format',
        'images',
        'boxes',
        'scores',
        'embeddings',
        'offsets',
        'query_embeddings',
        'query_images',
        'query_boxes',
        'gt_boxes',
        'gt_person_ids',
        'gt_embeddings',
        'gt_offsets',
        'context_offsets',
    ]
)
FEW = Predictions(
    images=('a',),
    boxes=[np.ones((1, 4), 'f4')],
    scores=[np.ones(1, 'f4')],
    embeddings=[np.ones((1, 2), 'f4')],
    query_embeddings=np.ones((1, 2), 'f4'),
    gt_boxes=[np.ones((1, 4), 'f4')],
    gt_person_ids=[np.array([1])],
)


@fuzzed(
    predictions(),
    st.none() | st.tuples(FIELD, ARRAYS),
    st.booleans(),
    examples=[(FEW, ('gt_person_ids', np.array([2**64 - 1], np.uint64)), False)],
)
def test_predictions_are_those_that_were_written(folder, written, change, compressed):
    path = folder / 'predictions.npz'
    save_predictions(path, written)
    if change:
        with np.load(path) as arrays:
            content = {**arrays, change[0]: change[1]}
        (np.savez_compressed if compressed else np.savez)(path, **content)
    found = answer(load_predictions, path)
    assert change or same(found, written)
    if change and found is not REFUSED and change[0] != 'format':
        value = getattr(found, change[0], None)
        joined = np.concatenate(value) if isinstance(value, list) and value else value
        if isinstance(joined, np.ndarray):
            assert np.array_equal(joined, change[1]) or np.array_equal(joined, change[1].astype('f4'))


@pytest.mark.parametrize('name', ['a\0', 'a\0b'])
def test_a_name_that_an_npz_cannot_hold_is_not_written_as_another(tmp_path, name):
    path = tmp_path / 'predictions.npz'
    with contextlib.suppress(ValueError):
        save_predictions(path, dataclasses.replace(FEW, images=(name,)))
        assert load_predictions(path).images == (name,)


# SeqNet's cache

PROTOCOL = SearchProtocol.from_identities(
    ['a', 'b'],
    np.zeros(2, np.int64),
    [np.array([[0, 0, 9, 9.0]], 'f4')] * 2,
    [np.array([1])] * 2,
    ['a'],
    np.array([[0, 0, 9, 9.0]], 'f4'),
    np.array([1]),
)
SEQNET = {
    'gallery_dets': [np.ones((2, 5), 'f4'), np.zeros((0, 5), 'f4')],
    'gallery_feats': [np.eye(2, 3, dtype='f4'), np.zeros((0, 3), 'f4')],
    'query_box_feats': [np.ones((1, 3), 'f4')],
}
WAYS = {
    'zip': lambda value, path: torch.save(value, path),
    'before 1.6': lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    **{
        f'protocol {number}': lambda value, path, number=number: path.write_bytes(pickle.dumps(value, number))
        for number in range(6)
    },
}


@fuzzed(st.sampled_from([*SEQNET, 'query_dets', 'x']), st.integers(0, 2), ARRAYS | ODD, st.sampled_from(list(WAYS)))
def test_seqnets_cache_is_what_it_was_saved_from(folder, name, place, value, way):
    path, cache = folder / 'eval_cache.pth', {key: list(entries) for key, entries in SEQNET.items()}
    if place < 2 and name in cache and place < len(cache[name]):
        cache[name][place] = value
    else:
        cache[name] = value
    WAYS[way](cache, path)
    found = answer(lambda path: load_seqnet_cache(path, PROTOCOL), path)
    if found is not REFUSED:
        for mine, theirs in zip(found.embeddings, cache['gallery_feats'], strict=True):
            assert np.array_equal(mine, np.asarray(theirs, 'f4').reshape(-1, mine.shape[1]))
        for image, theirs in enumerate(cache['gallery_dets']):
            theirs = np.asarray(theirs, 'f4').reshape(-1, 5)
            assert np.array_equal(found.boxes[image], theirs[:, :4]) and np.array_equal(found.scores[image], theirs[:, 4])


def bomb(kind: str) -> bytes:
    """Small files that stand for more than a memory holds."""
    if kind == 'memo':  # an object's place in a table, which the unpickler in C makes as long as that
        return b'\x80\x02}r' + (1 << 27).to_bytes(4, 'little') + b'.'
    if kind == 'bytearray':
        return b'\x80\x05\x96' + (1 << 31).to_bytes(8, 'little') + b'.'
    if kind == 'bytes':
        return b'\x80\x04\x8e' + (1 << 36).to_bytes(8, 'little') + b'.'
    row = [0.5] * 20_000
    shared = pickle.dumps({**SEQNET, 'gallery_feats': [[row] * 20_000, []]})
    if kind == 'shared rows':
        return shared
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02' + b'N0' * (16 << 20) + b'.')
    return file.getvalue()


@pytest.mark.parametrize('kind', ['memo', 'bytearray', 'bytes', 'shared rows', 'zip'])
def test_a_small_pickle_does_not_fill_the_memory(tmp_path, kind):
    path = tmp_path / 'eval_cache.pth'
    path.write_bytes(bomb(kind))
    assert path.stat().st_size < 1 << 20
    assert answer(lambda path: load_seqnet_cache(path, PROTOCOL), path) is REFUSED


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            with archive.open(f'{name}.npy', 'w') as file:
                for part in content if isinstance(content, list) else [content]:
                    file.write(part)
    return path


def array_header(dtype: str, *shape: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {'descr': dtype, 'fortran_order': False, 'shape': shape})
    return file.getvalue()


@pytest.mark.parametrize('read', [load_predictions, load_lookup_table])
@pytest.mark.parametrize(
    ('content', 'why'),
    [
        ([array_header('<f4', 5 << 20), *[bytes(1 << 20)] * 20], 'unpacks to'),
        (array_header('<f4', 1 << 62), ''),
        (array_header('<U0', 1 << 40), 'entries without content'),
    ],
    ids=['zeros', 'claims', 'nothing'],
)
def test_a_small_npz_does_not_fill_the_memory(tmp_path, read, content, why):
    path = npz(tmp_path / 'file.npz', **dict.fromkeys(('format', 'images', 'header', 'table'), content))
    assert path.stat().st_size < 1 << 20
    with limits(), pytest.raises(ValueError, match=why) as error:
        read(path)
    assert path.name in str(error.value) and '\n' not in str(error.value)


# A distillation's files

TABLE = TableHeader(dataset='PRW', data='d', num_identities=2, dims=3, teacher='t.py', weights='w')


@fuzzed(
    hnp.arrays('f4', (2, 3), elements=NUMBERS),
    st.none() | ARRAYS,
    st.dictionaries(st.sampled_from([*vars(TABLE), 'x']), ODD, max_size=2),
    examples=[(np.zeros((2, 3), 'f4'), None, {'num_identities': 2.0}), (np.zeros((2, 3), 'f4'), None, {'weights': None})],
)
def test_a_lookup_table_is_what_was_written(folder, table, other, changes):
    path = folder / 'table.npz'
    save_lookup_table(path, TABLE, torch.from_numpy(table))
    if other is not None or changes:
        np.savez(path, header=np.array(json.dumps(vars(TABLE) | changes)), table=table if other is None else other)
    found = answer(load_lookup_table, path)
    assert other is not None or changes or found is not REFUSED
    if found is not REFUSED:
        assert vars(found[0]) == vars(TABLE) | changes and same(found[1], torch.from_numpy(table if other is None else other))
        assert all(type(value) is type(getattr(TABLE, name)) for name, value in vars(found[0]).items())


HEADER = Header(
    format=FORMAT,
    data='d',
    transforms=['t'],
    weights='w',
    normalization={'mean': [0.5]},
    box_jitter=0.1,
    seed=0,
    images=2,
    boxes=3,
    jitters=2,
    identities=4,
    embed_dims=5,
    teacher='t',
    config='c.py',
)


def teacher_cache(folder: Path) -> Path:
    draw, layout = np.random.default_rng(0), HEADER.layout()
    for file in folder.glob('*'):
        file.unlink()
    create_cache(
        folder,
        HEADER,
        image_ids=np.array([7, 3]),
        offsets=np.array([0, 1, 3]),
        done=np.ones(2, bool),
        **{name: draw.random(layout[name][1], 'f4') for name in ('movements', 'lut')},
    )
    return folder / 'header.json'


def open_cache(path: Path) -> dict:
    cache = TeacherCache(path.parent)
    return vars(cache.header) | {name: np.array(getattr(cache, name)) for name in HEADER.layout()}


@fuzzed(
    st.dictionaries(st.sampled_from([*vars(HEADER), 'x']), ODD, max_size=2),
    short=30,
    examples=[({'box_jitter': math.nan},), ({'jitters': 2.0},), ({'images': -1},), ({'seed': True},)],
)
def test_a_teacher_caches_header_is_what_was_written(folder, changes):
    path = teacher_cache(folder / 'a')
    header = vars(HEADER) | changes
    path.write_text(json.dumps(header))
    try:
        found = open_cache(path)
    except (OSError, ValueError) as error:
        assert '\n' not in str(error) and str(path.parent) in str(error)
        assert changes
    else:
        assert {name: found[name] for name in header} == header
        assert all(type(found[name]) is type(value) or name == 'box_jitter' for name, value in vars(HEADER).items())


@fuzzed(
    st.sampled_from(list(HEADER.layout())),
    ARRAYS | st.none(),
    st.integers(-5, 9),
    short=30,
    examples=[
        ('offsets', np.array([0, 9, 3]), 0),
        ('image_ids', np.array([3, 3]), 0),
        ('lut', np.full((4, 5), np.nan, 'f4'), 0),
    ],
)
def test_a_teacher_caches_arrays_are_what_was_written(folder, name, other, number):
    path = teacher_cache(folder / 'a').with_name(f'{name}.npy')
    value = np.load(path)
    if other is None:
        value.flat[0] = number
    else:
        value = other
    np.save(path, value)
    found = answer(lambda path: open_cache(path.with_name('header.json')), path)
    if found is not REFUSED:
        assert same(found[name], value)
        assert (np.diff(found['offsets']) >= 0).all() and found['offsets'][[0, -1]].tolist() == [0, 3]


# Checkpoints

TENSORS = {'a.weight': torch.arange(6.0).reshape(2, 3), 'a.steps': torch.tensor(3), 'b': torch.ones(2, dtype=torch.float16)}
ODD_TENSORS = [
    torch.ones(2, device='meta'),
    torch.eye(2).to_sparse(),
    torch.zeros(1).expand(1 << 40),
    torch.ones(2, dtype=torch.cfloat),
    torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
    torch.tensor(math.nan),
    torch.zeros(0, 3),
]


@fuzzed(
    st.sampled_from([None, 'state_dict']),
    st.sampled_from(['b', 'c', 1, 'a\nb', '']),
    ODD | st.sampled_from(ODD_TENSORS),
    st.booleans(),
)
def test_a_checkpoints_weights_are_what_was_saved(folder, key, name, value, new):
    path, content = folder / 'a.pth', {**TENSORS, name: value}
    torch.save({key: content, 'meta': {'epoch': 1}} if key else content, path, _use_new_zipfile_serialization=new)
    found = answer(lambda path: read_weights(str(path), 'checkpoint'), path)
    if found is not REFUSED:
        assert same(found, content)
        assert sum(tensor.numel() for tensor in found.values()) < 1000


# Bytes, whatever the format: flipped, cut off, put in. `holds` compares what is read with a simple reading or, where the format
# has checksums, with what was written.


def anything(path, found, written):
    return True


def unchanged(path, found, written):
    return same(found, written)


def nested_rows(path: Path):
    try:
        rows = nested_mat.read_nested(path, 'TestG100', 'Gallery')
    except (AttributeError, IndexError, TypeError, ValueError) as error:  # as documented: its caller knows what it is
        assert '\n' not in str(error)
        raise ValueError(f'{path}: {error}') from error
    return [
        [tuple(rows.records[index]) for index in rows.indices[start:end]]
        for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)
    ]


def nested_simply(path, found, written):
    try:
        rows = read_mat(path, 'TestG100').ravel()
    except ValueError:  # it also looks at what is around the protocol; without compression there is no checksum either
        return path.name == 'TestG100.mat' or same(found, written)
    return same(found, [[tuple(record) for record in row['Gallery'].ravel()] for row in rows])


def write_nested(path: Path, compressed: bool) -> None:
    fields = ('imname', 'idlocate')
    records = struct([(name, np.full((1, 4), i)) for i, name in enumerate(SCENES)], *fields)
    rows = [(struct([('a.jpg', np.ones((1, 4)))], *fields), records) for _ in range(2)]
    savemat(path, {'TestG100': struct(rows, 'Query', 'Gallery')}, do_compression=compressed)


def write_cache(path: Path) -> None:
    teacher_cache(path.parent)


def annotation_cache(path: Path) -> dict:
    def build():
        return {'images': np.array(['a', 'ü']), 'boxes': np.arange(8.0).reshape(2, 4)}

    found = cached(path.stem, {'images', 'boxes'}, build)
    assert same(found, build())  # read, or built again
    return found


KINDS = {
    # how it is written, how it is read, what is then right
    'gt.txt': (
        lambda path: tracks(path, [[str(i), '2', '1.5', '2', '3', '4', '1', '1', '0.5'] for i in range(1, 4)]),
        mot._read_tracks,
        lambda path, found, _: all(map(np.array_equal, found, read_tracks_simply(path))),
    ),
    'seqinfo.ini': (
        lambda path: path.write_text('[Sequence]\n' + ''.join(f'{k}={v}\n' for k, v in INFO.items())),
        lambda path: mot._read_info(path.parent),
        lambda path, found, _: all(part in path.read_text() for part in (found.image_folder, found.extension)),
    ),
    'query_info.txt': (
        lambda path: path.write_text('1 2 3 4 5.5 c1s1_000001\n3 4 5 6 7 c2s1_000002\n'),
        lambda path: prw._read_queries(path, FRAMES),
        lambda path, found, _: (
            found[1].tolist()
            == [[float(each) for each in line.split()[1:5]] for line in path.read_text().splitlines() if line.strip()]
        ),
    ),
    'boxes.jpg.mat': (
        lambda path: savemat(path, {'box_new': np.arange(10.0).reshape(2, 5)}),
        prw._read_boxes,
        lambda path, found, _: np.array_equal(found, loadmat(path)['box_new'].reshape(-1, 5)),
    ),
    'frame_test.mat': (
        lambda path: savemat(path, {'img_index_test': cell(FRAMES)}, do_compression=True),
        lambda path: prw._read_frames(path, 'img_index_test'),
        unchanged,
    ),
    'TestG100.mat': (lambda path: write_nested(path, False), nested_rows, nested_simply),
    'TestG100z.mat': (lambda path: write_nested(path, True), nested_rows, nested_simply),
    'predictions.npz': (lambda path: save_predictions(path, FEW), load_predictions, unchanged),
    'eval_cache.pth': (lambda path: WAYS['zip'](SEQNET, path), lambda path: load_seqnet_cache(path, PROTOCOL), unchanged),
    'eval_cache.pkl': (lambda path: WAYS['protocol 4'](SEQNET, path), lambda path: load_seqnet_cache(path, PROTOCOL), anything),
    'table.npz': (lambda path: save_lookup_table(path, TABLE, torch.ones(2, 3)), load_lookup_table, unchanged),
    'header.json': (write_cache, open_cache, anything),
    'offsets.npy': (write_cache, lambda path: open_cache(path.with_name('header.json')), anything),
    'checkpoint.pth': (
        lambda path: torch.save({'state_dict': TENSORS}, path),
        lambda path: read_weights(str(path), 'x'),
        anything,
    ),
    'old.pth': (
        lambda path: torch.save(TENSORS, path, _use_new_zipfile_serialization=False),
        lambda path: read_weights(str(path), 'x'),
        anything,
    ),
    'annotations.npz': (lambda path: annotation_cache(path), annotation_cache, unchanged),
}
DAMAGE = st.lists(
    st.tuples(st.sampled_from(['flip', 'set', 'cut', 'insert', 'drop']), st.floats(0, 1), st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, damage) -> bytes:
    for how, where, new in damage:
        at = min(int(where * len(content)), max(len(content) - 1, 0))
        content = {
            'flip': content[:at] + bytes(byte ^ 1 << new[0] % 8 for byte in content[at : at + 1]) + content[at + 1 :],
            'set': content[:at] + new + content[at + len(new) :],
            'cut': content[:at],
            'insert': content[:at] + new + content[at:],
            'drop': content[:at] + content[at + len(new) :],
        }[how]
    return content


def damage_test(kind: str):
    write, read, holds = KINDS[kind]

    @fuzzed(DAMAGE, short=60, long=1000)
    def check(folder, damage):
        path = (cache_folder() if kind == 'annotations.npz' else folder / 'a') / kind
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        write(path)
        written, content = read(path), path.read_bytes()
        path.write_bytes(damaged(content, damage))
        found = answer(read, path)
        assert found is REFUSED or holds(path, found, written)

    check.__name__ = f'test_damaged_bytes_of_{kind}_are_no_other_answer'
    return check


for _kind in KINDS:
    globals()[f'test_damaged_bytes_of_{_kind.replace(".", "_")}_are_no_other_answer'] = damage_test(_kind)
