"""The content of the charts, read from the matplotlib figures before they become pixels."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mmps.visualization import charts

EDGES = np.array([-1, 0, 0.5, 1])


@pytest.fixture
def figure(monkeypatch):
    """figure(draw, ...) returns the matplotlib figure that ``draw`` makes."""

    def drawn(draw, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(charts, 'picture_of', lambda figure: figure)
            return draw(*args, **kwargs)

    return drawn


def lines(axis):
    return {line.get_label(): line.get_xydata().tolist() for line in axis.get_lines()}


def texts(axis):
    return [text.get_text() for text in axis.texts]


def labels(ticks):
    return [tick.get_text() for tick in ticks]


@pytest.mark.parametrize(
    'draw, args',
    [
        (charts.draw_gains, [{'a': {'b': (0.1, 0.05, 0.2)}}]),
        (charts.draw_accuracy, [{'a': (1, 1.0)}, {'a': {'': 0.5}}]),
        (charts.draw_precision_recall, [{'a': (np.array([0, 1]), np.array([1, 0.5]))}]),
        (charts.draw_similarities, [EDGES, np.array([0, 1, 2]), np.array([9, 3, 0])]),
        (charts.draw_similarities, [EDGES, np.zeros(3, int), np.zeros(3, int)]),
        (charts.draw_gallery_sizes, [{'a': {50: {'mAP': 0.5}}}]),
        (charts.draw_camera_pairs, [np.eye(2), np.eye(2, dtype=int), [1, 2]]),
        (charts.draw_detection_by_height, [[0, 50, np.inf], [0.5, np.nan], [0.4, np.nan], [7, 0]]),
        (charts.draw_losses, [{'run': {'loss_reid': [(1, 5.0), (2, 4.0)]}}]),
    ],
)
def test_charts_are_small_rgb_pictures(draw, args):
    picture = draw(*args)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert 200 < picture.shape[0] < 700 and 200 < picture.shape[1] < 1400
    assert (picture[:2] == 255).all() and (picture < 128).any()


def test_precision_recall_has_one_line_per_search(figure):
    (axis,) = figure(
        charts.draw_precision_recall,
        {'OIM': (np.array([0, 0.5, 1]), np.array([1, 0.8, 0.2])), 'GDPS': (np.array([0, 1]), np.array([1, 0.5]))},
    ).axes
    assert lines(axis) == {'OIM': [[0, 100], [50, 80], [100, 20]], 'GDPS': [[0, 100], [100, 50]]}
    assert labels(axis.get_legend().get_texts()) == ['OIM', 'GDPS']


def test_similarities_are_densities_of_area_one(figure):
    (axis,) = figure(charts.draw_similarities, EDGES, np.array([0, 1, 3]), np.array([6000, 2000, 0])).axes
    others, matches = (patch.get_data().values for patch in axis.patches)
    np.testing.assert_allclose(matches, [0, 0.5, 1.5])
    np.testing.assert_allclose(others, [0.75, 0.5, 0])
    assert labels(axis.get_legend().get_texts()) == ['others (8,000)', 'true positives (4)']
    assert axis.get_xlim() == (-1, 1)


def test_gallery_sizes_have_one_panel_per_score(figure):
    mean, first = figure(
        charts.draw_gallery_sizes,
        {'OIM': {4000: {'mAP': 0.6, 'top-1': 0.7}, 50: {'mAP': 0.8, 'top-1': 0.9}}, 'SeqNet': {50: {'mAP': 0.95}}},
    ).axes
    assert lines(mean) == {'OIM': [[50, 80], [4000, 60]], 'SeqNet': [[50, 95]]}
    assert lines(first) == {'OIM': [[50, 90], [4000, 70]]}
    assert mean.get_ylabel() == 'mAP, %' and first.get_ylabel() == 'top-1, %'
    assert mean.get_xscale() == 'log' and labels(mean.get_xticklabels()) == ['50', '4,000']


def test_a_series_without_name_has_no_legend(figure, recwarn):
    (axis,) = figure(charts.draw_gallery_sizes, {'': {50: {'mAP': 0.8}}}).axes
    assert axis.get_legend() is None and not recwarn


def test_camera_pairs_show_score_and_queries_and_others_are_blank(figure):
    scores, counts = np.array([[np.nan, 0.25], [0.875, 0.5]]), np.array([[0, 1200], [3, 0]])
    axis, _ = figure(charts.draw_camera_pairs, scores, counts, ['c1', 'c2']).axes
    assert texts(axis) == ['25.0\n(1,200)', '87.5\n(3)']
    assert [text.get_position() for text in axis.texts] == [(1, 0), (0, 1)]
    np.testing.assert_array_equal(axis.images[0].get_array().mask, counts == 0)
    assert labels(axis.get_xticklabels()) == labels(axis.get_yticklabels()) == ['c1', 'c2']


def test_heights_have_bars_of_recall_and_ap_only_with_persons(figure):
    (axis,) = figure(
        charts.draw_detection_by_height, [0, 50, 100, np.inf], [0.25, 0.75, np.nan], [0.1, 0.5, np.nan], [1034, 20, 0]
    ).axes
    recall, ap = ([bar.get_height() for bar in bars] for bars in axis.containers)
    np.testing.assert_allclose(recall, [25, 75, np.nan])
    np.testing.assert_allclose(ap, [10, 50, np.nan])
    assert labels(axis.get_xticklabels()) == ['0-50\n1,034 persons', '50-100\n20 persons', '100+\n0 persons']
    assert texts(axis) == ['25', '75', '', '10', '50', '']


def test_distilled_and_plain_students_share_the_panels_of_losses(figure):
    axes = figure(
        charts.draw_losses,
        {
            'student': {'loss': [(1, 2.0)], 'loss_reid': [(1, 5.0), (2, 4.0)]},
            'GDPS': {'student.loss_reid': [(1, 6.0)], 'distill.loss_relation': [(1, 0.1)]},
        },
    ).axes
    panels = {axis.get_title(): lines(axis) for axis in axes if axis.get_title()}
    assert panels == {
        'loss_reid': {'student': [[1, 5], [2, 4]], 'GDPS': [[1, 6]]},
        'distill.loss_relation': {'GDPS': [[1, 0.1]]},
    }
    colours = {to_hex(line.get_color()) for axis in axes for line in axis.get_lines() if line.get_label() == 'GDPS'}
    assert len(colours) == 1


def test_gains_have_one_row_per_method_with_the_best_on_top_and_are_grey_where_they_may_be_chance(figure):
    axes = figure(
        charts.draw_gains,
        {'OIM': {'GDPS': (0.03, 0.01, 0.05), 'CWD': (-0.01, -0.04, 0.02)}, 'SeqNet': {'GDPS': (0.01, -0.01, 0.03)}},
    ).axes
    assert [axis.get_title() for axis in axes] == ['OIM', 'SeqNet']
    assert labels(axes[0].get_yticklabels()) == ['CWD', 'GDPS']
    drawn = [
        [(line.get_xydata().round(6).tolist(), to_hex(line.get_color())) for line in axis.get_lines()[1:]] for axis in axes
    ]
    grey, green = to_hex('0.6'), to_hex('C2')
    assert drawn[0] == [([[-4, 0], [2, 0]], grey), ([[-1, 0]], grey), ([[1, 1], [5, 1]], green), ([[3, 1]], green)]
    assert drawn[1] == [([[-1, 1], [3, 1]], grey), ([[1, 1]], grey)]


def test_accuracy_is_drawn_with_a_shape_per_network_and_a_colour_per_method(figure):
    drawn = figure(
        charts.draw_accuracy,
        {'big': (4_000_000, 30.0), 'small': (600_000, 10.0)},
        {'big': {'': 0.6}, 'small': {'plain': 0.4, 'GDPS': 0.5}},
    )
    dots = [
        {tuple(line.get_xydata()[0]): (line.get_marker(), to_hex(line.get_color())) for line in axis.get_lines()}
        for axis in drawn.axes
    ]
    assert dots[0].keys() == {(4, 60), (0.6, 40), (0.6, 50)} and dots[1].keys() == {(30, 60), (10, 40), (10, 50)}
    assert len({shape for shape, _ in dots[0].values()}) == 2 and len({colour for _, colour in dots[0].values()}) == 3
    assert dots[0][0.6, 40][1] == dots[1][10, 40][1]
    assert labels(drawn.legends[0].get_texts()) == ['big', 'small', 'plain', 'GDPS']
    assert labels(drawn.axes[0].get_xticklabels()) == ['0.5', '1', '2', '5']


def test_dots_of_a_column_do_not_hide_each_other():
    heights = [10.0, 10.0, 11.0, 10.5, 40.0]
    places = np.stack([charts._swarm(heights, size=6.0), heights], axis=1)
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 100 * np.eye(len(heights))
    assert apart.min() >= 5.9 and places[-1, 0] == 0 and np.abs(places[:, 0]).max() <= 12
