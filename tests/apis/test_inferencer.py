"""Searching photographs and videos with a model: the same as a test gives, whatever the batches, and nobody lost or twice."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmps.apis.indexing import Indexer
from mmps.apis.inferencer import PersonSearchInferencer
from mmps.apis.sightings import Where
from mmps.apis.video import Sampling, UnreadableSourceError, count_frames, list_sources, read_frames
from mmps.cli.main import main
from mmps.evaluation import CBGM


@pytest.fixture
def search(search_files, tmp_path):
    """search(**arguments) -> an inferencer with a new gallery, or that of an earlier call."""
    opened = []

    def open_inferencer(**arguments):
        for each in opened:
            each.close()
        opened.append(
            PersonSearchInferencer(
                str(search_files / 'config.py'),
                str(search_files / 'weights.pth'),
                **{'gallery': tmp_path / 'gallery.db', 'device': 'cpu', 'show_progress': False, **arguments},
            )
        )
        return opened[-1]

    yield open_inferencer
    for each in opened:
        each.close()


@pytest.fixture
def images(search_files):
    return sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))[:6]


@pytest.fixture
def video(tmp_path, images):
    """Twelve frames at 4 a second: the first image six times, then the second."""
    path = tmp_path / 'street.avi'
    frames = [cv2.imread(str(images[k])) for k in (0, 1)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 4, frames[0].shape[1::-1])
    for number in range(12):
        writer.write(frames[number // 6])
    writer.release()
    return path


def test_it_finds_what_a_test_of_the_data_set_finds(search, search_files):
    inferencer = search()
    cfg = Config.fromfile(search_files / 'config.py')
    with DefaultScope.overwrite_default_scope('mmps'):
        loader = Runner.build_dataloader(cfg.test_dataloader)
    compared = 0
    for batch in loader:
        with torch.no_grad():
            (expected,) = inferencer.model.test_step(batch)
        boxes = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in expected.get('gt_instances').bboxes.tolist()]
        ((_, found),) = inferencer.detect(read_frames(expected.img_path), [boxes])
        kept = expected.pred_instances[expected.pred_instances.scores >= 0.5]
        for name in ('bboxes', 'scores', 'embeddings'):
            torch.testing.assert_close(found.pred_instances[name], kept[name], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.query_instances.embeddings, expected.gt_instances.embeddings, atol=1e-4, rtol=1e-5)
        compared += len(kept)
    assert compared > 20


def test_a_person_of_an_image_is_found_in_that_image(search, images):
    inferencer = search()
    counts = inferencer.index(images, camera='north', start=100.0)
    assert counts == dict(sources=6, frames=6, persons=len(inferencer.gallery), unreadable=0) and counts['persons'] > 6
    (first, *_) = inferencer(str(images[2]), topk=3, return_embeddings=True)['predictions']
    match = first['matches'][0]
    assert match['source'] == str(images[2]) and match['similarity'] == pytest.approx(1, abs=1e-5)
    assert match['bbox'] == pytest.approx(first['query']['bbox'], abs=1e-3) and match['time'] == 100 and match['rank'] == 1
    assert json.loads(json.dumps(first)) == first
    # The same by its box, by its pixels, and as one of two boxes of a person.
    again = inferencer(cv2.imread(str(images[2])), bboxes=[first['query']['bbox']], topk=1)['predictions'][0]['matches'][0]
    assert again['source'] == match['source'] and again['similarity'] > 0.999
    both = inferencer(
        [str(images[2])] * 2, bboxes=[[first['query']['bbox']]] * 2, topk=1, same_person=True, where=Where(cameras=['north'])
    )['predictions']
    assert len(both) == 1 and both[0]['matches'][0]['similarity'] > 0.999
    assert inferencer(str(images[2]), bboxes=[], topk=1) == dict(predictions=[], visualization=[])


def test_batches_and_threads_change_nothing(search, images, tmp_path):
    found = {}
    for size in (1, 4):
        gallery = (inferencer := search(gallery=tmp_path / f'{size}.db')).gallery
        counts = inferencer.index(images, batch_size=size)
        assert [each['source'] for each in gallery.sources()] == sorted(map(str, images))
        persons = [match.sighting for match in gallery.search(np.eye(1, gallery.dims), 1000)[0]]
        found[size] = counts, sorted([images.index(Path(each.source)), each.score, *each.bbox] for each in persons)
    assert found[1][0] == found[4][0]
    np.testing.assert_allclose(found[1][1], found[4][1], atol=1e-2)


def test_every_second_frame_of_a_video_with_its_time(search, video):
    inferencer = search()
    counts = inferencer.index(video, stride=2, batch_size=4)
    assert (counts['sources'], counts['frames']) == (1, 6)
    matches = inferencer.gallery.search(np.eye(1, inferencer.gallery.dims), 1000)[0]
    times = {match.sighting.frame: match.sighting.time for match in matches}
    assert times == pytest.approx({number: number / 4 for number in range(0, 12, 2)})


def test_an_interrupted_video_goes_on_where_it_was(search, video, monkeypatch):
    inferencer = search()
    whole = inferencer.index(video)['persons']
    inferencer.gallery.remove(Where(sources=[str(video)]))
    add, calls = inferencer.gallery.add, []

    def add_five_batches(*arguments, **more):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(arguments)
        add(*arguments, **more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(inferencer.gallery, 'add', add_five_batches)
        inferencer.index(video)
    (source,) = inferencer.gallery.sources()
    assert (source['next_frame'], source['complete']) == (5, False)
    assert inferencer.index(video)['frames'] == 7
    assert len(inferencer.gallery) == whole
    assert next(iter(inferencer.gallery.sources()))['complete']


def test_indexing_can_be_watched_and_stopped_after_any_batch(search, video):
    inferencer = search()
    batches = inferencer.index_batches(video, Indexer(inferencer.gallery, sampling=Sampling(2)), batch_size=2)
    assert [next(batches)['frames'], next(batches)['frames']] == [2, 4]
    batches.close()
    (source,) = inferencer.gallery.sources()
    assert (source['next_frame'], source['complete']) == (7, False)
    assert inferencer.index(video, stride=2)['frames'] == 2 and count_frames(str(video)) == 12


def test_what_is_whole_can_be_passed_over(search, images, video):
    inferencer = search()
    batches = inferencer.index_batches(images[:4], Indexer(inferencer.gallery))
    assert [next(batches)['sources'], next(batches)['sources']] == [1, 2]
    batches.close()  # interrupted
    assert inferencer.index(images[:4], only_new=True)['sources'] == 2
    assert inferencer.index(images[:4], only_new=True)['sources'] == 0
    assert inferencer.index(images[:4], camera='north', only_new=True)['sources'] == 4
    assert inferencer.index(images[:4], camera='north')['sources'] == 4


def test_an_unreadable_file_does_not_cost_what_was_read_of_it(search, video):
    inferencer = search()
    persons = inferencer.index(video)['persons']
    video.write_bytes(b'')
    assert inferencer.index(video)['unreadable'] == 1
    assert len(inferencer.gallery) == persons


def test_the_spans_of_a_person_who_leaves_and_returns(search, tmp_path, images):
    """A video of 4 frames a second: a person for six frames, nobody for twelve, the person for six."""
    image = cv2.imread(str(images[0]))
    path = tmp_path / 'returns.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 4, image.shape[1::-1])
    for number in range(24):
        writer.write(image if number // 6 in (0, 3) else np.zeros_like(image))
    writer.release()
    inferencer = search()
    inferencer.index(path, camera='north', start=100.0, stride=2)
    assert inferencer.gallery.source(str(path))['interval'] == pytest.approx(0.5)
    query = inferencer(str(images[0]), topk=1)['predictions'][0]['query']['bbox']
    asked = dict(bboxes=[query], topk=500, min_similarity=0.97)
    (found,) = inferencer(str(images[0]), **asked)['predictions']
    first, second = found['appearances']
    assert (first['camera'], first['source'], first['rank']) == ('north', str(path), 1) or second['rank'] == 1
    assert [first['since'], first['until'], second['since'], second['until']] == pytest.approx([100, 101, 104.5, 105.5])
    (whole,) = inferencer(str(images[0]), **asked, gap=4)['predictions']
    assert [(each['since'], each['until']) for each in whole['appearances']] == [pytest.approx((100, 105.5))]


@pytest.fixture
def street(tmp_path, images):
    """A video at 4 frames a second: two scenes of six frames each, with nobody between them for fifteen frames."""
    path = tmp_path / 'long.avi'
    frames = [cv2.imread(str(images[k])) for k in (0, 1)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 4, frames[0].shape[1::-1])
    for frame in [frames[0]] * 6 + [np.zeros_like(frames[0])] * 15 + [frames[1]] * 6:
        writer.write(frame)
    writer.release()
    return path


def test_with_tracks_a_gallery_has_fewer_records(search, street):
    inferencer = search()
    views = inferencer.index(street)['persons']
    tracks = inferencer.index(street, start=50.0, tracks=True)['persons']
    found = inferencer.gallery.sightings(Where())
    assert len(found) == tracks < views / 2
    assert all(50 <= each.since <= each.time <= each.until and np.isclose(np.linalg.norm(each.embedding), 1) for each in found)


def test_the_found_person_is_drawn_into_the_video(search, street, images, tmp_path):
    inferencer = search()
    inferencer.index(street, stride=2, start=10.0)
    box = inferencer(str(images[0]), topk=1)['predictions'][0]['query']['bbox']
    (prediction,) = inferencer(str(images[0]), [box], topk=3)['predictions']
    inferencer.draw_video(str(street), prediction, tmp_path / 'found.mp4')
    drawn, plain = ([frame.image.astype(int) for frame in read_frames(str(path))] for path in (tmp_path / 'found.mp4', street))
    assert len(drawn) == len(plain) == 27
    seen = [match['frame'] for match in prediction['matches']]
    changed = [np.abs(a - b).max() > 100 for a, b in zip(drawn, plain, strict=True)]
    assert all(changed[frame] for frame in seen) and not changed[13]


def test_a_search_with_context_finds_the_person_too(search, images):
    inferencer = search()
    inferencer.index(images)
    asked = dict(topk=5, return_embeddings=True)
    plain, context = (inferencer(str(images[2]), **asked, cbgm=cbgm)['predictions'] for cbgm in (False, CBGM(4, 3)))
    assert len(plain) == len(context)
    for one, other in zip(plain, context, strict=True):
        assert other['matches'][0]['similarity'] >= one['matches'][0]['similarity'] - 1e-5
        assert [match['rank'] for match in other['matches']] == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="best_of: expected None with cbgm, got 'source'"):
        inferencer(str(images[2]), cbgm=True, best_of='source')


def test_what_cannot_be_read_is_counted_and_passed_over(search, images, video, tmp_path):
    folder = tmp_path / 'mixed'
    folder.mkdir()
    for name, source in (('a.jpg', images[0]), ('d.jpg', images[1])):
        shutil.copy(source, folder / name)
    (folder / 'b.jpg').write_bytes(b'no image')
    (folder / 'c.mp4').write_bytes(b'')
    (folder / 'notes.txt').write_text('no image either')
    inferencer = search()
    counts = inferencer.index(folder)
    assert (counts['sources'], counts['unreadable']) == (2, 2)
    assert [each['source'] for each in inferencer.gallery.sources()] == [str(folder / 'a.jpg'), str(folder / 'd.jpg')]
    # A video that was cut off: what can be read is kept.
    cut = folder / 'cut.avi'
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert 0 < inferencer.index(cut)['frames'] < 12


def test_matches_are_written_as_data_table_and_picture(search, images, video, tmp_path):
    inferencer = search()
    inferencer.index([*images[:2], video], stride=3)
    found = inferencer(cv2.imread(str(images[0])), topk=4, return_vis=True)
    assert len(found['visualization']) == len(found['predictions']) and found['visualization'][0].shape[2] == 3
    predictions = inferencer(str(images[0]), topk=4, out_dir=tmp_path / 'out')['predictions']
    assert json.loads((tmp_path / 'out/matches.json').read_text()) == predictions
    lines = (tmp_path / 'out/matches.csv').read_text().splitlines()
    assert len(lines) == 1 + sum(len(each['matches']) for each in predictions)
    assert cv2.imread(str(tmp_path / 'out/matches.png')).shape[0] > 100 * len(predictions)


def test_wrong_arguments_are_refused_in_one_line(search, images, tmp_path):
    with pytest.raises(ValueError, match='gallery: none was given'):
        search(gallery=None).index(images)
    with pytest.raises(FileNotFoundError, match='there is no image or video'):
        search().index(tmp_path / 'nothing*')
    with pytest.raises(UnreadableSourceError, match=r'nothing\.jpg: No such file'):
        search()(str(tmp_path / 'nothing.jpg'))
    with pytest.raises(ValueError, match='bboxes: expected the boxes of 2 images, got 1'):
        search()([str(images[0])] * 2, bboxes=[[]])
    with pytest.raises(FileNotFoundError, match='weights'):
        PersonSearchInferencer('configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py', str(tmp_path / 'nothing.pth'))
    with pytest.raises(ValueError, match='weights: expected a checkpoint: this model does not come with weights'):
        PersonSearchInferencer('oim_r50-c4_50k_cuhk-sysu')
    with pytest.raises(FileNotFoundError, match='oim_r50-c5: no config, and no model of the index: did you mean oim_r50'):
        PersonSearchInferencer('oim_r50-c5')


def test_sources_are_listed_once_and_in_order(images, tmp_path):
    folder = images[0].parent
    assert list_sources(folder)[:2] == [str(path) for path in images[:2]]
    assert list_sources([images[1], folder / '*.jpg', 'rtsp://camera'])[0] == str(images[1])
    assert len(list_sources([images[1], images[1]])) == 1


def test_the_commands_do_the_same(search_files, images, tmp_path, monkeypatch, capsys):
    def mmps(*arguments):
        monkeypatch.setattr('sys.argv', ['mmps', *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return stop.code
        return capsys.readouterr().out

    gallery = tmp_path / 'commands.db'
    model = ('--model', search_files / 'config.py', '--weights', search_files / 'weights.pth', '--device', 'cpu')
    counts = json.loads(mmps('index', gallery, *images[:3], '--camera', 'north', *model, '--json'))
    assert counts['sources'] == 3 and counts['unreadable'] == 0
    found = json.loads(mmps('search', gallery, images[1], *model, '--topk', 2, '--json', '--out', tmp_path / 'out'))
    assert found[0]['matches'][0]['source'] == str(images[1]) and found[0]['matches'][0]['similarity'] > 0.999
    assert json.loads((tmp_path / 'out/matches.json').read_text()) == found
    x, y, width, height = (str(value) for value in found[0]['query']['bbox'])
    table = mmps('search', gallery, images[1], '--box', x, y, width, height, *model, '--topk', 1, '--cameras', 'north')
    assert table.splitlines()[2].startswith('| 0     |    1 |      1.000 |')
    assert re.match(r'\| query \| camera \| +source \| since \| until ', table.splitlines()[4])
    assert re.match(rf'\| 0 +\| +north \| {re.escape(str(images[1]))} ', table.splitlines()[6])
    assert f'{counts["persons"]} persons, found by' in mmps('gallery', 'info', gallery)
    person = ('forget', gallery, images[1], '--box', x, y, width, height, '--min-similarity', 0.999, *model)
    assert mmps('gallery', *person, '--dry-run') == '1 sightings would be removed\n'
    assert json.loads(mmps('gallery', *person, '--json')) == dict(persons=1, removed=True)
    assert mmps('gallery', 'remove', gallery, '--cameras', 'north') == f'{counts["persons"] - 1} persons removed, 0 left\n'
    assert mmps('gallery', 'remove', gallery) == 'error: remove: expected a condition; to remove everything delete the gallery'
    assert mmps('gallery', 'info', tmp_path / 'nothing.db') == f'error: {tmp_path}/nothing.db: there is no gallery'
