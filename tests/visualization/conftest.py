import cv2
import numpy as np
import pytest

from mmps.evaluation import Predictions, SearchProtocol, search_scores


@pytest.fixture(scope='session')
def colours():
    """The colours of the scenes, RGB."""
    return [(0, 0, 200), (200, 0, 0), (0, 200, 0), (200, 200, 0)]


@pytest.fixture
def scenes(colours, tmp_path):
    """Protocol, predictions and paths of four scenes of one colour each. The first holds the query.

    The detection in the third scene is wrong and the most similar. The second finds its target. The fourth misses it.
    """
    paths = []
    for i, colour in enumerate(colours):
        paths.append(str(tmp_path / f'{i}.png'))
        cv2.imwrite(paths[-1], np.full((60, 90, 3), colour[::-1], np.uint8))
    box, beside = np.array([[10, 5, 30, 55]], np.float32), np.array([[60, 5, 80, 55]], np.float32)
    names = ('0', '1', '2', '3')
    protocol = SearchProtocol.from_galleries(names, None, ['0'], box, [0], [[('1', box[0]), ('2', None), ('3', box[0])]])
    query = np.array([[1, 0]], np.float32)
    embeddings = [query, *(np.array([[cosine, np.sqrt(1 - cosine**2)]], np.float32) for cosine in (0.6, 0.8, 0.1))]
    predictions = Predictions(
        images=names,
        boxes=[box, box, box, beside],
        scores=[np.ones(1, np.float32)] * 4,
        embeddings=embeddings,
        query_embeddings=query,
        gt_boxes=[box] * 4,
        gt_person_ids=[np.array([i]) for i in (0, 0, 12, 0)],
    )
    return protocol, predictions, paths


@pytest.fixture
def result(scenes):
    protocol, predictions, _ = scenes
    return search_scores(protocol, predictions.boxes, predictions.scores, predictions.embeddings, predictions.query_embeddings)
