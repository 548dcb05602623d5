import cv2
import numpy as np
import pytest

from mmps.evaluation import SearchProtocol
from mmps.evaluation.predictions import Predictions
from mmps.visualization.ranked_results import BLUE, CELL, GREEN, RED, draw_rows, search_rows, write_rows


@pytest.fixture
def scenes(tmp_path):
    """Three scenes of one colour each; the query of the first is in the second, not in the third."""
    paths = []
    for i, colour in enumerate([(200, 0, 0), (0, 200, 0), (0, 0, 200)]):
        paths.append(str(tmp_path / f'{i}.png'))
        cv2.imwrite(paths[-1], np.full((60, 90, 3), colour, np.uint8))
    box = np.array([[10, 5, 30, 55]], np.float32)
    protocol = SearchProtocol.from_galleries(
        ['0', '1', '2'], None, ['0'], box, [0], [[('1', box[0]), ('2', None)]])
    query = np.array([[1, 0]], np.float32)
    predictions = Predictions(('0', '1', '2'), [box] * 3, [np.ones(1, np.float32)] * 3,
                              [query, np.array([[0.6, 0.8]], np.float32), np.array([[0.8, 0.6]], np.float32)],
                              [box] * 3, [np.zeros(1, np.int64)] * 3, query)
    return protocol, predictions, paths


def test_a_row_is_the_query_then_its_detections_by_falling_similarity(scenes):
    rows = search_rows(*scenes, queries=[0])
    assert [(crop.path[-5], crop.colour, crop.caption) for crop in rows[0]] == [
        ('0', BLUE, 'query 0'), ('2', RED, '0.80'), ('1', GREEN, '0.60')]


def test_the_picture_shows_the_crops_in_that_order(scenes):
    sheet = draw_rows(search_rows(*scenes, queries=[0, 0]))
    step = sheet.shape[1] // 3
    middles = [sheet[CELL[0] // 2, i * step + step // 2].tolist() for i in range(3)]
    assert middles == [[200, 0, 0], [0, 0, 200], [0, 200, 0]]
    assert (sheet[:len(sheet) // 2] == sheet[len(sheet) // 2:]).all()


def test_no_detection_leaves_the_query_alone(scenes):
    protocol, predictions, paths = scenes
    nothing = Predictions(predictions.images, [np.zeros((0, 4), np.float32)] * 3, [np.zeros(0, np.float32)] * 3,
                          [np.zeros((0, 2), np.float32)] * 3, predictions.gt_boxes, predictions.gt_person_ids,
                          predictions.query_embeddings)
    assert [len(row) for row in search_rows(protocol, nothing, paths, [0])] == [1]


def test_an_image_that_is_gone_is_named(scenes, tmp_path):
    protocol, predictions, paths = scenes
    rows = search_rows(protocol, predictions, [str(tmp_path / 'gone.jpg'), *paths[1:]], [0])
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        write_rows(tmp_path / 'sheet.png', rows)
    assert not (tmp_path / 'sheet.png').exists()
