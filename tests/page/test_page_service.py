"""What users share: searches while an indexing goes on, its end, and what may be added."""

import asyncio
import shutil
import threading

import numpy as np
import pytest

from mmps.apis.inferencer import PersonSearchInferencer
from mmps.page.pictures import RefusedError
from mmps.page.results import Filters
from mmps.page.service import SearchService, count_all, say_progress


@pytest.fixture
def photographs(search_files, tmp_path):
    """A folder with six drawn scenes."""
    folder = tmp_path / 'scenes'
    folder.mkdir()
    for path in sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))[:6]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def make_service(search_files, photographs, tmp_path):
    """make_service() -> the service of a new gallery; ``photographs`` may be added."""

    def make():
        model = (str(search_files / 'config.py'), str(search_files / 'weights.pth'), 'cpu', tmp_path / 'gallery.db')
        return SearchService(PersonSearchInferencer(*model, show_progress=False), [photographs], tmp_path / 'uploads')

    return make


def test_somebody_is_found_where_they_were_chosen(make_service, photographs):
    async def story():
        service = make_service()
        assert await service.search(np.eye(1, service.gallery.dims)[0], Filters()) == []
        service.start_indexing(service.list_inputs([0]), 'north', 100.0)
        await service.indexing
        assert service.progress.share == 1 and say_progress(service.progress).endswith('done')
        assert service.cameras == ['north'] and service.persons > 6 and len(service.sources) == 6
        source = str(photographs / sorted(path.name for path in photographs.iterdir())[2])
        key = service.pictures.key(source)
        image = await service.read(service.pictures.read, key)
        stored = await service.find_persons(key, source, 0, image)
        best = (await service.search(stored[0].embedding, Filters(topk=1)))[0]
        assert best.similarity == pytest.approx(1, abs=1e-5) and best.sighting.bbox == stored[0].bbox
        assert best.sighting.time == 100 and await service.search(stored[0].embedding, Filters(until=99)) == []
        # The same from an upload, where the model looks, and from a box that is drawn around the person.
        upload = service.pictures.upload((photographs / source).read_bytes())
        found = await service.find_persons(upload, 'upload', 0, image)
        assert len(found) == len(stored)
        drawn = await service.embed(upload, 'upload', 0, image, stored[0].bbox)
        assert drawn.embedding @ stored[0].embedding > 0.999
        await service.close()

    asyncio.run(story())


def test_a_search_does_not_wait_for_the_end_of_an_indexing(make_service, monkeypatch):
    async def story():
        service = make_service()
        go_on = threading.Event()
        index_batches = service.inferencer.index_batches

        def slow(*arguments):
            for counts in index_batches(*arguments):
                yield counts
                go_on.wait(60)

        monkeypatch.setattr(service.inferencer, 'index_batches', slow)
        service.start_indexing(service.list_inputs([0]))
        while not service.progress.counts['frames']:
            assert not service.indexing.done(), service.indexing.exception()
            await asyncio.sleep(0.01)
        with pytest.raises(RefusedError, match='already'):
            service.start_indexing(service.list_inputs([0]))
        asked = asyncio.create_task(service.search(np.eye(1, service.gallery.dims)[0], Filters(min_similarity=-1)))
        await asyncio.sleep(0)  # the question is in the queue behind one batch
        go_on.set()
        matches = await asked
        assert matches and service.progress.running
        for match in matches:  # although the list of the gallery was made before
            assert service.pictures.read(service.pictures.key(match.sighting.source)) is not None
        service.progress.cancelled = True
        await service.indexing
        assert 'stopped' in say_progress(service.progress) and 0 < len(service.sources) < 6
        await service.close()

    asyncio.run(story())


def test_closing_stops_an_indexing_and_frees_the_gallery(make_service):
    async def story():
        service = make_service()
        service.start_indexing(service.list_inputs([0]))
        await service.close()
        assert not service.progress.running and service.progress.counts['sources'] < 6

    asyncio.run(story())
    asyncio.run(make_service().close())  # the file can be opened again


def test_what_cannot_be_added_is_refused(make_service, photographs, tmp_path, jpeg):
    async def story():
        service = make_service()
        (tmp_path / 'secret.jpg').write_bytes(jpeg())
        (photographs / 'link.jpg').symlink_to(tmp_path / 'secret.jpg')
        listed = service.list_inputs([0])
        assert len(listed) == 6 and not any('link' in name for name in listed)
        with pytest.raises(IndexError):
            service.list_inputs([1])
        for arguments, message in (
            (([],), 'Choose a folder'),
            ((listed, '=cmd()'), 'camera'),
            ((listed, '', 0.0, 0), 'frames'),
        ):
            with pytest.raises(RefusedError, match=message):
                service.start_indexing(*arguments)
        with pytest.raises(RefusedError, match='not a photograph'):
            service.keep('../../x.jpg', b'no image')
        path = service.keep('../../x.jpg', jpeg())
        assert path.startswith(str(tmp_path / 'uploads/x-')) and count_all([path, *listed], 5) == 7
        await service.close()

    asyncio.run(story())
