import numpy as np
import pytest
from small_datasets import PRW_FRAMES, write_image, write_prw

from mmps.datasets import CUHKSYSU, PRW, MOTChallenge


def contents(dataset):
    """Returns the content of a loaded data set as plain lists."""
    protocol = dataset.metainfo.get('protocol')
    fields = (
        {}
        if protocol is None
        else {
            name: [array.tolist() for array in value or ()] if name == 'galleries' else np.asarray(value).tolist()
            for name, value in vars(protocol).items()
        }
    )
    return [dataset.get_data_info(i) for i in range(len(dataset))], dataset.metainfo.get('num_identities'), fields


@pytest.fixture(params=['cuhk_sysu', 'prw', 'mot'])
def load(request):
    root = str(request.getfixturevalue(request.param))
    loader = {'cuhk_sysu': CUHKSYSU, 'prw': PRW, 'mot': MOTChallenge}[request.param]
    options = {'frame_gap': 2} if loader is MOTChallenge else {}
    return lambda test_mode: loader(data_root=root, test_mode=test_mode, **options)


@pytest.mark.parametrize('test_mode', [False, True])
def test_cached_load_gives_the_same_data_without_reading_the_files_again(load, test_mode, monkeypatch):
    first = load(test_mode)
    monkeypatch.setattr(type(first), 'read_annotations', lambda self: pytest.fail('read again'))
    assert contents(load(test_mode)) == contents(first)


def test_each_split_and_option_has_a_cache_of_its_own(mot, own_cache):
    for options in ({}, {'test_mode': True}, {'test_mode': True, 'frame_gap': 3}, {'min_visibility': 0.5}):
        MOTChallenge(data_root=str(mot), **{'frame_gap': 2, **options})
    assert len(list(own_cache.glob('*.npz'))) == 4


def test_changed_annotation_is_read_again(prw):
    before = PRW(data_root=str(prw)).get_data_info(0)['instances']
    write_prw(prw, {**PRW_FRAMES, 'c1s1_000001': ('box_new', [(1, 5, 5, 10, 10)])})
    after = PRW(data_root=str(prw)).get_data_info(0)['instances']
    assert len(before) == 2 and [person['bbox'] for person in after] == [[5, 5, 15, 15]]


def test_images_added_later_get_their_size(prw):
    frame = prw / 'frames/c1s1_000001.jpg'
    frame.unlink()
    assert PRW(data_root=str(prw)).get_data_info(0)['height'] == 0
    write_image(frame, 100, 60)
    assert PRW(data_root=str(prw)).get_data_info(0)['height'] == 60


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: content[: len(content) // 2],
        lambda content: b'',
        lambda content: b'not a cache at all',
        lambda content: content[:400] + bytes(64) + content[464:],
    ],
)
def test_unreadable_cache_is_built_again_and_logged(cuhk_sysu, own_cache, log_lines, damage):
    first = contents(CUHKSYSU(data_root=str(cuhk_sysu), test_mode=True))
    [path] = own_cache.glob('*.npz')
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert contents(CUHKSYSU(data_root=str(cuhk_sysu), test_mode=True)) == first
    assert len(log_lines) == 1 and '\n' not in log_lines[0]
    assert str(path) in log_lines[0] and 'built again' in log_lines[0]
    assert contents(CUHKSYSU(data_root=str(cuhk_sysu), test_mode=True)) == first
    assert len(log_lines) == 1


def test_cache_that_needs_pickle_is_not_loaded(cuhk_sysu, own_cache, log_lines):
    CUHKSYSU(data_root=str(cuhk_sysu))
    [path] = own_cache.glob('*.npz')
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, 'boxes': np.array([{}], dtype=object)})
    assert CUHKSYSU(data_root=str(cuhk_sysu)).metainfo['num_identities'] == 2
    assert len(log_lines) == 1


def test_an_unwritable_cache_folder_only_causes_a_warning(cuhk_sysu, tmp_path, monkeypatch, log_lines):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'file'))
    assert len(CUHKSYSU(data_root=str(cuhk_sysu))) == 4
    assert len(log_lines) == 1 and 'not written' in log_lines[0]


def test_nothing_but_the_cache_is_left_behind(cuhk_sysu, own_cache):
    CUHKSYSU(data_root=str(cuhk_sysu))
    assert [path.suffix for path in own_cache.iterdir()] == ['.npz']


def test_the_environment_sets_the_cache_folder(cuhk_sysu, tmp_path, monkeypatch):
    monkeypatch.setenv('MMPS_CACHE', '')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    CUHKSYSU(data_root=str(cuhk_sysu))
    assert len(list((tmp_path / 'xdg/mmps/annotations').glob('*.npz'))) == 1
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    CUHKSYSU(data_root=str(cuhk_sysu))
    assert len(list((tmp_path / 'home/.cache/mmps/annotations').glob('*.npz'))) == 1
