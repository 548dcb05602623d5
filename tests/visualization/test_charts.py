"""What the charts hold: matplotlib's figures are looked into before they become pixels."""
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mmps.visualization import charts

EDGES = np.array([-1, 0, 0.5, 1])


@pytest.fixture
def figure(monkeypatch):
    """figure(draw, ...) -> the matplotlib figure that ``draw`` makes."""

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


@pytest.mark.parametrize('draw, args', [
    (charts.draw_precision_recall, [{'a': (np.array([0, 1]), np.array([1, 0.5]))}]),
    (charts.draw_similarities, [EDGES, np.array([0, 1, 2]), np.array([9, 3, 0])]),
    (charts.draw_similarities, [EDGES, np.zeros(3, int), np.zeros(3, int)]),
    (charts.draw_gallery_sizes, [{'a': {50: {'mAP': 0.5}}}]),
    (charts.draw_camera_pairs, [np.eye(2), np.eye(2, dtype=int), [1, 2]]),
    (charts.draw_detection_by_height, [[0, 50, np.inf], [0.5, np.nan], [0.4, np.nan], [7, 0]]),
    (charts.draw_losses, [{'run': {'loss_reid': [(1, 5.0), (2, 4.0)]}}]),
])
def test_charts_are_small_rgb_pictures(draw, args):
    picture = draw(*args)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert 200 < picture.shape[0] < 700 and 200 < picture.shape[1] < 1400
    assert (picture[:2] == 255).all() and (picture < 128).any()


def test_precision_falls_with_recall_in_a_line_a_search(figure):
    axis, = figure(charts.draw_precision_recall, {
        'OIM': (np.array([0, 0.5, 1]), np.array([1, 0.8, 0.2])), 'GDPS': (np.array([0, 1]), np.array([1, 0.5]))}).axes
    assert lines(axis) == {'OIM': [[0, 100], [50, 80], [100, 20]], 'GDPS': [[0, 100], [100, 50]]}
    assert labels(axis.get_legend().get_texts()) == ['OIM', 'GDPS']


def test_similarities_are_densities_whatever_the_counts_and_bins(figure):
    axis, = figure(charts.draw_similarities, EDGES, np.array([0, 1, 3]), np.array([6000, 2000, 0])).axes
    others, matches = (patch.get_data().values for patch in axis.patches)
    np.testing.assert_allclose(matches, [0, 0.5, 1.5])
    np.testing.assert_allclose(others, [0.75, 0.5, 0])
    assert labels(axis.get_legend().get_texts()) == ['others (8,000)', 'true positives (4)']
    assert axis.get_xlim() == (-1, 1)


def test_every_score_has_a_panel_over_gallery_sizes(figure):
    mean, first = figure(charts.draw_gallery_sizes, {
        'OIM': {4000: {'mAP': 0.6, 'top-1': 0.7}, 50: {'mAP': 0.8, 'top-1': 0.9}}, 'SeqNet': {50: {'mAP': 0.95}}}).axes
    assert lines(mean) == {'OIM': [[50, 80], [4000, 60]], 'SeqNet': [[50, 95]]}
    assert lines(first) == {'OIM': [[50, 90], [4000, 70]]}
    assert mean.get_ylabel() == 'mAP, %' and first.get_ylabel() == 'top-1, %'
    assert mean.get_xscale() == 'log' and labels(mean.get_xticklabels()) == ['50', '4,000']


def test_a_nameless_series_has_no_legend(figure, recwarn):
    axis, = figure(charts.draw_gallery_sizes, {'': {50: {'mAP': 0.8}}}).axes
    assert axis.get_legend() is None and not recwarn


def test_camera_pairs_name_score_and_queries_and_leave_others_blank(figure):
    scores, counts = np.array([[np.nan, 0.25], [0.875, 0.5]]), np.array([[0, 1200], [3, 0]])
    axis, _ = figure(charts.draw_camera_pairs, scores, counts, ['c1', 'c2']).axes
    assert texts(axis) == ['25.0\n(1,200)', '87.5\n(3)']
    assert [text.get_position() for text in axis.texts] == [(1, 0), (0, 1)]
    np.testing.assert_array_equal(axis.images[0].get_array().mask, counts == 0)
    assert labels(axis.get_xticklabels()) == labels(axis.get_yticklabels()) == ['c1', 'c2']


def test_heights_have_bars_of_recall_and_ap_and_no_bar_without_persons(figure):
    axis, = figure(charts.draw_detection_by_height, [0, 50, 100, np.inf], [0.25, 0.75, np.nan], [0.1, 0.5, np.nan],
                   [1034, 20, 0]).axes
    recall, ap = ([bar.get_height() for bar in bars] for bars in axis.containers)
    np.testing.assert_allclose(recall, [25, 75, np.nan])
    np.testing.assert_allclose(ap, [10, 50, np.nan])
    assert labels(axis.get_xticklabels()) == ['0-50\n1,034 persons', '50-100\n20 persons', '100+\n0 persons']
    assert texts(axis) == ['25', '75', '', '10', '50', '']


def test_a_students_losses_share_the_panels_of_the_plain_student(figure):
    axes = figure(charts.draw_losses, {
        'student': {'loss': [(1, 2.0)], 'loss_reid': [(1, 5.0), (2, 4.0)]},
        'GDPS': {'student.loss_reid': [(1, 6.0)], 'distill.loss_relation': [(1, 0.1)]}}).axes
    panels = {axis.get_title(): lines(axis) for axis in axes if axis.get_title()}
    assert panels == {'loss_reid': {'student': [[1, 5], [2, 4]], 'GDPS': [[1, 6]]},
                      'distill.loss_relation': {'GDPS': [[1, 0.1]]}}
    colours = {to_hex(line.get_color()) for axis in axes for line in axis.get_lines() if line.get_label() == 'GDPS'}
    assert len(colours) == 1
