import numpy as np
import pytest
from scipy.io import loadmat
from small_datasets import write_cuhk_sysu

from mmps.datasets import CUHKSYSU
from mmps.evaluation.protocol import SearchProtocol


def people(dataset):
    return {
        info['img_name']: [(tuple(person['bbox']), person['person_id']) for person in info['instances']]
        for info in map(dataset.get_data_info, range(len(dataset)))
    }


def test_training_scenes_are_all_but_the_pool_with_ids_in_the_order_of_train_mat(cuhk_sysu):
    dataset = CUHKSYSU(data_root=str(cuhk_sysu))
    assert dataset.metainfo['num_identities'] == 2
    assert dataset.metainfo['dataset_type'] == 'CUHKSYSU'
    assert dataset.metainfo['classes'] == ('person',)
    assert people(dataset) == {
        's1.jpg': [((10, 10, 30, 50), -1), ((50, 12, 70, 56), 0)],
        's2.jpg': [((12, 11, 33, 52), 0)],
        's3.jpg': [((30, 30, 40, 50), 1), ((30, 30, 40, 50), -1)],
        's4.jpg': [],
    }


def test_every_data_info_has_its_images_path_and_size(cuhk_sysu):
    info = CUHKSYSU(data_root=str(cuhk_sysu)).get_data_info(0)
    assert info['img_path'] == str(cuhk_sysu / 'Image/SSM/s1.jpg')
    assert (info['height'], info['width'], info['cam_id'], info['img_id']) == (70, 120, 0, 0)
    assert all(person['bbox_label'] == person['ignore_flag'] == 0 for person in info['instances'])


def test_the_size_of_a_missing_image_is_zero(cuhk_sysu):
    (cuhk_sysu / 'Image/SSM/s1.jpg').unlink()
    assert CUHKSYSU(data_root=str(cuhk_sysu)).get_data_info(0)['height'] == 0


def test_test_boxes_have_the_id_of_the_query_they_belong_to(cuhk_sysu):
    assert people(CUHKSYSU(data_root=str(cuhk_sysu), test_mode=True)) == {
        't4.jpg': [((15, 5, 35, 60), 0)],
        't1.jpg': [((5, 5, 25, 55), 0), ((40, 8, 62, 56), 1)],
        't2.jpg': [((60, 9, 80, 59), 1)],
        't3.jpg': [((7, 7, 21, 37), 1)],
    }


def test_protocol_lists_each_query_with_its_gallery_and_targets(cuhk_sysu):
    dataset = CUHKSYSU(data_root=str(cuhk_sysu), test_mode=True)
    protocol = dataset.metainfo['protocol']
    assert protocol.images == ('t4.jpg', 't1.jpg', 't2.jpg', 't3.jpg')
    assert protocol.images == tuple(dataset.get_data_info(i)['img_name'] for i in range(4))
    np.testing.assert_array_equal(protocol.query_images, [0, 1])
    np.testing.assert_array_equal(protocol.query_boxes, [[15, 5, 35, 60], [40, 8, 62, 56]])
    assert [gallery.tolist() for gallery in protocol.galleries] == [[1, 3], [2, 3, 0]]
    np.testing.assert_array_equal(protocol.target_queries, [0, 1, 1])
    np.testing.assert_array_equal(protocol.target_images, [1, 2, 3])
    np.testing.assert_array_equal(protocol.target_boxes, [[5, 5, 25, 55], [60, 9, 80, 59], [7, 7, 21, 37]])
    assert dataset.get_data_info(0)['queries'] == [{'bbox': [15, 5, 35, 60], 'query_id': 0}]
    assert dataset.get_data_info(1)['queries'] == [{'bbox': [40, 8, 62, 56], 'query_id': 1}]
    assert 'queries' not in dataset.get_data_info(2)


def test_one_identity_one_query_and_one_test_scene_are_enough(tmp_path):
    root = write_cuhk_sysu(
        tmp_path / 'tiny',
        {'s.jpg': [(1, 2, 3, 4)], 't.jpg': [(5, 6, 7, 8)]},
        [[('s.jpg', (1, 2, 3, 4))]],
        [(('t.jpg', (5, 6, 7, 8)), [('t.jpg', None)])],
        ['t.jpg'],
    )
    assert people(CUHKSYSU(data_root=str(root))) == {'s.jpg': [((1, 2, 4, 6), 0)]}
    assert people(CUHKSYSU(data_root=str(root), test_mode=True)) == {'t.jpg': [((5, 6, 12, 14), 0)]}


def test_a_warning_counts_labelled_boxes_that_images_mat_lacks(tmp_path, log_lines):
    persons = [[('s2.jpg', (12, 11, 21, 41))] * 99 + [('s2.jpg', (1, 1, 21, 41))]]
    root = write_cuhk_sysu(tmp_path / 'odd', {'s2.jpg': [(12, 11, 21, 41)]}, persons, [], [])
    assert CUHKSYSU(data_root=str(root)).metainfo['num_identities'] == 1
    assert len(log_lines) == 1 and '1 of 100 labelled boxes' in log_lines[0]


def test_empty_scenes_are_dropped_in_training_only(cuhk_sysu):
    options = {'data_root': str(cuhk_sysu), 'filter_cfg': {'filter_empty_gt': True}}
    training = CUHKSYSU(**options)
    assert [training.get_data_info(i)['img_name'] for i in range(len(training))] == ['s1.jpg', 's2.jpg', 's3.jpg']
    assert len(CUHKSYSU(**options, test_mode=True)) == 4
    assert len(CUHKSYSU(data_root=str(cuhk_sysu), filter_cfg={'min_size': 70})) == 4


@pytest.mark.soak
def test_the_published_protocol_is_read_as_published(real_data, tmp_path):
    """Makes scenes and boxes from TestG100 itself, and compares the protocol with one built entry by entry."""
    source = real_data('cuhk-sysu/TestG100.mat')
    boxes, queries, galleries = {}, [], []
    for row in loadmat(source)['TestG100'].ravel():
        query = row['Query'][0, 0]
        queries.append((str(query[0][0]), query[1][0].astype(float)))
        galleries.append(
            [(str(name[0]), box[0].astype(float) if box.size else None) for name, box, _ in row['Gallery'].ravel()]
        )
        for name, box in [queries[-1], *galleries[-1]]:
            boxes.setdefault(name, {}).update({} if box is None else {tuple(box): None})
    assert len(queries) == 2900
    root = write_cuhk_sysu(tmp_path / 'real', boxes, [], [], list(boxes), with_images=False)
    (root / 'annotation/test/train_test/TestG100.mat').write_bytes(source.read_bytes())
    dataset = CUHKSYSU(data_root=str(root), test_mode=True)

    def corners(box):
        return None if box is None else np.concatenate([box[:2], box[:2] + box[2:]])

    expected = SearchProtocol.from_galleries(
        list(boxes),
        None,
        [name for name, _ in queries],
        np.stack([corners(box) for _, box in queries]),
        np.arange(2900),
        [[(name, corners(box)) for name, box in gallery] for gallery in galleries],
    )
    protocol = dataset.metainfo['protocol']
    assert protocol.images == expected.images
    for name in ('query_images', 'query_boxes', 'query_person_ids', 'target_queries', 'target_images', 'target_boxes'):
        np.testing.assert_array_equal(getattr(protocol, name), getattr(expected, name))
    for ours, theirs in zip(protocol.galleries, expected.galleries, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    hard = dataset.search('hard')
    assert len(hard.rows) == hard.protocol.num_queries == 193
    np.testing.assert_array_equal(hard.protocol.query_boxes, protocol.query_boxes[hard.rows])
    everywhere = dataset.search('full set').protocol
    assert [query for query, listed in enumerate(everywhere.galleries) if listed is not None] == [493, 2132]
    for query in (0, 1234, 2899):
        image = dataset.get_data_info(int(protocol.query_images[query]))
        box = protocol.query_boxes[query].tolist()
        assert {'bbox': box, 'query_id': query} in image['queries']
        assert (box, query) in [(person['bbox'], person['person_id']) for person in image['instances']]
