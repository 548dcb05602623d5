"""A video that is indexed with tracks, with detections that are made up: whole records, also after an interruption."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmps.apis.gallery import Gallery
from mmps.apis.indexing import Indexer
from mmps.apis.sightings import Where
from mmps.apis.tracks import LOST_AFTER
from mmps.apis.video import Sampling

DIMS, COUNT, RATE = 16, 40, 4
SEEN = {0: range(0, 6), 1: range(2, 9), 2: range(24, 40), 3: range(30, 33)}  # frames in which a person is seen
EMPTY = 8 + LOST_AFTER + 1  # the first frame at which nobody is followed any more
BEGIN = 24  # the next person


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'street.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), RATE, (64, 48))
    for _ in range(COUNT):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    return str(path)


def detect(frame):
    """Returns a frame with the persons that a model would find in it. They walk to the right."""
    persons = [person for person, frames in SEEN.items() if frame.number in frames]
    x = torch.tensor([300.0 * person + 2 * frame.number for person in persons])
    boxes = torch.stack([x, torch.full_like(x, 50), x + 30, torch.full_like(x, 130)], dim=1)
    scores = torch.tensor([0.6 + frame.number % 7 / 20 for _ in persons])
    found = InstanceData(bboxes=boxes, scores=scores, embeddings=torch.eye(DIMS)[persons])
    return frame, DetDataSample(pred_instances=found)


def index(gallery, sources, batch_size=1, stop_before=None, **arguments):
    """Indexes sources up to a number of frames. Returns the counts."""
    indexer = Indexer(gallery, **{'tracks': True, **arguments})
    batch = []
    for number, frame in enumerate(indexer.frames(sources)):
        if number == stop_before:
            break
        batch.append(detect(frame))
        if len(batch) == batch_size or frame.is_last:
            indexer.add(batch)
            batch = []
    return indexer.counts


def records(gallery):
    found = gallery.sightings(Where())
    return sorted((each.source, each.since, each.until, each.frame, each.bbox, *each.embedding.tolist()) for each in found)


@pytest.fixture
def gallery(tmp_path):
    with Gallery(tmp_path / 'gallery.db', 'model', DIMS) as gallery:
        yield gallery


def test_a_gallery_of_tracks_has_persons_and_not_frames(gallery, video):
    counts = index(gallery, [video], start=100.0, camera='north')
    assert counts == dict(sources=1, frames=COUNT, persons=len(SEEN), unreadable=0)
    spans = sorted((each.since, each.until) for each in gallery.sightings(Where(cameras=['north'])))
    np.testing.assert_allclose(spans, sorted((100 + seen[0] / RATE, 100 + seen[-1] / RATE) for seen in SEEN.values()))


def test_batches_and_other_sources_change_nothing(gallery, video, tmp_path):
    other = str(tmp_path / 'other.avi')
    (tmp_path / 'other.avi').write_bytes((tmp_path / 'street.avi').read_bytes())
    index(gallery, [video, other])
    expected = records(gallery)
    assert len(expected) == 2 * len(SEEN)
    gallery.remove(Where(sources=[video, other]))
    index(gallery, [video, other], batch_size=7)
    assert records(gallery) == expected
    assert {each['next_frame'] for each in gallery.sources()} == {COUNT}


@pytest.mark.parametrize('stop', [1, 4, EMPTY - 1, EMPTY, EMPTY + 2, 26, 39])
def test_an_interrupted_video_has_no_half_tracks(gallery, video, stop):
    index(gallery, [video])
    whole = records(gallery)
    gallery.remove(Where(sources=[video]))
    index(gallery, [video], stop_before=stop)
    assert set(records(gallery)) <= set(whole)  # what is there already is whole
    assert gallery.source(video)['next_frame'] == (0 if stop < EMPTY + 1 else min(stop, BEGIN))
    counts = index(gallery, [video])
    assert counts['frames'] == COUNT - (0 if stop < EMPTY + 1 else min(stop, BEGIN))
    assert records(gallery) == whole and gallery.source(video)['complete']


def test_another_way_of_indexing_replaces_what_was_begun(gallery, video):
    index(gallery, [video], stop_before=10, tracks=False)
    assert len(gallery) == 13
    index(gallery, [video], sampling=Sampling(fps=2))
    assert len(gallery) == len(SEEN) and gallery.source(video)['interval'] == pytest.approx(0.5)
