import numpy as np
import pytest

from mmps.evaluation import SearchProtocol


@pytest.fixture(scope='session')
def search_case(golden, load_script):
    """search_case('prw', file) -> simulated results on a real test protocol, which is read from that file; or a skip."""

    def make(name, file):
        cases = load_script(golden('search_cases.py'))
        if not (cases.DATA / file).is_file():
            pytest.skip(f'no {file} in {cases.DATA}, where {cases.__file__} reads it')
        return getattr(cases, f'{name}_case')(0)

    return make


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
