"""Writes small data sets with the structure of the real files."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

NOTHING = np.zeros((1, 0))


def cell(values):
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


def struct(rows, *fields):
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    array[0] = rows
    return array


def appearance(name, box, dtype=np.uint16):
    return name, NOTHING if box is None else np.array([box], dtype=dtype), np.uint8(0)


def write_image(path: Path, width: int, height: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)


# Boxes are [x y w h]. Scenes s1 to s4 train, t1 to t4 test.
CUHK_SCENES = {
    's1.jpg': [(10, 10, 20, 40), (50, 12, 20, 44), (80, 5, 0, 30)],
    't1.jpg': [(5, 5, 20, 50), (40, 8, 22, 48)],
    's2.jpg': [(12, 11, 21, 41)],
    't2.jpg': [(60, 9, 20, 50), (10, 10, 20, 0)],
    's3.jpg': [(30, 30, 10, 20), (30, 30, 10, 20)],
    't3.jpg': [(7, 7, 14, 30)],
    's4.jpg': [],
    't4.jpg': [(15, 5, 20, 55)],
}
CUHK_PERSONS = [[('s2.jpg', (12, 11, 21, 41)), ('s1.jpg', (50, 12, 20, 44))], [('s3.jpg', (30, 30, 10, 20))]]
CUHK_QUERIES = [
    (('t4.jpg', (15, 5, 20, 55)), [('t1.jpg', (5, 5, 20, 50)), ('t3.jpg', None)]),
    (('t1.jpg', (40, 8, 22, 48)), [('t2.jpg', (60, 9, 20, 50)), ('t3.jpg', (7, 7, 14, 30)), ('t4.jpg', None)]),
]


def protocol_rows(queries, hard=()):
    fields = ('imname', 'idlocate', 'ishard')
    return struct(
        [
            (
                struct([(*appearance(*query)[:2], np.uint8(i in hard), f'p{i}')], *fields, 'idname'),
                struct([appearance(*entry) for entry in gallery], *fields),
            )
            for i, (query, gallery) in enumerate(queries)
        ],
        'Query',
        'Gallery',
    )


def write_protocol(path: Path, key: str, queries=CUHK_QUERIES, hard=(), compressed=True):
    """Writes a protocol file. ``hard`` has the indices of the queries that are marked as hard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: protocol_rows(queries, hard)}, do_compression=compressed)


def write_cuhk_sysu(
    root: Path,
    scenes=CUHK_SCENES,
    persons=CUHK_PERSONS,
    queries=CUHK_QUERIES,
    pool=('t4.jpg', 't1.jpg', 't2.jpg', 't3.jpg'),
    with_images=True,
    dtype=np.uint16,
):
    (root / 'annotation/test/train_test').mkdir(parents=True, exist_ok=True)
    savemat(
        root / 'annotation/Images.mat',
        {
            'Img': struct(
                [
                    (
                        name,
                        len(boxes),
                        struct([(np.array([box], dtype=dtype), np.uint8(0)) for box in boxes], 'idlocate', 'ishard'),
                    )
                    for name, boxes in scenes.items()
                ],
                'imname',
                'nAppear',
                'box',
            )
        },
    )
    savemat(root / 'annotation/pool.mat', {'pool': cell(list(pool))})
    savemat(
        root / 'annotation/test/train_test/Train.mat',
        {
            'Train': cell(
                [
                    struct(
                        [
                            (
                                f'p{i}',
                                len(seen),
                                struct([appearance(*one, dtype) for one in seen], 'imname', 'idlocate', 'ishard'),
                            )
                        ],
                        'idname',
                        'nAppear',
                        'scene',
                    )
                    for i, seen in enumerate(persons)
                ]
            )
        },
    )
    write_protocol(root / 'annotation/test/train_test/TestG100.mat', 'TestG100', queries)
    for name in scenes if with_images else ():
        write_image(root / 'Image/SSM' / name, 120, 70)
    return root


# Rows [id x y w h]: 932 and -2 as in the real data, negative coordinates, a box past the 100 x 60 frame.
PRW_FRAMES = {
    'c1s1_000001': ('box_new', [(932, -3, 5, 20, 40), (-2, 40, -6, 20, 40)]),
    'c2s1_000002': ('anno_file', [(7, 10, 10, 20, 40), (483, 90, 30, 20, 40)]),
    'c1s2_000003': ('anno_previous', [(-2, 10, 10, 20, 40)]),
    'c3s1_000004': ('box_new', [(1, 10, 10, 20, 40), (5, 50, 10, 20, 40)]),
    'c6s1_000005': ('box_new', [(5, 20, 10, 20, 40), (-2, 60, 10, 20, 40)]),
    'c2s3_000006': ('box_new', [(5, 30, -4, 20, 40), (1, 60, 10, 20, 40)]),
}
PRW_QUERIES = '5 50 10 20 40 c3s1_000004\n1 60 10 20 40 c2s3_000006\n'


def write_prw(root: Path, frames=PRW_FRAMES, queries=PRW_QUERIES):
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    names = list(frames)
    for name, (key, rows) in frames.items():
        savemat(root / f'annotations/{name}.jpg.mat', {key: np.array(rows, dtype=float)})
        write_image(root / f'frames/{name}.jpg', 100, 60)
    savemat(root / 'frame_train.mat', {'img_index_train': cell(names[:3])})
    savemat(root / 'frame_test.mat', {'img_index_test': cell(names[3:])})
    (root / 'query_info.txt').write_text(queries)
    return root


# frame, id, x, y, w, h, flag, class, visibility: frames 1 to 8, two walkers, a car, a static person, one to ignore.
MOT_ROWS = [
    row
    for frame in range(1, 9)
    for row in (
        (frame, 3, 1 + 4 * frame, 11, 10, 20, 1, 1, 1.0),
        (frame, 8, 71 - 4 * frame, 11, 10, 20, 1, 1, 0.1 if frame == 6 else 0.9),
        (frame, 4, 30, 30, 20, 10, 1, 3, 1.0),
        (frame, 5, 60, 30, 10, 20, 0, 7, 1.0),
        (frame, 6, -5, 30, 10, 20, 0, 1, 0.7),
    )
]
SEQINFO = '[Sequence]\nname={}\nimDir=img1\nframeRate=30\nseqLength=8\nimWidth=100\nimHeight=60\nimExt=.jpg\n'


def write_mot(folder: Path, rows=MOT_ROWS, frames=range(1, 9)):
    (folder / 'gt').mkdir(parents=True, exist_ok=True)
    (folder / 'gt/gt.txt').write_text(''.join(','.join(map(str, row)) + '\n' for row in rows))
    (folder / 'seqinfo.ini').write_text(SEQINFO.format(folder.name))
    for frame in frames:
        write_image(folder / f'img1/{frame:06d}.jpg', 100, 60)
    return folder
