import numpy as np
import pytest

from mmps.evaluation import SearchProtocol


@pytest.fixture(scope='session')
def search_cases(golden, load_script):
    return load_script(golden / 'search_cases.py')


@pytest.fixture
def scene():
    """A perfect model: three images, two persons, a detection at each box, and embeddings one-hot by person."""
    boxes = [
        np.array([[0, 0, 40, 80], [100, 0, 140, 80]], np.float32),
        np.array([[10, 0, 50, 80]], np.float32),
        np.array([[60, 0, 90, 60], [200, 0, 240, 80]], np.float32),
    ]
    person_ids = [np.array([0, 1]), np.array([0]), np.array([1, -1])]
    protocol = SearchProtocol.from_identities(
        ('a', 'b', 'c'), [0, 1, 0], boxes, person_ids, ['a', 'a'], boxes[0], person_ids[0]
    )
    embeddings = [np.eye(3, dtype=np.float32)[ids] for ids in person_ids]
    return {
        'protocol': protocol,
        'boxes': boxes,
        'scores': [np.full(len(ids), 0.9, np.float32) for ids in person_ids],
        'embeddings': embeddings,
        'person_ids': person_ids,
        'query_embeddings': np.eye(3, dtype=np.float32)[:2],
    }
