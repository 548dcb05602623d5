"""Compares a data set's searches with its files, entry by entry."""

import numpy as np
import pytest
from small_datasets import write_cuhk_sysu, write_mot, write_protocol

from mmps.datasets import CUHKSYSU, PRW, MOTChallenge
from mmps.fileio.annotations import AnnotationError

RNG = np.random.default_rng(7)
SCENES = {f's{i}.jpg': [(10 * person + 1, i + 1, 8, 30) for person in range(3)] for i in range(20)}
POOL = list(reversed(SCENES))
QUERIES = [(f's{i}.jpg', SCENES[f's{i}.jpg'][0]) for i in (3, 8, 0, 12, 19)]
PROTOCOLS = 'annotation/test/train_test'
OCCLUDED, LOW_RESOLUTION = 'annotation/test/subset/Occlusion.mat', 'annotation/test/subset/Resolution.mat'


def drawn(count, own=()):
    """Makes galleries of ``count`` images for QUERIES, two or three with a target. Queries in ``own`` list their own image."""
    galleries = []
    for query, (image, box) in enumerate(QUERIES):
        names = RNG.permutation([name for name in POOL if name != image])[:count].tolist()
        targets = {name: SCENES[name][1] for name in names[: 2 + query % 2]}
        if query in own:
            names[-1], targets[image] = image, box
        galleries.append([(name, targets.get(name)) for name in RNG.permutation(names).tolist()])
    return list(zip(QUERIES, galleries, strict=True))


LISTED = {50: drawn(5, own=(1,)), 100: drawn(8, own=(1, 4)), 500: drawn(12), 1000: drawn(14), 2000: drawn(16), 4000: drawn(19)}
EVERY_SIZE = [f'gallery {size}' for size in LISTED]


@pytest.fixture
def root(tmp_path):
    root = write_cuhk_sysu(tmp_path / 'sizes', SCENES, [], [], POOL, with_images=False)
    for size, queries in LISTED.items():
        write_protocol(root / PROTOCOLS / f'TestG{size}.mat', f'TestG{size}', queries, hard=(4, 2) if size == 100 else (0,))
    return root


def load(root, **options):
    return CUHKSYSU(data_root=str(root), test_mode=True, **options)


def corners(box):
    x, y, w, h = box
    return [x, y, x + w, y + h]


def asked(search):
    """Returns for each query of a search its image, box, gallery and targets (image, box)."""
    protocol = search.protocol
    return [
        (
            protocol.images[image],
            box,
            [protocol.images[i] for i in protocol.gallery(query, search.cameras)],
            {
                (protocol.images[i], *target)
                for i, target in zip(
                    protocol.target_images[protocol.target_queries == query].tolist(),
                    protocol.target_boxes[protocol.target_queries == query].tolist(),
                    strict=True,
                )
            },
        )
        for query, (image, box) in enumerate(zip(protocol.query_images.tolist(), protocol.query_boxes.tolist(), strict=True))
    ]


def listed(queries):
    """Returns the same for a file's rows."""
    return [
        (
            image,
            corners(box),
            [name for name, _ in gallery],
            {(name, *corners(target)) for name, target in gallery if target is not None},
        )
        for (image, box), gallery in queries
    ]


def in_all_images(queries):
    return [
        (image, box, [name for name in POOL if name != image or image in gallery], targets)
        for image, box, gallery, targets in listed(queries)
    ]


def assert_rows_lead_to_the_same_queries(dataset, search):
    headline, protocol = dataset.metainfo['protocol'], search.protocol
    rows = np.arange(headline.num_queries) if search.rows is None else search.rows
    np.testing.assert_array_equal(headline.query_images[rows], protocol.query_images)
    np.testing.assert_array_equal(headline.query_boxes[rows], protocol.query_boxes)
    np.testing.assert_array_equal(headline.query_person_ids[rows], protocol.query_person_ids)


@pytest.mark.parametrize('size', LISTED)
def test_every_gallery_size_equals_its_file(root, size):
    search = load(root).search(f'gallery {size}')
    assert asked(search) == listed(LISTED[size]) and search.rows is None


@pytest.mark.parametrize('headline', [50, 100, 4000])
def test_the_full_set_searches_every_image_for_the_targets_of_the_smallest_gallery(root, headline):
    dataset = load(root, gallery_size=headline)
    assert asked(dataset.search('full set')) == in_all_images(LISTED[50])
    (root / PROTOCOLS / 'TestG50.mat').unlink()
    if headline != 50:
        assert asked(dataset.search('full set')) == in_all_images(LISTED[100])


def test_search_names_are_those_of_existing_files_ordered_by_size(root):
    dataset = load(root)
    assert dataset.search_names() == [*EVERY_SIZE, 'full set', 'hard']
    write_protocol(root / OCCLUDED, 'Occlusion1', LISTED[100][:1])
    write_protocol(root / LOW_RESOLUTION, 'Test_Size', LISTED[100][:1])
    assert dataset.search_names() == [*EVERY_SIZE, 'full set', 'occluded', 'low resolution', 'hard']
    for size in (50, 500, 1000, 2000, 4000):
        (root / PROTOCOLS / f'TestG{size}.mat').unlink()
    assert dataset.search_names() == ['gallery 100', 'full set', 'occluded', 'low resolution', 'hard']


def test_without_hard_queries_there_is_no_hard_search(cuhk_sysu):
    assert load(cuhk_sysu).search_names() == ['gallery 100', 'full set']


def test_hard_queries_are_those_marked_in_the_headline_file(root):
    for size, hard in ((100, [2, 4]), (500, [0])):
        dataset = load(root, gallery_size=size)
        search = dataset.search('hard')
        assert search.rows.tolist() == hard
        assert asked(search) == listed([LISTED[size][query] for query in hard])
        assert_rows_lead_to_the_same_queries(dataset, search)


@pytest.mark.parametrize(
    ('name', 'file', 'key'), [('occluded', OCCLUDED, 'Occlusion1'), ('low resolution', LOW_RESOLUTION, 'Test_Size')]
)
def test_a_subset_file_has_its_own_queries_and_galleries(root, name, file, key):
    queries = [LISTED[500][3], LISTED[1000][0]]
    write_protocol(root / file, key, queries)
    dataset = load(root)
    search = dataset.search(name)
    assert asked(search) == listed(queries) and search.rows.tolist() == [3, 0]
    assert_rows_lead_to_the_same_queries(dataset, search)


def test_queries_in_another_order_are_found_by_image_and_box(root):
    queries = [LISTED[500][query] for query in (4, 2, 0, 1, 3)]
    write_protocol(root / PROTOCOLS / 'TestG500.mat', 'TestG500', queries)
    dataset = load(root)
    search = dataset.search('gallery 500')
    assert asked(search) == listed(queries) and search.rows.tolist() == [4, 2, 0, 1, 3]
    assert_rows_lead_to_the_same_queries(dataset, search)


@pytest.mark.parametrize('query', [('s3.jpg', (1, 1, 9, 9)), ('s4.jpg', SCENES['s4.jpg'][0])])
def test_a_query_that_the_headline_protocol_does_not_have_is_named(root, query):
    write_protocol(root / OCCLUDED, 'Occlusion1', [LISTED[100][0], (query, [('s1.jpg', None)])])
    with pytest.raises(AnnotationError) as caught:
        load(root).search('occluded')
    message = str(caught.value)
    assert '\n' not in message
    for words in ('Occlusion.mat', 'TestG100.mat', 'query 1', repr(query[0]), str([float(x) for x in corners(query[1])])):
        assert words in message


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:300]), 'Occlusion.mat: expected a MATLAB file'),
        (lambda path: write_protocol(path, 'Occlusion', LISTED[100]), 'Occlusion.mat: expected the key Occlusion1'),
        (lambda path: write_protocol(path, 'Occlusion1', [(QUERIES[0], [('x.jpg', None)])]), "pool.mat, got 'x.jpg'"),
    ],
)
def test_a_search_file_with_wrong_content_is_named_when_it_is_read(root, damage, message):
    write_protocol(root / OCCLUDED, 'Occlusion1', LISTED[100][:1])
    damage(root / OCCLUDED)
    dataset = load(root)
    assert 'occluded' in dataset.search_names()
    with pytest.raises(AnnotationError, match=message):
        dataset.search('occluded')


def test_a_protocol_is_read_once_and_then_cached(root, own_cache, monkeypatch):
    write_protocol(root / OCCLUDED, 'Occlusion1', LISTED[100][:2])
    dataset = load(root)
    first = {name: asked(dataset.search(name)) for name in dataset.search_names()}
    assert len(list(own_cache.glob('*.npz'))) == 1 + 5 + 1  # the headline, other sizes, the subset
    monkeypatch.setattr('mmps.datasets.cuhk_sysu.read_nested', lambda path, *_: pytest.fail(f'{path} read again'))
    assert {name: asked(load(root).search(name)) for name in first} == first


def test_a_changed_protocol_is_read_again(root):
    load(root).search('gallery 500')
    write_protocol(root / PROTOCOLS / 'TestG500.mat', 'TestG500', LISTED[1000])
    assert asked(load(root).search('gallery 500')) == listed(LISTED[1000])


def test_an_unknown_search_is_refused_with_the_known_names(root):
    with pytest.raises(ValueError, match=r"^[^\n]*expected one of the searches \['gallery 50', [^\n]*got 'gallery 51'$"):
        load(root).search('gallery 51')


def test_training_data_have_no_searches(cuhk_sysu):
    dataset = CUHKSYSU(data_root=str(cuhk_sysu))
    for method in (dataset.search_names, lambda: dataset.search('gallery 100')):
        with pytest.raises(ValueError, match='expected test_mode=True'):
            method()


def test_asking_for_a_search_loads_the_data_set(root):
    assert load(root, lazy_init=True).search_names() == [*EVERY_SIZE, 'full set', 'hard']


def test_prw_has_a_search_per_camera(prw):
    dataset = PRW(data_root=str(prw), test_mode=True)
    assert dataset.search_names() == ['all cameras', 'other cameras', 'camera 2', 'camera 3', 'camera 6']
    assert [dataset.search(name).cameras for name in dataset.search_names()] == ['all', 'other', 2, 3, 6]
    assert asked(dataset.search('other cameras')) == asked(dataset.search('all cameras'))
    assert [gallery for _, _, gallery, _ in asked(dataset.search('camera 6'))] == [['c6s1_000005.jpg']] * 2


def test_a_camera_without_targets_has_no_search(tmp_path):
    for sequence in ('MOT16-02', 'MOT16-04'):
        write_mot(tmp_path / 'mot/train' / sequence)
    dataset = MOTChallenge(data_root=str(tmp_path / 'mot'), test_mode=True, frame_gap=2)
    assert dataset.search_names() == ['all cameras', 'camera 0', 'camera 1']


def test_a_data_set_of_one_camera_has_one_search(mot):
    dataset = MOTChallenge(data_root=str(mot), test_mode=True, frame_gap=2)
    assert dataset.search_names() == ['all']
    assert asked(dataset.search('all')) and dataset.search('all').rows is None
