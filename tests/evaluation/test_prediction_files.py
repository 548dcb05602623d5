import dataclasses
import zipfile

import numpy as np
import pytest
import torch

from mmps.evaluation.predictions import Predictions, load_predictions, save_predictions
from mmps.evaluation.protocol import SearchProtocol

LISTS = ('boxes', 'scores', 'embeddings', 'gt_boxes', 'gt_person_ids', 'gt_embeddings', 'context_embeddings')
OPTIONAL = ('query_images', 'query_boxes', *LISTS[3:])


@pytest.fixture
def predictions(scene):
    """Predictions with every field. The fourth image has no persons and the second query no context."""
    empty = {
        'boxes': np.zeros((0, 4), np.float32),
        'scores': np.zeros(0, np.float32),
        'embeddings': np.zeros((0, 3), np.float32),
        'person_ids': np.zeros(0, np.int64),
    }
    lists = {name: [*scene[name], nothing] for name, nothing in empty.items()}
    return Predictions(
        images=('a', 'b', 'c', 'nobody'),
        boxes=lists['boxes'],
        scores=lists['scores'],
        embeddings=lists['embeddings'],
        query_embeddings=scene['query_embeddings'],
        query_images=('a', 'a'),
        query_boxes=scene['protocol'].query_boxes,
        gt_boxes=lists['boxes'],
        gt_person_ids=lists['person_ids'],
        gt_embeddings=lists['embeddings'],
        context_embeddings=[np.eye(3, dtype=np.float32)[1:], empty['embeddings']],
    )


def assert_equal(one, other):
    assert (one.images, one.query_images) == (other.images, other.query_images)
    for name in LISTS:
        before, after = getattr(one, name), getattr(other, name)
        if before is None or after is None:
            assert before is after
            continue
        for one_array, other_array in zip(before, after, strict=True):
            np.testing.assert_array_equal(one_array, other_array, strict=True)
    np.testing.assert_array_equal(one.query_embeddings, other.query_embeddings, strict=True)
    np.testing.assert_array_equal(one.query_boxes, other.query_boxes)


def without(predictions, *names):
    return dataclasses.replace(predictions, **dict.fromkeys(names))


@pytest.mark.parametrize('absent', [(), OPTIONAL, ('gt_embeddings',), ('query_images',), ('query_boxes', 'context_embeddings')])
def test_a_file_returns_what_was_written(predictions, tmp_path, absent):
    predictions = without(predictions, *absent)
    path = tmp_path / 'new' / 'predictions.out'
    save_predictions(path, predictions)
    assert_equal(load_predictions(path), predictions)


def test_empty_lists_may_have_any_shape(predictions, tmp_path):
    nothing = np.zeros(0, np.float32)
    careless = dataclasses.replace(
        predictions, **{name: [*getattr(predictions, name)[:-1], nothing] for name in LISTS if name != 'gt_person_ids'}
    )
    save_predictions(tmp_path / 'predictions.npz', careless)
    assert_equal(load_predictions(tmp_path / 'predictions.npz'), predictions)


def rewrite(predictions, path, **changes):
    """Writes the file with some arrays changed, or left out (None)."""
    save_predictions(path, predictions)
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez_compressed(path, **{key: array for key, array in arrays.items() if array is not None})


@pytest.mark.parametrize('dtype', ['f2', 'f8', '>f4'])
def test_other_precisions_are_read_as_float32(predictions, tmp_path, dtype):
    path = tmp_path / 'predictions.npz'
    predictions = dataclasses.replace(predictions, scores=[np.full_like(scores, 0.5) for scores in predictions.scores])
    save_predictions(path, predictions)
    with np.load(path) as file:
        changes = {name: array.astype(dtype) for name, array in file.items() if array.dtype.kind == 'f'}
    rewrite(predictions, path, **changes, offsets=np.array([0, 2, 3, 5, 5], np.uint8))
    assert_equal(load_predictions(path), predictions)


NAN = np.array([0, 1, np.nan, 0, 0], np.float32)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'boxes': np.zeros((5, 5), np.float32)}, r"array 'boxes': expected shape \(N, 4\) of floats, got \(5, 5\) of float32"),
        ({'scores': np.zeros(4, np.float32)}, r"array 'scores': expected shape \(5,\) of floats, got \(4,\)"),
        ({'scores': np.zeros(5, int)}, r"array 'scores': expected shape \(5,\) of floats, got \(5,\) of int64"),
        ({'scores': NAN}, r"array 'scores': row 2 is not finite"),
        ({'scores': np.full(5, 1e300)}, r"array 'scores': row 0 is not finite"),
        ({'boxes': np.tile(NAN[:, None], 4)}, r"array 'boxes': row 2 is not finite"),
        ({'embeddings': np.tile(NAN[:, None], 3)}, r"array 'embeddings': row 2 is not finite"),
        ({'embeddings': np.zeros((5, 2), np.float32)}, r"array 'embeddings': expected shape \(5, 3\) of floats, got \(5, 2\)"),
        ({'query_embeddings': np.zeros(3, np.float32)}, r"array 'query_embeddings': expected shape \(Q, D\)"),
        ({'query_embeddings': np.zeros((2, 0), np.float32)}, r'expected at least one number per query, got \(2, 0\)'),
        ({'query_images': np.array(['a'])}, r"array 'query_images': expected shape \(2,\) of text, got \(1,\)"),
        ({'query_boxes': np.zeros((2, 5))}, r"array 'query_boxes': expected shape \(2, 4\)"),
        ({'offsets': np.zeros(3, int)}, r"array 'offsets': expected shape \(5,\) of whole numbers, got \(3,\)"),
        ({'offsets': np.array([0, 2, 3, 5, 9])}, r"'offsets': expected numbers that rise from 0 to 5, the length of 'boxes'"),
        ({'gt_offsets': np.array([0, 3, 2, 5, 5], np.uint8)}, r"'gt_offsets': expected numbers that rise from 0 to 5"),
        ({'offsets': np.array([0, 2**63 - 1, -5, 5, 5])}, r"'offsets': expected numbers that rise from 0 to 5"),
        ({'gt_offsets': np.array([1, 3, 3, 5, 5])}, r"'gt_offsets': expected numbers that rise from 0 to 5"),
        ({'context_offsets': np.array([0, 2])}, r"array 'context_offsets': expected shape \(3,\)"),
        ({'context_offsets': None}, r"array 'context_offsets' of shape \(3,\) is missing"),
        ({'context_embeddings': None}, r"array 'context_embeddings' of shape \(N, 3\) is missing"),
        ({'format': np.int64(99)}, 'format 99, but this version of mmps reads format 1'),
        ({'scores': None}, r"array 'scores' of shape \(5,\) is missing"),
        ({'gt_person_ids': None}, r"array 'gt_person_ids' of shape \(5,\) is missing"),
        ({'gt_boxes': None}, r"array 'gt_boxes' of shape \(N, 4\) is missing"),
        ({'gt_boxes': None, 'gt_person_ids': None, 'gt_offsets': None}, r"array 'gt_boxes' of shape \(N, 4\) is missing"),
        ({'gt_embeddings': np.zeros((4, 3))}, r"array 'gt_embeddings': expected shape \(5, 3\)"),
        (
            {'gt_person_ids': np.zeros(5)},
            r"array 'gt_person_ids': expected shape \(5,\) of whole numbers, got \(5,\) of float64",
        ),
        ({'images': np.array(['a', 'b', 'a', 'b'])}, "array 'images': 'a' is listed twice"),
        ({'images': np.array([None, {}, 1, 2], object)}, "array 'images' cannot be read"),
    ],
)
def test_an_error_about_wrong_content_names_file_and_array(predictions, tmp_path, changes, message):
    path = tmp_path / 'predictions.npz'
    rewrite(predictions, path, **changes)
    with pytest.raises(ValueError, match=rf'predictions\.npz: .*{message}'):
        load_predictions(path)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'scores': [np.ones(3), np.zeros(0), np.ones(2), np.zeros(0)]},
            r'scores: expected shape \(2,\) at index 0, got \(3,\)',
        ),
        ({'scores': [np.ones(2)]}, 'scores: expected 4 lists, got 1'),
        ({'gt_boxes': None}, "array 'gt_boxes' of shape"),
        ({'query_embeddings': np.full((2, 3), np.nan, np.float32)}, "'query_embeddings': row 0 is not finite"),
        ({'query_embeddings': np.zeros(3, np.float32)}, r'expected shape \(Q, D\), got \(3,\)'),
    ],
)
def test_predictions_that_could_not_be_read_are_not_written(predictions, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        save_predictions(tmp_path / 'predictions.npz', dataclasses.replace(predictions, **changes))
    assert not list(tmp_path.iterdir())


HUGE = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000, 4), }".ljust(127) + b'\n'


@pytest.mark.parametrize(
    ('name', 'content'),
    [('boxes', b''), ('boxes', b'not an array'), ('format', b'raw'), ('boxes', HUGE), ('images', HUGE.replace(b'<f4', b'<U9'))],
)
def test_an_unreadable_array_is_named_whatever_is_wrong_with_it(predictions, tmp_path, name, content):
    save_predictions(tmp_path / 'whole.npz', predictions)
    with zipfile.ZipFile(tmp_path / 'whole.npz') as whole, zipfile.ZipFile(tmp_path / 'broken.npz', 'w') as broken:
        for member in whole.namelist():
            broken.writestr(member, content if member == f'{name}.npy' else whole.read(member))
    with pytest.raises(ValueError, match=rf"broken\.npz: array '{name}' cannot be read: .+") as caught:
        load_predictions(tmp_path / 'broken.npz')
    assert '\n' not in str(caught.value)


def test_a_file_of_torch_is_refused_with_advice(tmp_path):
    torch.save({'gallery_dets': []}, tmp_path / 'eval_cache.pth')
    with pytest.raises(ValueError, match=r"eval_cache\.pth is a file of torch\.save.* SeqNet's cache needs --seqnet"):
        load_predictions(tmp_path / 'eval_cache.pth')


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04', b'not an npz'])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / 'other'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='is not a predictions file'):
        load_predictions(path)
    np.save(tmp_path / 'single.npy', np.zeros(3))
    with pytest.raises(ValueError, match='is not a predictions file'):
        load_predictions(tmp_path / 'single.npy')


def test_the_documented_example_writes_a_readable_file(predictions, repository, tmp_path):
    names = {}
    exec((repository / 'docs/predictions.md').read_text().split('```python\n')[1].split('```')[0], names)
    detections = zip(predictions.boxes, predictions.scores, predictions.embeddings, strict=True)
    names['write'](
        tmp_path / 'predictions.npz',
        dict(zip(predictions.images, detections, strict=True)),
        list(zip(predictions.query_images, predictions.query_boxes, predictions.query_embeddings, strict=True)),
    )
    assert_equal(load_predictions(tmp_path / 'predictions.npz'), without(predictions, *LISTS[3:]))


@pytest.mark.parametrize('absent', [(), OPTIONAL])
def test_images_are_put_in_the_protocols_order_and_others_are_left_out(predictions, scene, absent):
    predictions = without(predictions, *absent)
    of_images = [name for name in LISTS[:-1] if name not in absent]
    shuffled = dataclasses.replace(
        predictions,
        images=('c', 'nobody', 'a', 'b'),
        **{name: [getattr(predictions, name)[index] for index in (2, 3, 0, 1)] for name in of_images},
    )
    expected = dataclasses.replace(
        predictions, images=('a', 'b', 'c'), **{name: getattr(predictions, name)[:3] for name in of_images}
    )
    assert_equal(shuffled.for_protocol(scene['protocol']), expected)


def test_a_missing_image_is_named(predictions, scene):
    renamed = dataclasses.replace(predictions, images=('a', 'b.png', 'c.png', 'nobody'))
    with pytest.raises(ValueError, match=r"2 of the protocol's 3 images are not among the 4 predicted ones, .* 'b'"):
        renamed.for_protocol(scene['protocol'])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'query_embeddings': np.zeros((3, 3), np.float32)}, 'the 2 queries of the protocol, got 3'),
        ({'query_images': ('a', 'b')}, r"query 1 \(image 'a'\) was predicted from image 'b'"),
        (
            {'query_boxes': np.array([[100, 0, 140, 80], [0, 0, 40, 80.0]])},
            r"query 0 \(image 'a'\) has the box \[0.0, 0.0, 40.0, 80.0\], but was predicted from \[100.0, 0.0, 140.0, 80.0\]",
        ),
    ],
)
def test_predictions_of_other_queries_are_refused(predictions, scene, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(predictions, **changes).for_protocol(scene['protocol'])


def test_query_boxes_may_be_rounded_and_clipped(predictions, scene):
    protocol: SearchProtocol = scene['protocol']
    moved = protocol.query_boxes + np.array([-8, 0.9, -0.9, 8], np.float32)
    dataclasses.replace(predictions, query_boxes=moved).for_protocol(protocol)
