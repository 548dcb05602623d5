import numpy as np

from mmps.visualization.ranked_results import GREEN, Crop
from mmps.visualization.report import Row, spread, write_report


def test_one_value_is_shown_plain_and_several_with_their_sample_deviation():
    assert spread([61.23]) == '61.2'
    assert spread([60.0, 62.0]) == '61.0 ± 1.4'


def test_a_row_leaves_cells_empty_that_it_has_no_value_for():
    row = Row('histogram', {'mAP': [12.3]})
    assert row.cells(['mAP', 'det AP', 'parameters', 'ms / image']) == ['12.3', '', '', '']
    assert Row('net', {}, 1_234_567, 40.4).cells(['parameters', 'ms / image']) == ['1.23 M', '40']


def test_the_report_is_one_file_with_table_curves_and_searches(tmp_path):
    import cv2
    cv2.imwrite(str(tmp_path / 'scene.png'), np.zeros((50, 50, 3), np.uint8))
    crop = Crop(str(tmp_path / 'scene.png'), np.array([1, 1, 20, 40]), GREEN, '0.9')
    curves = {'student': {'loss': [(1, 2.0)], 'loss_reid': [(1, 5.0), (2, 4.0)]},
              'student + GDPS': {'student.loss_reid': [(1, 5.0)], 'distill.loss_relation': [(1, 0.1)]}}
    path = tmp_path / 'report.html'
    write_report(path, '| | mAP |\n| - | - |\n| a < b | 12.3 |\n\nper cent', curves, {3: {'student': [crop]}})
    page = path.read_text()
    assert '<td>a &lt; b</td><td>12.3</td>' in page and '<p>per cent</p>' in page
    assert 'Query 3' in page and page.count('data:image/jpeg;base64,') == 1 and page.count('data:image/png;base64,') == 1
    assert 'http' not in page.replace('http-equiv', '')
