from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mmps.visualization.ranked_results import (
    BLUE,
    CELL,
    GOLD,
    GREEN,
    LEGEND,
    RED,
    TITLE,
    draw_rows,
    failure_rows,
    search_rows,
)


def shown(crops):
    """Returns scene, frame colour and caption of each crop."""
    return [(int(crop.image[-5]), crop.colour, crop.caption) for crop in crops]


def has(picture, colour):
    return (picture == colour).all(axis=-1).any()


def test_a_row_is_the_query_and_its_detections_by_descending_similarity(scenes):
    (row,) = search_rows(*scenes, queries=[0])
    assert shown([row.query, *row.results]) == [(0, BLUE, 'query 0'), (2, RED, '0.80'), (1, GREEN, '0.60'), (3, RED, '0.10')]
    assert not row.targets


def test_targets_that_are_not_among_the_results_follow_them(scenes, result):
    (row,) = search_rows(*scenes, queries=[0], topk=1, result=result)
    assert shown(row.results) == [(2, RED, '0.80')]
    assert shown(row.targets) == [(1, GOLD, 'rank 2'), (3, GOLD, 'missed')]
    np.testing.assert_array_equal(row.targets[1].box, scenes[0].target_boxes[1])
    (row,) = search_rows(*scenes, queries=[0], topk=2, result=result)
    assert shown(row.targets) == [(3, GOLD, 'missed')]


@pytest.mark.parametrize('num_missed', [0, 1])
def test_missed_targets_are_preferred_if_there_are_too_many(scenes, result, num_missed):
    (row,) = search_rows(*scenes, queries=[0], topk=1, result=result, num_missed=num_missed)
    assert [crop.caption for crop in row.targets] == ['missed'][:num_missed]


def test_a_failure_has_its_best_targets_and_its_reason(scenes, result):
    protocol, predictions, paths = scenes
    (row,) = failure_rows(protocol, predictions, result, paths, queries=[0], topk=2)
    assert shown(row.results) == [(2, RED, '0.80'), (1, GREEN, '0.60')]
    assert shown(row.targets) == [(1, GOLD, 'rank 2'), (3, GOLD, 'missed')]
    assert row.title == 'AP 25.0 | 2 targets | wrong person first: another person (id 12)'
    (row,) = failure_rows(protocol, predictions, result, paths, queries=[0], num_targets=1)
    assert shown(row.targets) == [(1, GOLD, 'rank 2')]


def test_the_picture_shows_the_crops_in_that_order(scenes, result, colours):
    picture = draw_rows(search_rows(*scenes, queries=[0, 0], topk=1, result=result), legend=False)
    middle = [tuple(pixel) for pixel in picture[CELL[0] // 2].tolist()]
    assert [colours.index(pixel) for left, pixel in pairwise(middle) if pixel in colours and pixel != left] == [0, 2, 1, 3]
    assert (picture[: len(picture) // 2] == picture[len(picture) // 2 :]).all()
    assert all(has(picture, colour) for colour in (BLUE, RED, GOLD)) and not has(picture, GREEN)


def test_titles_and_captions_are_written(scenes, result):
    protocol, predictions, paths = scenes
    (row,) = failure_rows(protocol, predictions, result, paths, queries=[0])
    picture = draw_rows([row], legend=False)
    assert (picture[: TITLE - 2] < 128).any()
    assert (draw_rows([replace(row, title=' ')], legend=False)[: TITLE - 2] == 255).all()
    assert (picture[-16:] < 128).any()


def test_the_legend_explains_the_colours_that_occur(scenes, result):
    with_targets = draw_rows(search_rows(*scenes, queries=[0], topk=1, result=result))[: LEGEND[0] - 2]
    without = draw_rows(search_rows(*scenes, queries=[0]))[: LEGEND[0] - 2]
    assert all(has(with_targets, colour) for colour in (BLUE, GREEN, RED, GOLD))
    assert all(has(without, colour) for colour in (BLUE, GREEN, RED)) and not has(without, GOLD)


def test_a_row_without_detections_shows_only_the_query(scenes, colours):
    protocol, predictions, paths = scenes
    nothing = replace(
        predictions,
        boxes=[np.zeros((0, 4), np.float32)] * 4,
        scores=[np.zeros(0, np.float32)] * 4,
        embeddings=[np.zeros((0, 2), np.float32)] * 4,
    )
    (row,) = search_rows(protocol, nothing, paths, [0])
    assert not row.results
    assert has(draw_rows([row]), colours[0])


def test_a_box_outside_the_image_shows_at_least_one_pixel(scenes, colours):
    (row,) = search_rows(*scenes, queries=[0])
    outside = replace(row.query, box=np.array([500, 500, 520, 560]))
    assert has(draw_rows([replace(row, query=outside)]), colours[0])


def test_a_missing_image_is_named_in_one_line(scenes, tmp_path):
    protocol, predictions, paths = scenes
    rows = search_rows(protocol, predictions, [str(tmp_path / 'gone.jpg'), *paths[1:]], [0])
    with pytest.raises(FileNotFoundError, match=r'^.*gone\.jpg: there is no readable image$'):
        draw_rows(rows)
