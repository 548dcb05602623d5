import numpy as np
import pytest

from mmps.evaluation import colour_histogram

RED, BLUE, GREEN = (0, 0, 255), (255, 0, 0), (0, 255, 0)


def picture():
    """Two persons in red over blue, one in blue over red."""
    image = np.zeros((80, 150, 3), np.uint8)
    for left, (upper, lower) in zip((0, 50, 100), ((RED, BLUE), (RED, BLUE), (BLUE, RED)), strict=True):
        image[:40, left : left + 40], image[40:, left : left + 40] = upper, lower
    return image, np.array([[0, 0, 40, 80], [50, 0, 90, 80], [100, 0, 140, 80]], np.float32)


def test_the_same_clothes_are_similar_and_swapped_ones_are_not():
    similarity = (lambda e: e @ e.T)(colour_histogram(*picture()))
    assert similarity[0, 1] == pytest.approx(1) and similarity[0, 2] == pytest.approx(0)


@pytest.mark.filterwarnings('error')
def test_embeddings_have_length_one_wherever_the_box_is():
    image, _ = picture()
    beside, beyond, around = (-50, -50, -9, -9), (500, 500, 600, 600), (-5, -5, 999, 999)
    empty, tiny = (3, 3, 3, 3), (1, 1, 1.1, 1.1)
    embeddings = colour_histogram(image, np.array([beside, beyond, empty, tiny, around]))
    assert embeddings.shape == (5, 256) and embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)


def test_no_boxes_return_an_empty_array():
    assert colour_histogram(picture()[0], np.zeros((0, 4)), stripes=3).shape == (0, 384)


def test_another_type_of_image_is_refused():
    with pytest.raises(ValueError, match=r'image: expected uint8 \(H, W, 3\), got float64 \(4, 4\)'):
        colour_histogram(np.zeros((4, 4)), np.zeros((0, 4)))
    with pytest.raises(ValueError, match=r'boxes: expected finite numbers of shape \(N, 4\), got \(4,\)'):
        colour_histogram(picture()[0], np.zeros(4))
