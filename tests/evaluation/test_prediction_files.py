import numpy as np
import pytest

from mmps.evaluation import Predictions, load_predictions, save_predictions


@pytest.fixture
def predictions(scene):
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 3), np.float32)
    lists = [[*scene[name], nothing] for name, nothing in zip(('boxes', 'scores', 'embeddings'), empty, strict=True)]
    return Predictions(('a', 'b', 'c', 'nobody'), *lists, [*scene['boxes'], empty[0]],
                       [*scene['person_ids'], np.zeros(0, np.int64)], scene['query_embeddings'])


def test_a_file_gives_back_what_was_written(predictions, tmp_path):
    path = tmp_path / 'new' / 'predictions.out'
    save_predictions(path, predictions)
    loaded = load_predictions(path)
    assert loaded.images == predictions.images
    for name in ('boxes', 'scores', 'embeddings', 'gt_boxes', 'gt_person_ids'):
        for before, after in zip(getattr(predictions, name), getattr(loaded, name), strict=True):
            np.testing.assert_array_equal(before, after, strict=True)
    np.testing.assert_array_equal(loaded.query_embeddings, predictions.query_embeddings, strict=True)


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('boxes', np.zeros((5, 5), np.float32), r"array 'boxes': expected shape \(5, 4\), got \(5, 5\) of float32"),
    ('scores', np.zeros(4, np.float32), r"array 'scores': expected shape \(5,\), got \(4,\)"),
    ('scores', np.zeros(5, int), r"array 'scores': expected shape \(5,\), got \(5,\) of int64"),
    ('embeddings', np.zeros((5, 2), np.float32), r"array 'embeddings': expected shape \(5, 3\), got \(5, 2\)"),
    ('query_embeddings', np.zeros(3, np.float32), r"array 'query_embeddings': expected shape \(Q, D\), got \(3,\)"),
    ('offsets', np.zeros(3, int), r"array 'offsets': expected shape \(5,\), got \(3,\)"),
    ('gt_offsets', np.array([0, 3, 2, 5, 5]), 'gt_offsets: expected numbers that rise from 0'),
    ('format', np.int64(99), 'format 99, but this version of mmps reads format 1'),
    ('gt_person_ids', None, r"array 'gt_person_ids' of shape \(5,\) is missing"),
    ('images', np.array([None, {}, 1, 2], object), "array 'images' cannot be read"),
])
def test_a_file_that_does_not_fit_names_the_array(predictions, tmp_path, name, value, message):
    path = tmp_path / 'predictions.npz'
    save_predictions(path, predictions)
    with np.load(path) as file:
        arrays = {**file, name: value}
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=message):
        load_predictions(path)


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04', b'not an npz'])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / 'other'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='is not a predictions file'):
        load_predictions(path)
    np.save(tmp_path / 'single.npy', np.zeros(3))
    with pytest.raises(ValueError, match='is not a predictions file'):
        load_predictions(tmp_path / 'single.npy')
