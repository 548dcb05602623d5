import numpy as np
import pytest

from mmps.evaluation import average_precision, detection_scores, match_detections

PERSONS = np.array([[0, 0, 40, 80], [100, 0, 140, 80]], np.float32)


def test_two_detections_of_one_person_count_once():
    boxes = np.concatenate([PERSONS[:1], PERSONS[:1] + 2, PERSONS[1:]])
    result = detection_scores([boxes], [np.array([0.9, 0.8, 0.7])], [PERSONS])
    assert result == pytest.approx({'ap': (1 + 2 / 3) / 2, 'recall': 1})


def test_ap_is_multiplied_by_recall():
    assert detection_scores([PERSONS[:1]], [np.array([0.9])], [PERSONS]) == {'ap': 0.5, 'recall': 0.5}


def test_a_score_at_the_threshold_counts():
    assert detection_scores([PERSONS], [np.array([0.5, 0.49])], [PERSONS])['recall'] == 0.5


def test_only_labelled_persons_count_and_images_without_one_are_left_out():
    labelled = [np.array([True, False]), np.array([False, False])]
    boxes, scores = [PERSONS[:1], PERSONS], [np.array([0.6]), np.array([0.9, 0.9])]
    result = detection_scores(boxes, scores, [PERSONS, PERSONS], labelled)
    assert result == {'ap': 1, 'recall': 1}


@pytest.mark.parametrize('height', [-20, 0, np.inf])
def test_a_false_detection_counts_whatever_its_height(height):
    boxes = np.concatenate([np.array([[300, 50, 340, 50 + height]], np.float32), PERSONS])
    result = detection_scores([boxes], [np.array([0.9, 0.8, 0.7])], [PERSONS])
    assert result == pytest.approx({'ap': 0.5 / 2 + 0.5 * 2 / 3, 'recall': 1})


def test_detections_of_persons_outside_the_height_range_are_ignored():
    persons = np.array([[0, 0, 40, 50], [100, 0, 140, 80]], np.float32)
    boxes = np.concatenate([persons, [[300, 0, 340, 60], [400, 0, 440, 90]]])
    matches = match_detections([boxes], [np.array([0.6, 0.9, 0.8, 0.7])], [persons])
    assert matches.at(heights=(0, 70)) == {'ap': 0.5, 'recall': 1, 'persons': 1}  # after the false one of 60 pixels
    assert matches.at(heights=(70, 100)) == {'ap': 1, 'recall': 1, 'persons': 1}
    assert matches.at()['ap'] == pytest.approx(0.5 + 0.5 * 2 / 4)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('persons', [PERSONS, np.zeros((0, 4), np.float32)])
@pytest.mark.parametrize('boxes', [PERSONS + 1000, np.zeros((0, 4), np.float32)])
def test_nothing_found_scores_zero(boxes, persons):
    assert detection_scores([boxes], [np.ones(len(boxes))], [persons]) == {'ap': 0, 'recall': 0}
    assert detection_scores([], [], []) == {'ap': 0, 'recall': 0}


def test_the_order_of_equal_scores_does_not_matter():
    scores = np.array([0.9, 0.9, 0.5])
    assert average_precision(np.array([True, False, True]), scores) == pytest.approx(0.5 / 2 + 0.5 * 2 / 3)
    assert average_precision(np.array([False, True, True]), scores) == pytest.approx(0.5 / 2 + 0.5 * 2 / 3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (([PERSONS], [], [PERSONS]), 'one entry for each image'),
        (([PERSONS], [np.ones(1)], [PERSONS]), r'scores of image 0: expected shape \(2,\), got \(1,\)'),
        (([PERSONS], [np.ones(2)], [PERSONS], [np.ones(3, bool)]), r'labelled of image 0: expected shape \(2,\), got \(3,\)'),
    ],
)
def test_arrays_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        detection_scores(*arguments)
