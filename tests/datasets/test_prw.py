import json
import re
import shutil

import numpy as np
from scipy.io import savemat
from small_datasets import PRW_QUERIES, cell, write_prw

from mmps.datasets import PRW


def people(dataset):
    return [
        [(tuple(person['bbox']), person['person_id']) for person in dataset.get_data_info(i)['instances']]
        for i in range(len(dataset))
    ]


def test_training_ids_are_contiguous_in_sorted_order_and_boxes_are_inside_the_frame(prw):
    dataset = PRW(data_root=str(prw))
    assert dataset.metainfo['num_identities'] == 3
    assert dataset.metainfo['dataset_type'] == 'PRW'
    assert people(dataset) == [
        [((0, 5, 17, 45), 2), ((40, 0, 60, 34), -1)],
        [((10, 10, 30, 50), 0), ((90, 30, 100, 60), 1)],
        [((10, 10, 30, 50), -1)],
    ]
    info = dataset.get_data_info(1)
    assert (info['img_name'], info['cam_id'], info['height'], info['width']) == ('c2s1_000002.jpg', 2, 60, 100)


def test_without_frames_only_negative_coordinates_are_clipped(prw):
    for frame in (prw / 'frames').iterdir():
        frame.unlink()
    boxes = people(PRW(data_root=str(prw)))
    assert boxes[0][0] == ((0, 5, 17, 45), 2)
    assert boxes[1][1] == ((90, 30, 110, 70), 1)


def test_every_other_test_frame_is_searched_for_the_queries_identity(prw):
    dataset = PRW(data_root=str(prw), test_mode=True)
    protocol = dataset.metainfo['protocol']
    assert protocol.images == ('c3s1_000004.jpg', 'c6s1_000005.jpg', 'c2s3_000006.jpg')
    assert protocol.galleries is None
    np.testing.assert_array_equal(protocol.cameras, [3, 6, 2])
    np.testing.assert_array_equal(protocol.query_images, [0, 2])
    np.testing.assert_array_equal(protocol.query_boxes, [[50, 10, 70, 50], [60, 10, 80, 50]])
    np.testing.assert_array_equal(protocol.query_person_ids, [1, 0])
    np.testing.assert_array_equal(protocol.target_queries, [0, 0, 1])
    np.testing.assert_array_equal(protocol.target_images, [1, 2, 0])
    np.testing.assert_array_equal(protocol.target_boxes, [[20, 10, 40, 50], [30, 0, 50, 36], [10, 10, 30, 50]])
    assert dataset.get_data_info(2)['queries'] == [{'bbox': [60, 10, 80, 50], 'query_id': 1}]


def test_frame_names_may_carry_their_extension(prw):
    (prw / 'query_info.txt').write_text(PRW_QUERIES.replace('000004', '000004.jpg'))
    assert PRW(data_root=str(prw), test_mode=True).metainfo['protocol'].num_queries == 2


def test_boxes_without_area_inside_the_frame_are_dropped(tmp_path):
    rows = {
        'c1s1_1': [(1, -30, 5, 20, 40), (2, 5, 5, 0, 9), (3, 1, 1, 9, 9)],
        'c1s1_2': np.zeros((0, 5)),
        'c1s1_3': [(-2, 1, 1, 9, 9)],
        'c1s1_4': [(1, 1, 1, 9, 9)],
    }
    root = write_prw(tmp_path / 'prw', {frame: ('box_new', held) for frame, held in rows.items()})
    assert [len(boxes) for boxes in people(PRW(data_root=str(root)))] == [1, 0, 1]


def test_published_frames_load_with_every_id_and_box(real_data, tmp_path):
    """Writes forty real frames in PRW's format, as a training split."""
    published = json.loads(real_data('prw/test_pid.json').read_text())
    names = [re.sub(r'\.jpg$', '', image['file_name']) for image in published['images'][:40]]
    rows = {name: [] for name in names}
    for annotation in published['annotations']:
        if annotation['image_id'] < 40:
            rows[names[annotation['image_id']]].append((annotation['person_id'], *annotation['bbox']))
    root = write_prw(tmp_path / 'real', {name: ('anno_file', np.array(held).reshape(-1, 5)) for name, held in rows.items()}, '')
    savemat(root / 'frame_train.mat', {'img_index_train': cell(names)})
    shutil.rmtree(root / 'frames')
    loaded = people(PRW(data_root=str(root)))
    ids = sorted({row[0] for held in rows.values() for row in held if row[0] >= 0})
    for name, held in zip(names, loaded, strict=True):
        assert [person_id for _, person_id in held] == [ids.index(i) if i >= 0 else -1 for i, *_ in rows[name]]
        assert [box for box, _ in held] == [(max(x, 0), max(y, 0), x + w, y + h) for _, x, y, w, h in rows[name]]
