"""Whatever is wrong on disk is said in one line that names the file and what was expected in it."""
import shutil

import numpy as np
import pytest
from scipy.io import savemat
from small_datasets import CUHK_QUERIES, CUHK_SCENES, PRW_FRAMES, cell, write_cuhk_sysu, write_prw

from mmps.datasets import CUHKSYSU, PRW, MOTChallenge

LOADERS = {'cuhk_sysu': CUHKSYSU, 'prw': PRW, 'mot': MOTChallenge}
GT = 'train/MOT16-02/gt/gt.txt'
INFO = 'train/MOT16-02/seqinfo.ini'


def remove(name):
    return lambda root: (root / name).unlink()


def truncate(name):
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:200])


def rewrite(name, text):
    return lambda root: (root / name).write_text(text)


def mat(name, **content):
    return lambda root: savemat(root / name, content)


CASES = {
    # data set, test mode, what is done to it, words of the message
    'CUHK-SYSU without its root': ('cuhk_sysu', False, shutil.rmtree, ['cuhk_sysu', 'no such folder', 'CUHKSYSU']),
    'PRW without its root': ('prw', False, shutil.rmtree, ['prw', 'no such folder', 'PRW']),
    'MOT without its root': ('mot', False, shutil.rmtree, ['mot', 'no such folder', 'MOTChallenge']),
    'no Images.mat': ('cuhk_sysu', False, remove('annotation/Images.mat'), ['Images.mat', 'no such file', 'scenes']),
    'no pool.mat': ('cuhk_sysu', True, remove('annotation/pool.mat'), ['pool.mat', 'no such file', 'test scenes']),
    'no Train.mat': ('cuhk_sysu', False, remove('annotation/test/train_test/Train.mat'), ['Train.mat', 'identities']),
    'no TestG': ('cuhk_sysu', True, remove('annotation/test/train_test/TestG100.mat'), ['TestG100.mat', 'queries']),
    'no frame_train.mat': ('prw', False, remove('frame_train.mat'), ['frame_train.mat', 'train frames']),
    'no query_info.txt': ('prw', True, remove('query_info.txt'), ['query_info.txt', 'queries']),
    'no boxes of a frame': ('prw', False, remove('annotations/c2s1_000002.jpg.mat'),
                            ['c2s1_000002.jpg.mat', 'no such file', 'box_new']),
    'no gt.txt': ('mot', False, remove(GT), ['gt.txt', 'no such file', 'tracks']),
    'no sequences': ('mot', False, remove(INFO), ['train', 'no sequences', 'seqinfo.ini']),
    'another key in Images.mat': ('cuhk_sysu', False, mat('annotation/Images.mat', img=[1]), ['Images.mat', 'key Img']),
    'another key in pool.mat': ('cuhk_sysu', True, mat('annotation/pool.mat', p=[1]), ['pool.mat', 'key pool']),
    'another gallery size': ('cuhk_sysu', True, mat('annotation/test/train_test/TestG100.mat', TestG50=[1]),
                             ['TestG100.mat', 'key TestG100']),
    'another key in a frame': ('prw', False, mat('annotations/c1s1_000001.jpg.mat', box=[1]),
                               ['c1s1_000001.jpg.mat', 'box_new or anno_file or anno_previous']),
    'truncated Images.mat': ('cuhk_sysu', False, truncate('annotation/Images.mat'), ['Images.mat', 'truncated']),
    'truncated Train.mat': ('cuhk_sysu', False, truncate('annotation/test/train_test/Train.mat'),
                            ['Train.mat', 'truncated']),
    'truncated TestG100.mat': ('cuhk_sysu', True, truncate('annotation/test/train_test/TestG100.mat'),
                               ['TestG100.mat', 'truncated']),
    'text for TestG100.mat': ('cuhk_sysu', True, rewrite('annotation/test/train_test/TestG100.mat', 'TestG100 ' * 200),
                              ['TestG100.mat', 'MATLAB']),
    'truncated frame': ('prw', False, truncate('annotations/c1s1_000001.jpg.mat'),
                        ['c1s1_000001.jpg.mat', 'truncated']),
    'empty pool.mat': ('cuhk_sysu', True, rewrite('annotation/pool.mat', ''), ['pool.mat', 'truncated']),
    'text for Images.mat': ('cuhk_sysu', False, rewrite('annotation/Images.mat', 'Img ' * 200),
                            ['Images.mat', 'MATLAB']),
    'numbers for scenes': ('cuhk_sysu', False, mat('annotation/Images.mat', Img=np.eye(3)),
                           ['Images.mat', 'name, count']),
    'numbers for identities': ('cuhk_sysu', False, mat('annotation/test/train_test/Train.mat', Train=np.eye(3)),
                               ['Train.mat', 'identities']),
    'numbers for queries': ('cuhk_sysu', True, mat('annotation/test/train_test/TestG100.mat', TestG100=np.eye(3)),
                            ['TestG100.mat', 'Query', 'Gallery']),
    'rows of six': ('prw', False, mat('annotations/c1s1_000001.jpg.mat', box_new=np.ones((1, 6))),
                    ['c1s1_000001.jpg.mat', '[id x y w h]']),
    'no number': ('prw', False, mat('annotations/c1s1_000001.jpg.mat', box_new=[[1, 2, np.nan, 4, 5]]),
                  ['c1s1_000001.jpg.mat', '[id x y w h]', 'finite']),
    'bytes for queries': ('prw', True, lambda root: (root / 'query_info.txt').write_bytes(b'\xff\xfe'),
                          ['query_info.txt', 'text']),
    'query outside the pool': (
        'cuhk_sysu', True, lambda root: write_cuhk_sysu(root, queries=[(('s1.jpg', (10, 10, 20, 40)), [])]),
        ['TestG100.mat', 'pool.mat', "'s1.jpg'"]),
    'gallery outside the pool': (
        'cuhk_sysu', True, lambda root: write_cuhk_sysu(root, queries=[(CUHK_QUERIES[0][0], [('s2.jpg', None)])]),
        ['TestG100.mat', 'pool.mat', "'s2.jpg'"]),
    'pool outside the scenes': ('cuhk_sysu', True, mat('annotation/pool.mat', pool=cell(['x.jpg'])),
                                ['pool.mat', 'Images.mat', "'x.jpg'"]),
    'identity in a test scene': (
        'cuhk_sysu', False, lambda root: write_cuhk_sysu(root, persons=[[('t1.jpg', (5, 5, 20, 50))]]),
        ['Train.mat', 'training images', "'t1.jpg'"]),
    'query outside the test frames': ('prw', True, rewrite('query_info.txt', '1 1 1 9 9 c1s1_000001\n'),
                                      ['query_info.txt', 'frame_test.mat', 'line 1', "'c1s1_000001'"]),
    'query without a frame': ('prw', True, rewrite('query_info.txt', '\n1 1 1 9 9\n'),
                              ['query_info.txt', 'id x y w h frame', 'line 2']),
    'frame without a camera': ('prw', False, lambda root: write_prw(root, {
        name.replace('c1s1', 'x'): rows for name, rows in PRW_FRAMES.items()}), ['x_000001.jpg', 'camera']),
    'scene that leads out': ('cuhk_sysu', False, lambda root: write_cuhk_sysu(
        root, {**CUHK_SCENES, '../up.jpg': []}, with_images=False), ['Images.mat', 'inside', "'../up.jpg'"]),
    'absolute scene': ('cuhk_sysu', False, lambda root: write_cuhk_sysu(
        root, {**CUHK_SCENES, '/etc/up.jpg': []}, with_images=False), ['Images.mat', 'inside', "'/etc/up.jpg'"]),
    'Windows drive': ('cuhk_sysu', False, lambda root: write_cuhk_sysu(
        root, {**CUHK_SCENES, 'C:up.jpg': []}, with_images=False), ['Images.mat', 'inside', "'C:up.jpg'"]),
    'frame that leads out': ('prw', False, mat('frame_train.mat', img_index_train=cell(['../../up'])),
                             ['frame_train.mat', 'inside the data root', "'../../up'"]),
    'image folder that leads out': ('mot', False, rewrite(
        INFO, '[Sequence]\nimDir=../up\nimExt=.jpg\nimWidth=1\nimHeight=1\n'), ['seqinfo.ini', 'inside', "'../up'"]),
    'seqinfo without a size': ('mot', False, rewrite(INFO, '[Sequence]\nimDir=img1\nimExt=.jpg\n'),
                               ['seqinfo.ini', 'imWidth']),
    'seqinfo without a section': ('mot', False, rewrite(INFO, 'imDir=img1\n'), ['seqinfo.ini', '[Sequence]']),
    'words in gt.txt': ('mot', False, rewrite(GT, 'frame,id\n'), ['gt.txt', 'frame, id, x, y']),
    'short rows in gt.txt': ('mot', False, rewrite(GT, '1,2,3,4,5,6\n'), ['gt.txt', 'visibility', '6 columns']),
    'empty gt.txt': ('mot', False, rewrite(GT, ''), ['gt.txt', 'frame, id, x, y']),
    'nobody seen twice': ('mot', True, lambda root: None, ['train', 'frame_gap=30']),
    'no images': ('mot', False, lambda root: shutil.rmtree(root / 'train/MOT16-02/img1'), ['train', 'training frames']),
}


@pytest.mark.filterwarnings('ignore:loadtxt')
@pytest.mark.parametrize('case', CASES.values(), ids=CASES.keys())
def test_one_line_names_the_file_and_what_was_expected(case, request):
    name, test_mode, damage, words = case
    root = request.getfixturevalue(name)
    damage(root)
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        LOADERS[name](data_root=str(root), test_mode=test_mode)
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message
    missing = 'no such' in message or 'no sequences' in message
    assert isinstance(caught.value, FileNotFoundError if missing else ValueError)


@pytest.mark.parametrize('options, words', [
    ({'train_fraction': 1.5}, 'train_fraction'), ({'frame_gap': 0}, 'frame_gap'), ({'sequences': ['../x']}, 'inside'),
    ({'sequences': ['MOT16-99']}, 'MOT16-99'), ({'filter_cfg': {'min_size': 500}}, 'min_size')])
def test_option_that_does_not_fit_is_named(mot, options, words):
    with pytest.raises((FileNotFoundError, ValueError), match=words):
        MOTChallenge(data_root=str(mot), **options)


@pytest.mark.parametrize('test_mode', [False, True])
def test_missing_or_empty_image_is_named_when_it_is_read(cuhk_sysu, test_mode):
    pipeline = [{'type': 'mmdet.LoadImageFromFile'}]
    dataset = CUHKSYSU(data_root=str(cuhk_sysu), test_mode=test_mode, pipeline=pipeline)
    path = cuhk_sysu / 'Image/SSM' / dataset.get_data_info(0)['img_name']
    path.write_bytes(b'')
    with pytest.raises(ValueError, match=rf'^{path}: empty file; [^\n]*$'):
        dataset[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf'^{path}: no such file; [^\n]*$'):
        dataset[0]
    assert dataset[1]['img'].shape == (70, 120, 3)


def test_error_of_a_transform_is_left_alone(cuhk_sysu):
    def broken(results):
        raise RuntimeError('mine')
    with pytest.raises(RuntimeError, match='mine'):
        CUHKSYSU(data_root=str(cuhk_sysu), pipeline=[broken])[0]
