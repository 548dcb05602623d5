"""The gallery in Milvus Lite: searches equal NumPy's, nothing is there twice, and what is removed is gone."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from pymilvus import MilvusClient

from mmps.apis.gallery import Gallery
from mmps.apis.sightings import Sighting, Where
from mmps.apis.storage import NOTES, PERSONS, GalleryFailedError, GalleryInUseError, OldGalleryError, OtherModelError
from mmps.compat import milvus_lite

DIMS = 16
NASTY = ['a "quoted" name.jpg', "it's.jpg", 'back\\slash.jpg', 'ümläut 雪.jpg', 'a, b] or true.jpg', 'line\nbreak.jpg']


def unit(count, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, DIMS)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def sightings(source, embeddings, camera='', first=0):
    return [
        Sighting(source, first + k, (first + k) / 10, camera, (k, 2, 30, 60), 0.5 + k % 50 / 100, embedding)
        for k, embedding in enumerate(embeddings)
    ]


def add(gallery, source, embeddings, camera=''):
    gallery.begin(source, camera)
    gallery.add(source, sightings(source, embeddings, camera), len(embeddings), complete=True)


SERVER = os.environ.get('MMPS_MILVUS')  # these tests run on it then, see test_gallery_server.py
only_files = pytest.mark.skipif(SERVER is not None, reason='it is about files')


@pytest.fixture
def path(tmp_path):
    """A file, or a server without a gallery."""
    if SERVER is None:
        return tmp_path / 'gallery.db'
    client = MilvusClient(SERVER)
    for collection in (PERSONS, NOTES):
        client.drop_collection(collection)
    client.close()
    return SERVER


@pytest.fixture
def gallery(path):
    with Gallery(path, 'model one', DIMS) as gallery:
        yield gallery


def test_a_search_returns_what_numpy_does(gallery):
    embeddings, queries = unit(300), unit(4, seed=1)
    add(gallery, 'north.mp4', embeddings[:200], 'north')
    add(gallery, 'south.mp4', embeddings[200:], 'south')
    similarities = queries @ embeddings.T
    for row, matches in zip(similarities, gallery.search(queries, topk=7), strict=True):
        best = np.argsort(-row)[:7]
        np.testing.assert_allclose([match.similarity for match in matches], row[best], atol=1e-6)
        assert [match.sighting.frame for match in matches] == [k if k < 200 else k - 200 for k in best]
        assert [match.sighting.camera for match in matches] == ['north' if k < 200 else 'south' for k in best]
    found = gallery.search(queries[:1], topk=1)[0][0].sighting
    assert found.bbox == (found.frame, 2, 30, 60) and found.time == pytest.approx(found.frame / 10)


@pytest.mark.skipif(SERVER is None, reason='a file is exact')
def test_a_search_with_hnsw_finds_nearly_the_same(gallery):
    embeddings, queries = unit(2000), unit(20, seed=1)
    add(gallery, 'all.mp4', embeddings)
    exact = gallery.search(queries, topk=20)
    gallery.build_index('HNSW')
    approximate = gallery.search(queries, topk=20)
    shared = [
        len({m.sighting.frame for m in a} & {m.sighting.frame for m in b}) / 20 for a, b in zip(exact, approximate, strict=True)
    ]
    assert np.mean(shared) >= 0.99


def test_a_large_gallery_changes_to_hnsw_on_a_server_alone(gallery, monkeypatch):
    monkeypatch.setattr('mmps.apis.gallery.EXACT_UP_TO', 10)
    add(gallery, 'video.mp4', unit(11))
    gallery.flush()
    assert gallery.notes['about']['index'] == ('FLAT' if SERVER is None else 'HNSW')
    assert len(gallery.search(unit(1), topk=20)[0]) == 11


@pytest.mark.parametrize(
    'where, counts',
    [
        (Where(cameras=['south']), lambda k: k >= 20),
        (Where(sources=['north.mp4']), lambda k: k < 20),
        (Where(since=0.5, until=1.0), lambda k: 5 <= k % 20 <= 10),
        (Where(min_score=0.6), lambda k: k % 20 >= 10),
        (Where(cameras=['north', 'south'], since=1.85), lambda k: k % 20 == 19),
        (Where(cameras=['nowhere']), lambda k: False),
    ],
)
def test_a_filter_keeps_what_it_names(gallery, where, counts):
    embeddings = unit(40)
    add(gallery, 'north.mp4', embeddings[:20], 'north')
    add(gallery, 'south.mp4', embeddings[20:], 'south')
    found = {(m.sighting.source, m.sighting.frame) for m in gallery.search(embeddings[:1], topk=40, where=where)[0]}
    assert found == {('north.mp4' if k < 20 else 'south.mp4', k % 20) for k in range(40) if counts(k)}
    assert gallery.count(where) == len(found)


def test_the_best_match_of_each_camera(gallery):
    embeddings = unit(30)
    for number, camera in enumerate(('north', 'south', 'west')):
        add(gallery, f'{camera}.mp4', embeddings[10 * number : 10 * number + 10], camera)
    matches = gallery.search(embeddings[3:4], topk=3, best_of='camera')[0]
    similarities = (embeddings @ embeddings[3]).reshape(3, 10).max(axis=1)
    assert {match.sighting.camera: match.similarity for match in matches} == pytest.approx(
        dict(zip(('north', 'south', 'west'), similarities, strict=True)), abs=1e-6
    )
    close = gallery.search(embeddings[3:4], topk=30, min_similarity=0.3)[0]
    assert len(close) == (embeddings @ embeddings[3] >= 0.3).sum()


def test_the_best_match_of_each_source_although_one_has_the_most_similar_hundred(gallery):
    query = unit(1)[0]
    views = query + 0.01 * unit(100, seed=1)
    add(gallery, 'street.mp4', views / np.linalg.norm(views, axis=1, keepdims=True))
    for number in range(6):
        add(gallery, f'{number}.jpg', unit(2, seed=2 + number))
    for topk, expected in ((2, 2), (4, 4), (20, 7)):
        matches = gallery.search(query[None], topk=topk, best_of='source')[0]
        sources = [match.sighting.source for match in matches]
        assert len(sources) == len({*sources}) == expected and sources[0] == 'street.mp4'
        similarities = [match.similarity for match in matches]
        assert similarities == sorted(similarities, reverse=True)


def test_names_with_quotes_and_brackets_are_only_names(gallery):
    for number, name in enumerate(NASTY):
        add(gallery, name, unit(2, seed=number), camera=name[:20])
    assert [each['source'] for each in gallery.sources()] == sorted(NASTY)
    for name in NASTY:
        assert gallery.count(Where(sources=[name])) == gallery.count(Where(cameras=[name[:20]])) == 2
    assert gallery.remove(Where(sources=NASTY[:1])) == 2
    assert [each['source'] for each in gallery.sources()] == sorted(NASTY[1:]) and len(gallery) == 2 * len(NASTY) - 2


def test_an_interrupted_source_goes_on_after_its_last_batch(path):
    embeddings = unit(10)
    with Gallery(path, 'model one', DIMS) as gallery:
        assert gallery.begin('video.mp4', 'north') == 0
        gallery.add('video.mp4', sightings('video.mp4', embeddings[:4], 'north'), 4)
        # Killed after the persons of the next batch were written, and before that was noted:
        note = gallery.notes['source:video.mp4']
        gallery.add('video.mp4', sightings('video.mp4', embeddings[4:7], 'north', first=4), 7)
        gallery.notes['source:video.mp4'] = note
    with Gallery(path, 'model one') as gallery:
        assert [each['complete'] for each in gallery.sources()] == [False]
        assert gallery.begin('video.mp4', 'north') == 4 and len(gallery) == 4
        gallery.add('video.mp4', sightings('video.mp4', embeddings[4:], 'north', first=4), 10, complete=True)
        found = gallery.search(embeddings[:1], topk=20)[0]
        assert sorted(match.sighting.frame for match in found) == list(range(10))


def test_adding_a_complete_source_again_replaces_it(gallery):
    add(gallery, 'image.jpg', unit(5))
    add(gallery, 'other.jpg', unit(2, seed=2))
    add(gallery, 'image.jpg', unit(3, seed=1))
    assert gallery.count(Where(sources=['image.jpg'])) == 3 and len(gallery) == 5


def test_what_is_removed_or_forgotten_is_gone_for_good(path):
    embeddings = unit(50)
    embeddings[10:14] = embeddings[10]
    with Gallery(path, 'model one', DIMS) as gallery:
        add(gallery, 'video.mp4', embeddings, 'north')
        assert gallery.forget(embeddings[10], 0.999, dry_run=True) == 4 and len(gallery) == 50
        assert gallery.forget(embeddings[10], 0.999) == 4
        assert gallery.remove(Where(until=0.45)) == 5
        with pytest.raises(ValueError, match='remove: expected a condition'):
            gallery.remove(Where())
    with Gallery(path) as gallery:
        assert len(gallery) == 41
        assert gallery.search(embeddings[10:11], topk=1)[0][0].similarity < 0.99


def test_more_persons_than_one_answer_holds_are_forgotten(gallery, monkeypatch):
    monkeypatch.setattr('mmps.apis.gallery.MOST', 7)
    embeddings = np.concatenate([np.repeat(unit(1), 30, axis=0), unit(5, seed=1)])
    add(gallery, 'video.mp4', embeddings)
    assert gallery.forget(embeddings[0], 0.999, dry_run=True) == gallery.forget(embeddings[0], 0.999) == 30
    assert len(gallery) == 5
    with pytest.raises(ValueError, match=r'min_similarity: expected -1 to 1, got 90'):
        gallery.forget(embeddings[0], 90)


def test_a_source_is_removed_with_its_last_person_and_not_before(gallery):
    for name, camera in (('a.mp4', 'north'), ('b.mp4', 'north'), ('c.mp4', 'south')):
        add(gallery, name, unit(20), camera)
    assert gallery.remove(Where(cameras=['north'], until=0.95)) == 20
    assert [each['source'] for each in gallery.sources()] == ['a.mp4', 'b.mp4', 'c.mp4']
    assert gallery.remove(Where(cameras=['north'], sources=['b.mp4', 'c.mp4'])) == 10
    assert [each['source'] for each in gallery.sources()] == ['a.mp4', 'c.mp4']
    assert gallery.remove(Where(cameras=['north'])) == 10
    assert [each['source'] for each in gallery.sources()] == ['c.mp4']


def test_another_model_is_refused_with_both_named(path):
    Gallery(path, 'model one', DIMS).close()
    with pytest.raises(OtherModelError, match='belongs to the model model one, and this is model two'):
        Gallery(path, 'model two', DIMS)
    with Gallery(path) as gallery:
        assert (gallery.model, gallery.dims) == ('model one', DIMS)


def test_a_gallery_of_an_older_version_is_refused_in_one_line(path):
    with Gallery(path, 'model one', DIMS) as gallery:
        gallery.notes['about'] = dict(format=1, model='model one', dims=DIMS, index='FLAT')
    with pytest.raises(OldGalleryError, match='has format 1, and this mmps reads 2: make another gallery'):
        Gallery(path, 'model one', DIMS)


def test_a_source_goes_on_only_with_the_same_settings(gallery):
    gallery.begin('video.mp4', 'north', dict(stride=2))
    gallery.add('video.mp4', sightings('video.mp4', unit(4), 'north'), 4, interval=0.5)
    assert gallery.next_frame('video.mp4', 'north', dict(stride=2)) == 4 and gallery.source('video.mp4')['interval'] == 0.5
    assert gallery.next_frame('video.mp4', 'south', dict(stride=2)) == 0
    assert gallery.begin('video.mp4', 'north', dict(stride=3)) == 0 and len(gallery) == 0


def test_a_track_counts_while_it_lasts(gallery):
    (embedding,) = unit(1)
    gallery.begin('video.mp4')
    gallery.add('video.mp4', [Sighting('video.mp4', 50, 5.0, '', (1, 2, 3, 4), 0.9, embedding, since=2.0, until=8.0)], 99)
    for where, count in ((Where(since=8), 1), (Where(since=8.1), 0), (Where(until=2), 1), (Where(until=1.9), 0)):
        assert gallery.count(where) == count
    assert [(m.sighting.since, m.sighting.time, m.sighting.until) for m in gallery.search(embedding[None])[0]] == [(2, 5, 8)]


@only_files
def test_a_second_process_is_told_in_one_line(gallery, path):
    program = f'from mmps.apis.gallery import Gallery; Gallery({str(path)!r})'
    second = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert second.returncode and second.stderr.strip().splitlines()[-1].endswith(
        f'{GalleryInUseError.__name__}: {path}: another process has this gallery open; a Milvus server serves many'
    )


def test_wrong_arguments_are_refused_in_one_line(gallery, tmp_path):
    with pytest.raises(ValueError, match=r'expected a file name that ends in \.db, or http'):
        Gallery(tmp_path / 'folder')
    with pytest.raises(FileNotFoundError, match='there is no gallery'):
        Gallery(tmp_path / 'nothing.db')
    assert not (tmp_path / 'nothing.db').exists()
    with pytest.raises(ValueError, match='topk: expected 1 to 16384, got 0'):
        gallery.search(unit(1), topk=0)
    with pytest.raises(ValueError, match=r'embeddings: expected \(Q, 16\)'):
        gallery.search(np.zeros((1, 8)))
    with pytest.raises(ValueError, match=r'image\.jpg: not begun'):
        gallery.add('image.jpg', [], 1)
    gallery.begin('image.jpg')
    with pytest.raises(ValueError, match=r'expected a person of image\.jpg with an embedding of 16 numbers'):
        gallery.add('image.jpg', sightings('other.jpg', unit(1)), 1)
    assert gallery.search(unit(0)) == [] and gallery.search(unit(1)) == [[]]


def test_the_persons_of_a_frame_come_with_their_embeddings(gallery):
    embeddings = unit(30)
    for source in ('north.mp4', 'south.mp4'):
        gallery.begin(source, '')
        people = [replace(each, frame=each.frame // 3) for each in sightings(source, embeddings)]
        gallery.add(source, people, 10)
    assert gallery.frames('south.mp4') == list(range(10)) and gallery.frames('west.mp4') == []
    found = gallery.sightings(Where(sources=['south.mp4']), frame=4)
    assert [(each.source, each.frame, each.bbox[0]) for each in found] == [('south.mp4', 4, x) for x in (12, 13, 14)]
    np.testing.assert_allclose([each.embedding for each in found], embeddings[12:15], atol=1e-6)
    assert len(gallery.sightings(Where())) == 60


@only_files
def test_a_file_is_searched_right_in_all_its_parts(path, monkeypatch):
    """Deleted, flushed and unflushed persons, with and without a filter: the shortlist of each segment loses nobody."""
    embeddings, queries = unit(400), unit(6, seed=1)
    with Gallery(path, 'model one', DIMS) as gallery:
        for part in range(4):
            add(gallery, f'{part}.mp4', embeddings[100 * part : 100 * part + 100], 'north' if part % 2 else 'south')
            if part < 3:  # the last one stays in memory
                gallery.flush()
        gallery.remove(Where(until=0.95, sources=['0.mp4', '3.mp4']))
        counts = np.array([not (row // 100 in (0, 3) and row % 100 < 10) for row in range(400)])
        for where, among in (
            (None, counts),
            (Where(cameras=['north']), counts & (np.arange(400) // 100 % 2 == 1)),
            (Where(since=9.85), counts & (np.arange(400) % 100 == 99)),
        ):
            similarities = np.where(among, queries @ embeddings.T, -np.inf)
            for row, matches in zip(similarities, gallery.search(queries, topk=15, where=where), strict=True):
                best = [k for k in np.argsort(-row)[:15] if row[k] > -np.inf]
                assert [(m.sighting.source, m.sighting.frame) for m in matches] == [(f'{k // 100}.mp4', k % 100) for k in best]
            assert gallery.count(where) == among.sum()


@only_files
def test_milvus_lite_gets_only_the_rows_that_may_be_in_the_answer(gallery, monkeypatch):
    """It spends a microsecond or two of Python on each of them."""
    add(gallery, 'video.mp4', unit(3000))
    gallery.flush()
    given = []
    take = milvus_lite._take
    monkeypatch.setattr(milvus_lite, '_take', lambda segment, rows: given.append(len(rows)) or take(segment, rows))
    gallery.search(unit(2), topk=20)
    gallery.sightings(Where(sources=['video.mp4']), frame=7)
    assert 20 <= given[0] <= 40 and given[1:] == [1]


def test_an_index_whose_building_failed_is_built_when_the_gallery_is_opened(path):
    with Gallery(path, 'model one', DIMS) as gallery:
        add(gallery, 'video.mp4', unit(30))
        gallery.flush()
        gallery.client.release_collection(PERSONS)
        gallery.client.drop_index(PERSONS, 'embedding')  # and here the process ends
    with Gallery(path) as gallery:
        assert gallery.search(unit(30)[4:5])[0][0].sighting.frame == 4


def test_the_index_of_a_file_is_not_chosen_and_that_of_a_server_stays(gallery, monkeypatch):
    if SERVER is None:
        with pytest.raises(ValueError, match="expected a server and one of FLAT, HNSW, got 'HNSW'; a file is exact"):
            gallery.build_index('HNSW')
    else:
        monkeypatch.setattr('mmps.apis.gallery.EXACT_UP_TO', 10)
        gallery.build_index('FLAT')
        add(gallery, 'video.mp4', unit(11))
        gallery.flush()
        assert gallery.notes['about']['index'] == 'FLAT'


def test_a_gallery_whose_making_was_interrupted_is_made(path):
    with Gallery(path, 'model one', DIMS) as gallery:
        gallery.client.delete(NOTES, ids=['about'])
    with Gallery(path, 'model one', DIMS) as gallery:
        add(gallery, 'image.jpg', unit(3))
        assert len(gallery) == 3


def test_what_the_database_says_is_one_line_with_the_gallerys_name(gallery, path):
    gallery.client.drop_collection(PERSONS)
    with pytest.raises(GalleryFailedError, match=f'{re.escape(str(path))}: .*; what was added before is kept'):
        gallery.search(unit(1))
