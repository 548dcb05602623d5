import numpy as np
import pytest

from mmps.evaluation import SearchProtocol

BOX = np.array([0, 0, 40, 80], np.float32)


def from_galleries(**changes):
    arguments = {
        'images': ['a', 'b', 'c'],
        'cameras': None,
        'query_images': ['a'],
        'query_boxes': BOX[None],
        'query_person_ids': [7],
        'galleries': [[('c', BOX), ('b', None)]],
    }
    return SearchProtocol.from_galleries(**{**arguments, **changes})


def from_identities(**changes):
    arguments = {
        'images': ['a', 'b', 'c'],
        'cameras': [0, 0, 1],
        'boxes': [BOX[None], [BOX + 1, BOX + 2], [BOX]],
        'person_ids': [[7], [7, 7], [7]],
        'query_images': ['a'],
        'query_boxes': BOX[None],
        'query_person_ids': [7],
    }
    return SearchProtocol.from_identities(**{**arguments, **changes})


def test_a_listed_gallery_keeps_its_order_and_its_images_once():
    protocol = from_galleries(galleries=[[('c', BOX), ('b', None), ('c', BOX + 1)]])
    assert protocol.gallery(0).tolist() == [2, 1]
    assert protocol.target_boxes[~protocol.repeated].tolist() == [BOX.tolist()]


def test_a_listed_gallery_may_hold_the_query_image():
    assert from_galleries(galleries=[[('a', BOX), ('b', None)]]).gallery(0).tolist() == [0, 1]


def test_identities_are_sought_in_all_other_images_at_their_first_box():
    protocol = from_identities()
    assert protocol.gallery(0).tolist() == [1, 2]
    assert protocol.target_images.tolist() == [1, 2]
    assert protocol.target_boxes[0].tolist() == (BOX + 1).tolist()


def test_other_cameras_leave_out_the_images_and_targets_of_the_query_camera():
    protocol = from_identities()
    assert protocol.gallery(0, 'other').tolist() == [2]
    assert protocol.sought('other').tolist() == [False, True]


@pytest.mark.parametrize(('camera', 'images', 'sought'), [(0, [1], [True, False]), (1, [2], [False, True])])
def test_one_camera_keeps_its_images_and_targets_without_the_query_image(camera, images, sought):
    protocol = from_identities()
    assert protocol.gallery(0, camera).tolist() == images
    assert protocol.sought(camera).tolist() == sought


def test_one_camera_keeps_the_query_image_if_the_gallery_lists_it():
    protocol = from_galleries(cameras=[3, 4, 3], galleries=[[('c', BOX), ('b', None), ('a', None)]])
    assert protocol.gallery(0, 3).tolist() == [2, 0] and protocol.gallery(0, np.int64(4)).tolist() == [1]


@pytest.mark.parametrize('cameras', ['others', 2, -1, True, None, [0], 0.5])
def test_an_unknown_camera_is_refused_with_the_known_ones(cameras):
    for method in (lambda: from_identities().gallery(0, cameras), lambda: from_identities().sought(cameras)):
        with pytest.raises(ValueError, match=r"^cameras: expected 'all', 'other' or one of the cameras \[0, 1\], got .+$"):
            method()


def by_hand(**changes):
    """Makes queries 0 and 1 in images a and b, query 2 in a, and targets in shuffled order."""
    arguments = {
        'images': ('a', 'b', 'c', 'd'),
        'cameras': [0, 0, 0, 1],
        'query_images': [0, 1, 0],
        'query_boxes': [BOX, BOX + 1, BOX + 2],
        'query_person_ids': [7, 8, 9],
        'target_queries': [1, 0, 1],
        'target_images': [2, 1, 0],
        'target_boxes': [BOX + 12, BOX + 1, BOX + 10],
    }
    return SearchProtocol(**{**arguments, **changes})


def test_a_query_without_a_listed_gallery_searches_every_other_image():
    protocol = by_hand(galleries=([1], None, np.array([0, 3])))
    assert [protocol.gallery(query).tolist() for query in range(3)] == [[1], [0, 2, 3], [0, 3]]
    assert protocol.gallery(1, 'other').tolist() == [3]


def test_only_a_query_without_a_listed_gallery_must_not_have_a_target_in_its_own_image():
    own = {'target_queries': [0], 'target_images': [0], 'target_boxes': [BOX]}
    assert by_hand(**own, galleries=([0], None, None)).num_targets == 1
    with pytest.raises(ValueError, match=r"query 0 \(image 'a'\) has a target in its own image, which is not searched"):
        by_hand(**own, galleries=(None, [0], [0]))


@pytest.mark.parametrize('galleries', [None, ([1], None, [0, 3])])
def test_a_subset_has_the_galleries_and_targets_of_its_queries(galleries):
    whole = by_hand(galleries=galleries)
    part = whole.subset([2, 1])
    assert part.images == whole.images and part.cameras.tolist() == whole.cameras.tolist()
    assert part.query_images.tolist() == [0, 1] and part.query_person_ids.tolist() == [9, 8]
    assert part.query_boxes.tolist() == [(BOX + 2).tolist(), (BOX + 1).tolist()]
    assert part.target_queries.tolist() == [1, 1] and part.target_images.tolist() == [0, 2]
    assert part.target_boxes.tolist() == [(BOX + 10).tolist(), (BOX + 12).tolist()]
    assert [part.gallery(query).tolist() for query in range(2)] == [whole.gallery(query).tolist() for query in (2, 1)]


@pytest.mark.parametrize(
    ('queries', 'message'),
    [
        ([3], 'subset: expected queries from 0 to 2, got 3'),
        ([0, -1], 'got -1'),
        ([], 'at least one query'),
        ([True, False, True], 'queries: expected whole numbers, got bool'),
    ],
)
def test_a_subset_of_other_queries_is_refused(queries, message):
    with pytest.raises(ValueError, match=message):
        by_hand().subset(queries)


def test_an_image_without_persons_is_part_of_the_pool():
    protocol = from_identities(boxes=[[BOX], [], [BOX]], person_ids=[[7], [], [7]])
    assert protocol.gallery(0).tolist() == [1, 2] and protocol.target_images.tolist() == [2]


@pytest.mark.parametrize(
    ('make', 'changes', 'message'),
    [
        (from_galleries, {'query_images': ['x']}, "query 0: its image 'x' is not in the pool"),
        (from_galleries, {'galleries': [[('x', None)]]}, r"query 0 \(image 'a'\): its gallery lists 'x', which is not"),
        (from_galleries, {'galleries': []}, 'galleries: expected one for each of the 1 queries, got 0'),
        (from_galleries, {'images': ['a', 'b', 'c', 'b']}, "image 'b' is listed twice"),
        (from_galleries, {'cameras': [0]}, r'cameras: expected shape \(3,\), got \(1,\)'),
        (from_galleries, {'query_boxes': BOX}, r'query_boxes: expected shape \(1, 4\), got \(4,\)'),
        (from_galleries, {'query_boxes': BOX[None] * np.nan}, 'query_boxes: row 0 is not finite'),
        (from_galleries, {'query_person_ids': [0.5]}, 'query_person_ids: expected whole numbers'),
        (
            from_galleries,
            {'query_images': [], 'query_boxes': [], 'query_person_ids': [], 'galleries': []},
            'at least one query',
        ),
        (from_identities, {'query_images': ['x']}, "query 0: its image 'x' is not in the pool"),
        (from_identities, {'query_person_ids': [-1]}, r"query 0 \(image 'a'\) has no identity"),
        (from_identities, {'boxes': [[BOX]]}, 'boxes: expected one array for each of the 3 images, got 1'),
        (from_identities, {'person_ids': [[7], [7], [7]]}, r"person_ids of image 'b': expected shape \(2,\), got \(1,\)"),
    ],
)
def test_a_wrong_argument_is_named(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'target_queries': [1]}, 'target 0 answers query 1, but there are 1 queries'),
        ({'target_images': [3]}, 'target_images: query 0 names 3, but there are 3 images'),
        ({'target_images': [0]}, r"query 0 \(image 'a'\) has a target in its own image"),
        ({'galleries': ([2],)}, r"query 0 \(image 'a'\) has a target in 'b', which its gallery does not list"),
        ({'galleries': ([1, -1],)}, 'galleries: query 0 names -1, but there are 3 images'),
        ({'query_images': [5]}, 'query_images: query 0 names 5, but there are 3 images'),
    ],
)
def test_a_protocol_made_by_hand_is_checked(changes, message):
    arguments = {
        'images': ('a', 'b', 'c'),
        'cameras': [0, 0, 0],
        'query_images': [0],
        'query_boxes': [BOX],
        'query_person_ids': [7],
        'target_queries': [0],
        'target_images': [1],
        'target_boxes': [BOX],
    }
    with pytest.raises(ValueError, match=message):
        SearchProtocol(**{**arguments, **changes})
