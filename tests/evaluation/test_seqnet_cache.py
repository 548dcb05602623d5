import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from mmps.evaluation.seqnet_cache import load_seqnet_cache
from mmps.fileio.array_pickle import load_arrays

NOBODY = np.zeros((0, 5), np.float32), np.zeros((0, 3), np.float32)


@pytest.fixture
def cache(scene):
    """Returns what SeqNet's evaluation saves for the scene: two queries from image 'a', each the other's context."""
    detections = [np.column_stack([boxes, scores]) for boxes, scores in zip(scene['boxes'], scene['scores'], strict=True)]
    first = detections[0]
    return {
        'gallery_dets': detections,
        'gallery_feats': scene['embeddings'],
        'query_dets': [first, first[::-1]],
        'query_feats': [scene['embeddings'][0], scene['embeddings'][0][::-1]],
        'query_box_feats': [embedding[None] for embedding in scene['query_embeddings']],
    }


def torch_zip(value, path):
    torch.save(value, path)


def torch_before_1_6(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def plain_pickle(protocol):
    def write(value, path):
        path.write_bytes(pickle.dumps(value, protocol))

    return write


def numpy_1(value, path):
    """Uses the function names of NumPy 1."""
    path.write_bytes(pickle.dumps(value, 2).replace(b'numpy._core.multiarray', b'numpy.core.multiarray'))


CONTAINERS = {
    'zip': torch_zip,
    'before 1.6': torch_before_1_6,
    'numpy 1': numpy_1,
    **{f'protocol {number}': plain_pickle(number) for number in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.fixture(params=CONTAINERS.values(), ids=CONTAINERS)
def container(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'eval_cache.pth'


def test_a_cache_is_read_from_any_container(cache, scene, container, path):
    container(cache, path)
    predictions = load_seqnet_cache(path, scene['protocol'])
    assert predictions.images == ('a', 'b', 'c')
    for name in ('boxes', 'scores', 'embeddings'):
        for expected, found in zip(scene[name], getattr(predictions, name), strict=True):
            np.testing.assert_array_equal(found, expected, strict=True)
    np.testing.assert_array_equal(predictions.query_embeddings, scene['query_embeddings'], strict=True)
    np.testing.assert_array_equal(predictions.query_boxes, scene['protocol'].query_boxes)
    assert [context.tolist() for context in predictions.context_embeddings] == [[[0, 1, 0]], [[1, 0, 0]]]


@pytest.mark.parametrize('nobody', [NOBODY, ([], []), (np.zeros(0), np.zeros((0, 256)))])
def test_images_without_detections(cache, scene, container, path, nobody):
    for name, nothing in zip(('gallery_dets', 'gallery_feats'), nobody, strict=True):
        cache[name] = [nothing, *cache[name][1:]]
    container(cache, path)
    predictions = load_seqnet_cache(path, scene['protocol'])
    assert predictions.boxes[0].shape == (0, 4) and predictions.embeddings[0].shape == (0, 3)
    assert predictions.scores[0].shape == (0,) and len(predictions.boxes[1]) == 1


def as_lists(arrays):
    return [array.tolist() for array in arrays]


def as_vectors(arrays):
    return [array.reshape(-1) if len(array) == 1 else array for array in arrays]


def as_doubles(arrays):
    return [array.astype('>f8') for array in arrays]


def as_columns(arrays):
    return tuple(np.asfortranarray(array) for array in arrays)


@pytest.mark.parametrize('form', [as_lists, as_doubles, as_columns])
def test_entries_of_another_form(cache, scene, container, path, form):
    container({name: form(entries) for name, entries in cache.items()}, path)
    predictions = load_seqnet_cache(path, scene['protocol'])
    np.testing.assert_array_equal(np.concatenate(predictions.embeddings), np.concatenate(scene['embeddings']), strict=True)


def test_query_embeddings_may_be_vectors(cache, scene, path):
    torch_zip({**cache, 'query_box_feats': as_vectors(cache['query_box_feats'])}, path)
    assert load_seqnet_cache(path, scene['protocol']).query_embeddings.shape == (2, 3)


@pytest.mark.parametrize('write', [torch_zip, torch_before_1_6])
def test_tensors_are_refused(cache, scene, path, write):
    write({**cache, 'gallery_feats': [torch.from_numpy(array.copy()) for array in cache['gallery_feats']]}, path)
    with pytest.raises(ValueError, match=r'eval_cache\.pth .*names torch\._utils\._rebuild_tensor_v2, which no array needs'):
        load_seqnet_cache(path, scene['protocol'])


def test_a_cache_without_query_detections_has_no_context(cache, scene, path):
    torch_zip({name: entries for name, entries in cache.items() if name not in ('query_dets', 'query_feats')}, path)
    predictions = load_seqnet_cache(path, scene['protocol'])
    assert predictions.context_embeddings is None and predictions.query_boxes is None


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (np.array([None, {}]), "array of type 'O8'"),
        (np.zeros(3, dtype=[('x', 'f4')]), 'array of type'),
        (np.array(['text']), 'array of type'),
    ],
)
def test_arrays_of_anything_but_numbers_are_refused(scene, container, path, value, message):
    container({'gallery_dets': value}, path)
    with pytest.raises(ValueError, match=message):
        load_seqnet_cache(path, scene['protocol'])


def test_an_array_over_the_memory_of_another_one_is_refused(path):
    array = pickle.dumps(np.ones(2), 2)[2:-1]  # without its protocol and end
    over = (
        b'cnumpy._core.numeric\n_frombuffer\n('
        + array
        + b'cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85RK\x02\x85X\x01\x00\x00\x00CtR'
    )
    path.write_bytes(b'\x80\x02' + over + b'.')
    with pytest.raises(ValueError, match='it has an array over a Array'):
        load_arrays(path)


def nested(levels):
    inner = [0.0] * 5
    for _ in range(levels):
        inner = [inner] * 12
    return inner


def in_itself():
    endless = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize('value', [nested(9), in_itself()], ids=['unfolds to gigabytes', 'endless'])
def test_a_small_file_that_unfolds_without_end_is_refused_at_once(scene, path, value):
    path.write_bytes(pickle.dumps({'query_box_feats': value}))
    assert path.stat().st_size < 1000
    with pytest.raises(ValueError, match=r'eval_cache\.pth cannot be read .*nested more than 4 deep'):
        load_seqnet_cache(path, scene['protocol'])


def test_a_checkpoint_given_by_mistake_is_refused(scene, path):
    torch.save({'model': torch.nn.Linear(1, 1).state_dict(), 'epoch': 3}, path)
    with pytest.raises(ValueError, match=r'eval_cache\.pth cannot be read .*it names collections\.OrderedDict'):
        load_seqnet_cache(path, scene['protocol'])


def zip_of(name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:
        archive.writestr(name, b'')
    return content.getvalue()


@pytest.mark.parametrize(
    'content',
    [b'', b'not a pickle', b'PK\x03\x04', zip_of('boxes.npy'), zip_of('a/data.pkl'), b'\x80\x04]', pickle.dumps('x' * 99)[:50]],
)
def test_another_file_is_refused(scene, path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'eval_cache\.pth cannot be read as a pickle of arrays'):
        load_seqnet_cache(path, scene['protocol'])


def changed(cache, name, index, value):
    return {**cache, name: [*cache[name][:index], value, *cache[name][index + 1 :]]}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda cache: list(cache.values()), 'expected the dict that SeqNet saves, got list'),
        (lambda cache: {'gallery_dets': cache['gallery_dets']}, 'query_box_feats is missing: .* one with gallery_dets'),
        (
            lambda cache: {**cache, 'gallery_dets': cache['gallery_dets'][:2]},
            'gallery_dets: expected one entry for each of the 3 images of the protocol, got 2',
        ),
        (
            lambda cache: {**cache, 'query_box_feats': cache['query_box_feats'] * 2},
            'query_box_feats: expected one entry for each of the 2 queries of the protocol, got 4',
        ),
        (lambda cache: {**cache, 'gallery_feats': 7}, 'gallery_feats: expected a list, got int'),
        (lambda cache: {**cache, 'gallery_feats': np.array(5)}, 'gallery_feats: expected a list, got Array'),
        (lambda cache: changed(cache, 'gallery_dets', 0, [[10**400] * 5]), r'gallery_dets\[0\]: expected an array of numbers'),
        (
            lambda cache: changed(cache, 'gallery_dets', 1, np.zeros((1, 4))),
            r'gallery_dets\[1\]: expected shape \(n, 5\), got \(1, 4\)',
        ),
        (lambda cache: changed(cache, 'gallery_dets', 1, 'text'), r'gallery_dets\[1\]: expected an array of numbers, got str'),
        (
            lambda cache: changed(cache, 'gallery_dets', 2, NOBODY[0]),
            r'gallery_feats\[2\]: expected shape \(0, 3\), got \(2, 3\)',
        ),
        (
            lambda cache: changed(cache, 'gallery_feats', 0, np.zeros((2, 4))),
            r'gallery_feats\[0\]: expected shape \(2, 3\), got \(2, 4\)',
        ),
        (lambda cache: changed(cache, 'gallery_feats', 0, np.full((2, 3), np.nan)), r'gallery_feats\[0\] is not finite'),
        (
            lambda cache: changed(cache, 'query_box_feats', 1, np.zeros((2, 3))),
            r'query_box_feats\[1\]: expected shape \(1, 3\), got \(2, 3\)',
        ),
        (lambda cache: changed(cache, 'query_box_feats', 0, []), r'query_box_feats\[0\]: expected shape \(1, D\), got \(0,\)'),
        (
            lambda cache: changed(changed(cache, 'query_dets', 1, []), 'query_feats', 1, []),
            r"query_dets\[1\]: expected the query's own box in the first row, got no row",
        ),
        (lambda cache: {name: cache[name] for name in cache if name != 'query_feats'}, 'query_feats is missing'),
        (
            lambda cache: {**cache, 'query_dets': cache['query_dets'][::-1]},
            r"query 0 \(image 'a'\) has the box \[0.0, 0.0, 40.0, 80.0\], but was predicted from \[100.0, 0.0, 140.0, 80.0\]",
        ),
    ],
)
def test_an_error_about_wrong_content_names_file_and_entry(cache, scene, path, change, message):
    torch_zip(change(cache), path)
    with pytest.raises(ValueError, match=rf'eval_cache\.pth: {message}'):
        load_seqnet_cache(path, scene['protocol'])


def test_a_missing_cache_raises_file_not_found(scene, path):
    with pytest.raises(FileNotFoundError):
        load_seqnet_cache(path, scene['protocol'])
