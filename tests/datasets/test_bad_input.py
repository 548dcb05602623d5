"""Errors about files are one line that names the file and what was expected in it."""

import shutil

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image
from scipy.io import savemat
from small_datasets import (
    CUHK_PERSONS,
    CUHK_QUERIES,
    CUHK_SCENES,
    MOT_ROWS,
    PRW_FRAMES,
    cell,
    write_cuhk_sysu,
    write_mot,
    write_prw,
)
from torch.utils.data import DataLoader

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


def garbage(name):
    return lambda root: (root / name).write_bytes(bytes(range(256)))


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
    'no boxes of a frame': (
        'prw',
        False,
        remove('annotations/c2s1_000002.jpg.mat'),
        ['c2s1_000002.jpg.mat', 'no such file', 'box_new'],
    ),
    'no gt.txt': ('mot', False, remove(GT), ['gt.txt', 'no such file', 'tracks']),
    'no sequences': ('mot', False, remove(INFO), ['train', 'no sequences', 'seqinfo.ini']),
    'another key in Images.mat': ('cuhk_sysu', False, mat('annotation/Images.mat', img=[1]), ['Images.mat', 'key Img']),
    'another key in pool.mat': ('cuhk_sysu', True, mat('annotation/pool.mat', p=[1]), ['pool.mat', 'key pool']),
    'another gallery size': (
        'cuhk_sysu',
        True,
        mat('annotation/test/train_test/TestG100.mat', TestG50=[1]),
        ['TestG100.mat', 'key TestG100'],
    ),
    'another key in a frame': (
        'prw',
        False,
        mat('annotations/c1s1_000001.jpg.mat', box=[1]),
        ['c1s1_000001.jpg.mat', 'box_new or anno_file or anno_previous'],
    ),
    'truncated Images.mat': ('cuhk_sysu', False, truncate('annotation/Images.mat'), ['Images.mat', 'truncated']),
    'truncated Train.mat': ('cuhk_sysu', False, truncate('annotation/test/train_test/Train.mat'), ['Train.mat', 'truncated']),
    'truncated TestG100.mat': (
        'cuhk_sysu',
        True,
        truncate('annotation/test/train_test/TestG100.mat'),
        ['TestG100.mat', 'truncated'],
    ),
    'text for TestG100.mat': (
        'cuhk_sysu',
        True,
        rewrite('annotation/test/train_test/TestG100.mat', 'TestG100 ' * 200),
        ['TestG100.mat', 'MATLAB'],
    ),
    'truncated frame': ('prw', False, truncate('annotations/c1s1_000001.jpg.mat'), ['c1s1_000001.jpg.mat', 'truncated']),
    'empty pool.mat': ('cuhk_sysu', True, rewrite('annotation/pool.mat', ''), ['pool.mat', 'truncated']),
    'text for Images.mat': ('cuhk_sysu', False, rewrite('annotation/Images.mat', 'Img ' * 200), ['Images.mat', 'MATLAB']),
    'numbers for scenes': ('cuhk_sysu', False, mat('annotation/Images.mat', Img=np.eye(3)), ['Images.mat', 'name, count']),
    'numbers for identities': (
        'cuhk_sysu',
        False,
        mat('annotation/test/train_test/Train.mat', Train=np.eye(3)),
        ['Train.mat', 'identities'],
    ),
    'numbers for queries': (
        'cuhk_sysu',
        True,
        mat('annotation/test/train_test/TestG100.mat', TestG100=np.eye(3)),
        ['TestG100.mat', 'Query', 'Gallery'],
    ),
    'rows of six': (
        'prw',
        False,
        mat('annotations/c1s1_000001.jpg.mat', box_new=np.ones((1, 6))),
        ['c1s1_000001.jpg.mat', '[id x y w h]'],
    ),
    'no number': (
        'prw',
        False,
        mat('annotations/c1s1_000001.jpg.mat', box_new=[[1, 2, np.nan, 4, 5]]),
        ['c1s1_000001.jpg.mat', '[id x y w h]', 'finite'],
    ),
    'bytes for queries': (
        'prw',
        True,
        lambda root: (root / 'query_info.txt').write_bytes(b'\xff\xfe'),
        ['query_info.txt', 'text'],
    ),
    'query outside the pool': (
        'cuhk_sysu',
        True,
        lambda root: write_cuhk_sysu(root, queries=[(('s1.jpg', (10, 10, 20, 40)), [])]),
        ['TestG100.mat', 'pool.mat', "'s1.jpg'"],
    ),
    'gallery outside the pool': (
        'cuhk_sysu',
        True,
        lambda root: write_cuhk_sysu(root, queries=[(CUHK_QUERIES[0][0], [('s2.jpg', None)])]),
        ['TestG100.mat', 'pool.mat', "'s2.jpg'"],
    ),
    'pool outside the scenes': (
        'cuhk_sysu',
        True,
        mat('annotation/pool.mat', pool=cell(['x.jpg'])),
        ['pool.mat', 'Images.mat', "'x.jpg'"],
    ),
    'identity in a test scene': (
        'cuhk_sysu',
        False,
        lambda root: write_cuhk_sysu(root, persons=[[('t1.jpg', (5, 5, 20, 50))]]),
        ['Train.mat', 'training images', "'t1.jpg'"],
    ),
    'query outside the test frames': (
        'prw',
        True,
        rewrite('query_info.txt', '1 1 1 9 9 c1s1_000001\n'),
        ['query_info.txt', 'frame_test.mat', 'line 1', "'c1s1_000001'"],
    ),
    'query without a frame': (
        'prw',
        True,
        rewrite('query_info.txt', '\n1 1 1 9 9\n'),
        ['query_info.txt', 'id x y w h frame', 'line 2'],
    ),
    'frame without a camera': (
        'prw',
        False,
        lambda root: write_prw(root, {name.replace('c1s1', 'x'): rows for name, rows in PRW_FRAMES.items()}),
        ['x_000001.jpg', 'camera'],
    ),
    'scene that leads out': (
        'cuhk_sysu',
        False,
        lambda root: write_cuhk_sysu(root, {**CUHK_SCENES, '../up.jpg': []}, with_images=False),
        ['Images.mat', 'inside', "'../up.jpg'"],
    ),
    'absolute scene': (
        'cuhk_sysu',
        False,
        lambda root: write_cuhk_sysu(root, {**CUHK_SCENES, '/etc/up.jpg': []}, with_images=False),
        ['Images.mat', 'inside', "'/etc/up.jpg'"],
    ),
    'Windows drive': (
        'cuhk_sysu',
        False,
        lambda root: write_cuhk_sysu(root, {**CUHK_SCENES, 'C:up.jpg': []}, with_images=False),
        ['Images.mat', 'inside', "'C:up.jpg'"],
    ),
    'frame that leads out': (
        'prw',
        False,
        mat('frame_train.mat', img_index_train=cell(['../../up'])),
        ['frame_train.mat', 'inside the data root', "'../../up'"],
    ),
    'image folder that leads out': (
        'mot',
        False,
        rewrite(INFO, '[Sequence]\nimDir=../up\nimExt=.jpg\nimWidth=100\nimHeight=60\n'),
        ['seqinfo.ini', 'inside', "'../up'"],
    ),
    'seqinfo without a size': ('mot', False, rewrite(INFO, '[Sequence]\nimDir=img1\nimExt=.jpg\n'), ['seqinfo.ini', 'imWidth']),
    'seqinfo without a section': ('mot', False, rewrite(INFO, 'imDir=img1\n'), ['seqinfo.ini', '[Sequence]']),
    'words in gt.txt': ('mot', False, rewrite(GT, 'frame,id\n'), ['gt.txt', 'frame, id, x, y']),
    'short rows in gt.txt': ('mot', False, rewrite(GT, '1,2,3,4,5,6\n'), ['gt.txt', 'visibility', '6 columns']),
    'empty gt.txt': ('mot', False, rewrite(GT, ''), ['gt.txt', 'frame, id, x, y']),
    'no frame_test.mat': ('prw', True, remove('frame_test.mat'), ['frame_test.mat', 'no such file']),
    'truncated pool.mat': ('cuhk_sysu', True, truncate('annotation/pool.mat'), ['pool.mat', 'truncated']),
    'truncated frame_train.mat': ('prw', False, truncate('frame_train.mat'), ['frame_train.mat', 'truncated']),
    'truncated query_info.txt': (
        'prw',
        True,
        rewrite('query_info.txt', '5 50 10 20 40 c3s1_0000'),
        ['query_info.txt', 'line 1', "'c3s1_0000'"],
    ),
    'truncated gt.txt': ('mot', False, rewrite(GT, '1,3,5,11,10,20,1,1,1.0\n1,8,67'), ['gt.txt', 'frame, id, x, y']),
    'truncated seqinfo.ini': ('mot', False, rewrite(INFO, '[Sequence]\nimDir=im'), ['seqinfo.ini', 'imDir, imExt, imWidth']),
    'empty Images.mat': ('cuhk_sysu', False, rewrite('annotation/Images.mat', ''), ['Images.mat', 'truncated']),
    'empty frame_train.mat': ('prw', False, rewrite('frame_train.mat', ''), ['frame_train.mat', 'truncated']),
    'empty frame': ('prw', False, rewrite('annotations/c1s1_000001.jpg.mat', ''), ['c1s1_000001.jpg.mat', 'truncated']),
    'empty seqinfo.ini': ('mot', False, rewrite(INFO, ''), ['seqinfo.ini', '[Sequence]']),
    'text for frame_train.mat': ('prw', False, rewrite('frame_train.mat', 'frame ' * 200), ['frame_train.mat', 'MATLAB']),
    'bytes for gt.txt': ('mot', False, garbage(GT), ['gt.txt', 'frame, id, x, y']),
    'bytes for seqinfo.ini': ('mot', False, garbage(INFO), ['seqinfo.ini', '[Sequence]']),
    'another key in frame_train.mat': (
        'prw',
        False,
        mat('frame_train.mat', frames=[1]),
        ['frame_train.mat', 'key img_index_train'],
    ),
    'another key in Train.mat': (
        'cuhk_sysu',
        False,
        mat('annotation/test/train_test/Train.mat', T=[1]),
        ['Train.mat', 'key Train'],
    ),
    'another key in seqinfo.ini': (
        'mot',
        False,
        rewrite(INFO, '[Sequence]\nimDir=a\nimExt=b\nwidth=9\nheight=9\n'),
        ['seqinfo.ini', 'imWidth'],
    ),
    'no size in seqinfo.ini': (
        'mot',
        False,
        rewrite(INFO, '[Sequence]\nimDir=img1\nimExt=.jpg\nimWidth=0\nimHeight=60\n'),
        ['seqinfo.ini', '0 x 60 pixels'],
    ),
    'no number in a scene': (
        'cuhk_sysu',
        False,
        lambda root: write_cuhk_sysu(
            root, {**CUHK_SCENES, 's2.jpg': [(12, 11, 21, 41)]}, [[('s2.jpg', (12, np.nan, 21, 41))]], dtype=float
        ),
        ['Train.mat', 'finite'],
    ),
    'no number in gt.txt': ('mot', False, rewrite(GT, '1,3,nan,11,10,20,1,1,1.0\n'), ['gt.txt', 'finite']),
    'no number in query_info.txt': (
        'prw',
        True,
        rewrite('query_info.txt', '5 nan 10 20 40 c3s1_000004\n'),
        ['query_info.txt', 'line 1', 'finite'],
    ),
    'labelled boxes of other scenes': (
        'cuhk_sysu',
        False,
        lambda root: write_cuhk_sysu(root, persons=[*CUHK_PERSONS, [('s4.jpg', (1, 1, 20, 40))]]),
        ['Train.mat', 'labelled boxes that are in Images.mat', '1 of 4'],
    ),
    'query of no size': (
        'cuhk_sysu',
        True,
        lambda root: write_cuhk_sysu(root, queries=[(('t1.jpg', (5, 5, 0, 50)), [('t2.jpg', None)])]),
        ['TestG100.mat', 'queries', 'area', '[5.0, 5.0, 5.0, 55.0]', 'number 1 of 1'],
    ),
    'query outside its image': (
        'cuhk_sysu',
        True,
        lambda root: write_cuhk_sysu(root, queries=[(('t1.jpg', (120, 5, 9, 50)), [('t2.jpg', None)])]),
        ['TestG100.mat', 'queries', 'area', 'inside their images'],
    ),
    'target of no size': (
        'cuhk_sysu',
        True,
        lambda root: write_cuhk_sysu(root, queries=[(('t1.jpg', (5, 5, 20, 50)), [('t2.jpg', (10, 10, 20, 0))])]),
        ['TestG100.mat', 'targets', 'area', 'number 1 of 1'],
    ),
    'query of a negative size': (
        'prw',
        True,
        rewrite('query_info.txt', '5 50 10 -20 40 c3s1_000004\n'),
        ['query_info.txt', 'queries', 'area'],
    ),
    'query outside its frame': (
        'prw',
        True,
        rewrite('query_info.txt', '5 50 -40 20 40 c3s1_000004\n'),
        ['query_info.txt', 'queries', 'area'],
    ),
    'pool that leads out': (
        'cuhk_sysu',
        True,
        mat('annotation/pool.mat', pool=cell(['../up.jpg'])),
        ['pool.mat', 'inside', "'../up.jpg'"],
    ),
    'absolute frame': (
        'prw',
        False,
        mat('frame_train.mat', img_index_train=cell(['/etc/up'])),
        ['frame_train.mat', 'inside', "'/etc/up'"],
    ),
    'absolute image folder': (
        'mot',
        False,
        rewrite(INFO, '[Sequence]\nimDir=/etc\nimExt=.jpg\nimWidth=100\nimHeight=60\n'),
        ['seqinfo.ini', 'inside', "'/etc'"],
    ),
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


@pytest.mark.parametrize(
    'options, words',
    [
        ({'train_fraction': 1.5}, 'train_fraction'),
        ({'frame_gap': 0}, 'frame_gap'),
        ({'sequences': ['../x']}, 'inside'),
        ({'sequences': ['MOT16-99']}, 'MOT16-99'),
        ({'filter_cfg': {'min_size': 500}}, 'min_size'),
    ],
)
def test_a_wrong_option_is_named(mot, options, words):
    with pytest.raises((FileNotFoundError, ValueError), match=words):
        MOTChallenge(data_root=str(mot), **options)


@pytest.fixture
def counted(monkeypatch):
    """Returns the loaders' messages about left-out boxes."""
    lines = []
    for module in ('base', 'image_boxes'):
        monkeypatch.setattr(f'mmps.datasets.{module}.print_log', lambda line, *_: lines.append(line))
    return lines


# Odd boxes, which go on working


def people(dataset):
    return [
        (tuple(person['bbox']), person['person_id'])
        for i in range(len(dataset))
        for person in dataset.get_data_info(i)['instances']
    ]


# Partly outside, wholly outside on either side, of no size, of a negative size.
ODD = [(-5, 10, 20, 40), (300, 10, 20, 40), (-30, 10, 20, 40), (10, 10, 0, 40), (30, 10, 20, -4)]


@pytest.mark.parametrize('test_mode', [False, True])
def test_only_boxes_without_an_area_inside_the_image_are_left_out_and_counted(test_mode, tmp_path, counted):
    frames = {name: ('box_new', [(-2, *box) for box in ODD] + [(5, 50, 10, 20, 40)]) for name in PRW_FRAMES}
    root = write_prw(tmp_path / 'prw', frames, '5 50 10 20 40 c3s1_000004\n')
    assert people(PRW(data_root=str(root), test_mode=test_mode)) == 3 * [((0, 10, 15, 50), -1), ((50, 10, 70, 50), 0)]
    root = write_cuhk_sysu(
        tmp_path / 'cuhk',
        {'s.jpg': ODD, 't.jpg': [*ODD, (15, 5, 20, 55)]},
        [[('s.jpg', ODD[0])]],
        [(('t.jpg', (15, 5, 20, 55)), [])],
        ['t.jpg'],
        dtype=np.int16,
    )
    found = people(CUHKSYSU(data_root=str(root), test_mode=test_mode))
    assert found == ([((-5, 10, 15, 50), -1), ((15, 5, 35, 60), 0)] if test_mode else [((-5, 10, 15, 50), 0)])
    rows = [(frame, i, *box, 1, 1, 1.0) for frame in range(1, 9) for i, box in enumerate([*ODD, (50, 10, 20, 40)])]
    write_mot(tmp_path / 'mot', rows)
    found = people(MOTChallenge(data_root=str(tmp_path / 'mot'), test_mode=test_mode, frame_gap=1))
    assert found == 4 * [((0, 9, 14, 49), 0), ((49, 9, 69, 49), 1)]
    assert [line.split(': ')[1].split(' boxes')[0] for line in counted] == [
        '12 of 18',
        f'4 of {6 if test_mode else 5}',
        '16 of 24',
    ]


def test_of_an_identity_listed_twice_in_a_scene_the_first_box_is_the_target(tmp_path):
    twice = [(5, 10, 10, 20, 40), (5, 50, 10, 20, 40)]
    root = write_prw(tmp_path / 'prw', dict.fromkeys(PRW_FRAMES, ('box_new', twice)), '5 10 10 20 40 c3s1_000004\n')
    assert [person_id for _, person_id in people(PRW(data_root=str(root)))] == 6 * [0]
    protocol = PRW(data_root=str(root), test_mode=True).metainfo['protocol']
    assert protocol.target_images.tolist() == [1, 2]
    assert protocol.target_boxes.tolist() == [[10, 10, 30, 50]] * 2
    both = [('s2.jpg', (12, 11, 21, 41)), ('s2.jpg', (50, 12, 20, 44))]
    root = write_cuhk_sysu(tmp_path / 'cuhk', {**CUHK_SCENES, 's2.jpg': [box for _, box in both]}, [both])
    assert people(CUHKSYSU(data_root=str(root)))[2:4] == [((12, 11, 33, 52), 0), ((50, 12, 70, 56), 0)]
    write_mot(tmp_path / 'mot', sorted(MOT_ROWS * 2))
    assert [person_id for _, person_id in people(MOTChallenge(data_root=str(tmp_path / 'mot')))].count(0) == 8


# Images

LOAD = [
    {'type': 'mmdet.LoadImageFromFile'},
    {'type': 'mmps.LoadPersonAnnotations', 'with_bbox': True},
    {'type': 'mmps.PackPersonSearchInputs', 'meta_keys': ['img_id', 'ori_shape']},
]


def empty(path):
    path.write_bytes(b'')


def words(path):
    path.write_text('no image')


def cut_off(path):
    path.write_bytes(path.read_bytes()[:100])


def pixel(path):
    Image.new('RGB', (1, 1)).save(path)


BAD = {empty: 'empty file', words: 'damaged image', cut_off: 'damaged image', pixel: '1 x 1 pixels'}


@pytest.fixture
def many(tmp_path):
    """many(test_mode) makes a CUHK-SYSU of 200 training and 4 test images."""
    scenes = {f's{i:03}.jpg': [(10, 10, 20, 40)] for i in range(200)}
    root = write_cuhk_sysu(
        tmp_path / 'many',
        scenes | {name: boxes for name, boxes in CUHK_SCENES.items() if name[0] == 't'},
        [[('s000.jpg', (10, 10, 20, 40))]],
    )
    return lambda test_mode=False: CUHKSYSU(data_root=str(root), test_mode=test_mode, pipeline=LOAD)


def path_of(dataset, idx):
    return dataset.image_folder() / dataset.get_data_info(idx)['img_name']


@pytest.mark.parametrize('spoil', BAD)
def test_a_test_stops_at_the_first_image_that_cannot_be_used(many, spoil):
    dataset = many(test_mode=True)
    path = path_of(dataset, 0)
    spoil(path)
    with pytest.raises(ValueError, match=rf'^{path}: {BAD[spoil]}; expected an image of CUHKSYSU$'):
        dataset[0]
    assert dataset[1]['inputs'].shape == (3, 70, 120)


@pytest.mark.parametrize('spoil', BAD)
def test_training_skips_a_bad_image_and_warns_once(many, spoil, counted, monkeypatch):
    dataset = many()
    path = path_of(dataset, 7)
    spoil(path)
    monkeypatch.setattr(np.random, 'randint', None)  # nothing is drawn for it: what else is drawn stays as it would be
    assert [dataset[7]['data_samples'].img_id for _ in range(3)] == [8, 8, 8]
    assert counted == [f'skipped, 1 of 200 images so far: {path}: {BAD[spoil]}']


@pytest.mark.parametrize('spoil', BAD)
def test_a_bad_image_has_no_size_and_keeps_its_boxes(tmp_path, spoil):
    root = write_prw(tmp_path / 'prw')
    spoil(root / 'frames/c2s1_000002.jpg')
    dataset = PRW(data_root=str(root))
    size = 'height', 'width'
    known = spoil is cut_off and [dataset.get_data_info(1)[name] for name in size] == [60, 100]  # its header is whole
    assert known or [dataset.get_data_info(1)[name] for name in size] == [0, 0]
    assert len(dataset.get_data_info(1)['instances']) == 2


@pytest.fixture
def log(tmp_path):
    """Returns the file to which MMEngine's logger writes, from every process."""
    MMLogger.get_instance('bad input', log_file=str(tmp_path / 'log'))
    yield tmp_path / 'log'
    MMLogger._instance_dict.pop('bad input')


@pytest.mark.parametrize('workers, persistent', [(0, False), (2, False), (2, True)])
def test_more_than_one_percent_of_bad_images_ends_training_with_any_workers(many, workers, persistent, log):
    dataset = many()
    paths = [path_of(dataset, idx) for idx in (5, 6, 199)]
    for path in paths[:2]:
        words(path)
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=workers,
        collate_fn=list,
        persistent_workers=persistent,
        multiprocessing_context='fork' if workers else None,
    )
    for _ in range(2):
        read = [sample['data_samples'].img_id for batch in loader for sample in batch]
        assert read == [7 if idx in (5, 6) else idx for idx in range(200)]
    for path in paths[:2]:
        assert log.read_text().count(str(path)) == 1
    assert '2 of 200 images so far' in log.read_text()
    words(paths[2])
    with pytest.raises(ValueError, match=rf'{paths[2]}: damaged image; expected images of CUHKSYSU, but 3 of 200 [^\n]* 1%'):
        list(loader)


@pytest.mark.parametrize('test_mode', [False, True])
def test_a_missing_image_ends_training_and_test_at_once(many, test_mode):
    dataset = many(test_mode)
    path = path_of(dataset, 0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf'^{path}: no such file; expected an image of CUHKSYSU$'):
        dataset[0]


def test_an_error_of_a_transform_is_not_hidden(cuhk_sysu):
    def broken(results):
        raise RuntimeError('mine')

    with pytest.raises(RuntimeError, match='mine'):
        CUHKSYSU(data_root=str(cuhk_sysu), pipeline=[broken])[0]
