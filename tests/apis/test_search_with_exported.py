"""An exported model takes the place of a config: in Python, on the page and on the command line."""

import asyncio
import json

import cv2
import numpy as np
import pytest

from mmps.apis import build_test_set
from mmps.apis.gallery import Gallery
from mmps.apis.inferencer import PersonSearchInferencer
from mmps.apis.storage import OtherModelError
from mmps.apis.test_set import predict_test_set
from mmps.apis.video import read_frames
from mmps.cli.main import main
from mmps.page.service import SearchService


@pytest.fixture
def open_both(exported_model, search_files, tmp_path):
    """open_both(gallery) -> the inferencers of the config and of the exported file."""

    def make(gallery=None):
        whole = PersonSearchInferencer(str(search_files / 'config.py'), str(search_files / 'weights.pth'), 'cpu', gallery)
        if whole.gallery is not None:
            whole.close()
        return whole, PersonSearchInferencer(str(exported_model), gallery=gallery, show_progress=False)

    return make


@pytest.fixture
def images(search_files):
    return sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))[:4]


def test_it_detects_and_embeds_as_the_detector_does(open_both, images):
    box = [[20, 30, 60, 150]]
    for path in images:
        results = [next(each.detect(read_frames(str(path)), [box]))[1] for each in open_both()]
        one, other = (result.pred_instances for result in results)
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(one.bboxes, other.bboxes, atol=1e-2)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-4)
        np.testing.assert_allclose(*(result.query_instances.embeddings for result in results), atol=1e-4)


def test_a_gallery_of_the_detector_is_searched_and_filled(open_both, images, tmp_path):
    whole, exported = open_both(tmp_path / 'gallery.db')
    assert exported.fingerprint == whole.fingerprint
    assert exported.index([str(path) for path in images], batch_size=3)['persons'] > 4
    (first, *_) = exported(str(images[1]), topk=1)['predictions']
    assert first['matches'][0]['source'] == str(images[1]) and first['matches'][0]['similarity'] > 0.999
    exported.close()
    with pytest.raises(OtherModelError, match='their embeddings do not compare'):
        Gallery(tmp_path / 'gallery.db', f'{whole.fingerprint} int8', exported.embed_dims)


def test_the_page_serves_it(exported_model, images, tmp_path):
    async def story():
        inferencer = PersonSearchInferencer(str(exported_model), gallery=tmp_path / 'gallery.db', show_progress=False)
        service = SearchService(inferencer, [images[0].parent], tmp_path / 'uploads')
        service.start_indexing([str(path) for path in images])
        await service.indexing
        assert not service.progress.error and service.persons > 4
        upload = service.pictures.upload(images[0].read_bytes())
        image = cv2.imread(str(images[0]))
        found = await service.find_persons(upload, 'upload', 0, image)
        drawn = await service.embed(upload, 'upload', 0, image, found[0].bbox)
        assert drawn.embedding @ found[0].embedding > 0.999
        await service.close()

    asyncio.run(story())


def test_the_commands_take_it(exported_model, images, tmp_path, monkeypatch, capsys):
    def mmps(*arguments):
        monkeypatch.setattr('sys.argv', ['mmps', *map(str, arguments), '--model', str(exported_model), '--json'])
        main()
        return json.loads(capsys.readouterr().out)

    assert mmps('index', tmp_path / 'gallery.db', *images)['frames'] == len(images)
    predictions = mmps('search', tmp_path / 'gallery.db', images[0], '--topk', '2')
    assert predictions and predictions[0]['matches'][0]['source'] == str(images[0])


def test_it_scores_as_the_detector_does(open_both, search_files):
    whole, exported = open_both()
    dataset = build_test_set(whole.cfg)
    one, other = (predict_test_set(each, dataset) for each in (whole, exported))
    assert one.images == other.images
    np.testing.assert_allclose(one.query_embeddings, other.query_embeddings, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(one.scores), np.concatenate(other.scores), atol=1e-4)


def test_wrong_arguments_are_refused(exported_model, tmp_path):
    with pytest.raises(ValueError, match=r'weights: expected none with an exported model, got x\.pth'):
        PersonSearchInferencer(str(exported_model), 'x.pth')
    with pytest.raises(ValueError, match="device: an exported model runs on the CPU, got 'cuda'"):
        PersonSearchInferencer(str(exported_model), device='cuda')
    with pytest.raises(FileNotFoundError, match=r'nothing\.onnx: there is no such file'):
        PersonSearchInferencer(str(tmp_path / 'nothing.onnx'))
