import numpy as np
import pytest
from small_datasets import MOT_ROWS, write_mot

from mmps.datasets import MOTChallenge


def names(dataset):
    return [dataset.get_data_info(i)['img_name'] for i in range(len(dataset))]


def people(dataset, index):
    return [
        (tuple(person['bbox']), person['person_id'], person['ignore_flag'])
        for person in dataset.get_data_info(index)['instances']
    ]


def test_the_first_frames_train_and_the_rest_test(mot):
    training = MOTChallenge(data_root=str(mot), train_fraction=0.25)
    assert names(training) == ['MOT16-02/img1/000001.jpg', 'MOT16-02/img1/000002.jpg']
    assert training.metainfo['num_identities'] == 2
    testing = MOTChallenge(data_root=str(mot), test_mode=True, train_fraction=0.25, frame_gap=2)
    assert names(testing) == [f'MOT16-02/img1/{frame:06d}.jpg' for frame in range(3, 9)]
    assert testing.get_data_info(0)['img_path'] == str(mot / 'train/MOT16-02/img1/000003.jpg')
    assert testing.get_data_info(0)['img_id'] == 0


def test_pixels_count_from_one_and_only_clear_pedestrians_have_an_id(mot):
    dataset = MOTChallenge(data_root=str(mot), train_fraction=0.75)
    assert people(dataset, 0) == [
        ((4, 10, 14, 30), 0, 0),  # walker 3
        ((59, 29, 69, 49), -1, 1),  # static person
        ((0, 29, 4, 49), -1, 1),  # pedestrian to ignore, cut off by the border
        ((66, 10, 76, 30), 1, 0),  # walker 8; the car is gone
    ]
    assert people(dataset, 5)[-1] == ((46, 10, 56, 30), -1, 1)  # hardly visible
    assert people(MOTChallenge(data_root=str(mot), train_fraction=0.75, min_visibility=0.05), 5)[-1][1:] == (1, 0)


def test_a_gallery_has_no_frames_close_to_the_query(mot):
    dataset = MOTChallenge(data_root=str(mot), test_mode=True, train_fraction=0, frame_gap=3)
    protocol = dataset.metainfo['protocol']
    assert protocol.num_queries == 2
    np.testing.assert_array_equal(protocol.query_images, [0, 0])
    assert [gallery.tolist() for gallery in protocol.galleries] == [[3, 4, 5, 6, 7]] * 2
    np.testing.assert_array_equal(protocol.target_images[protocol.target_queries == 0], [3, 4, 5, 6, 7])
    np.testing.assert_array_equal(protocol.target_images[protocol.target_queries == 1], [3, 4, 6, 7])  # 5: ignored
    np.testing.assert_array_equal(protocol.query_boxes, [[4, 10, 14, 30], [66, 10, 76, 30]])


def test_tracks_of_two_sequences_are_different_people_and_all_frames_of_others_are_searched(mot):
    write_mot(mot / 'train/MOT16-04')
    assert MOTChallenge(data_root=str(mot)).metainfo['num_identities'] == 4
    protocol = MOTChallenge(data_root=str(mot), test_mode=True, train_fraction=0, frame_gap=6).metainfo['protocol']
    assert protocol.num_queries == 4
    assert protocol.galleries[0].tolist() == [6, 7, *range(8, 16)]
    np.testing.assert_array_equal(protocol.cameras, [0] * 8 + [1] * 8)


def test_drawn_galleries_hold_all_targets_and_depend_on_the_seed_alone(mot):
    write_mot(mot / 'train/MOT16-04')

    def galleries(seed):
        protocol = MOTChallenge(
            data_root=str(mot), test_mode=True, train_fraction=0, frame_gap=6, gallery_size=5, seed=seed
        ).metainfo['protocol']
        for query, gallery in enumerate(protocol.galleries):
            assert len(gallery) == 5
            assert np.isin(protocol.target_images[protocol.target_queries == query], gallery).all()
        return [gallery.tolist() for gallery in protocol.galleries]

    assert galleries(0) == galleries(0) != galleries(1)


def test_a_scene_listed_for_each_detector_is_used_once(tmp_path):
    for name in ('MOT17-02-SDP', 'MOT17-02-DPM', 'MOT17-02-FRCNN', 'MOT17-04-SDP'):
        write_mot(tmp_path / 'mot17/train' / name)
    folder = str(tmp_path / 'mot17')
    first = MOTChallenge(data_root=folder)
    assert {name.split('/')[0] for name in names(first)} == {'MOT17-02-DPM', 'MOT17-04-SDP'}
    chosen = MOTChallenge(data_root=folder, sequences=['MOT17-02-SDP'])
    assert {name.split('/')[0] for name in names(chosen)} == {'MOT17-02-SDP'}


@pytest.mark.parametrize('below', ['', 'train', 'train/MOT16-02'])
def test_data_root_may_be_the_challenge_its_split_or_one_sequence(mot, below, monkeypatch):
    expected = [f'MOT16-02/img1/{frame:06d}.jpg' for frame in range(1, 5)]
    assert names(MOTChallenge(data_root=str(mot / below))) == expected
    monkeypatch.chdir(mot / below)
    assert names(MOTChallenge(data_root='.')) == expected


@pytest.mark.parametrize('ending', [(17.2, 3.1, 0), (-1, -1, -1), (-1, -1)])
def test_rows_of_mot15_are_all_visible_pedestrians(tmp_path, ending):
    write_mot(tmp_path / 'mot15/train/PETS09-S2L1', [(*row[:7], *ending) for row in MOT_ROWS])
    dataset = MOTChallenge(data_root=str(tmp_path / 'mot15'))
    assert dataset.metainfo['num_identities'] == 3
    assert [ignored for _, _, ignored in people(dataset, 0)] == [0, 0, 1, 1, 0]


def test_only_frames_with_an_image_are_used(mot):
    (mot / 'train/MOT16-02/img1/000003.jpg').unlink()
    dataset = MOTChallenge(data_root=str(mot), train_fraction=1)
    assert len(dataset) == 7
    assert people(dataset, 2)[0] == ((16, 10, 26, 30), 0, 0)


def test_real_sample_loads(real_data):
    root = real_data('mot17-mini')
    training = MOTChallenge(data_root=str(root))
    assert names(training) == [f'MOT17-04-FRCNN/img1/{frame:06d}.jpg' for frame in range(1, 5)]
    first = training.get_data_info(0)
    assert (first['height'], first['width']) == (1080, 1920)
    assert {'bbox': [1362, 568, 1465, 809], 'bbox_label': 0, 'ignore_flag': 0, 'person_id': 0} in first['instances']
    ids = [person['person_id'] for person in first['instances']]
    assert 0 < training.metainfo['num_identities'] == max(ids) + 1
    testing = MOTChallenge(data_root=str(root), test_mode=True, frame_gap=2)
    protocol = testing.metainfo['protocol']
    assert 0 < protocol.num_queries <= training.metainfo['num_identities'] + 5
    assert all(set(gallery.tolist()) <= {2, 3} for gallery in protocol.galleries if len(gallery) < 3)
    carried = [query for i in range(len(testing)) for query in testing.get_data_info(i).get('queries', [])]
    assert sorted(query['query_id'] for query in carried) == list(range(protocol.num_queries))
