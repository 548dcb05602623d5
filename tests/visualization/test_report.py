import base64
import re

import cv2
import numpy as np

from mmps.evaluation.tables import Table
from mmps.visualization.ranked_results import BLUE, GREEN, Crop, SearchRow
from mmps.visualization.report import write_report, write_search_report


def pictures(page):
    """Returns the pictures of the page, RGB."""
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', page)
    decoded = (cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) for data in found)
    return [cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in decoded]


def needs_no_other_file(page):
    return 'http' not in page and all(source.startswith('data:') for source in re.findall(r'src="([^"]*)', page))


def test_the_demo_report_is_one_file_with_table_curves_and_searches(tmp_path):
    cv2.imwrite(str(tmp_path / 'scene.png'), np.full((50, 50, 3), (0, 0, 200), np.uint8))
    box = np.array([1, 1, 20, 40])
    row = SearchRow(
        Crop(str(tmp_path / 'scene.png'), box, BLUE, 'query 3'), [Crop(str(tmp_path / 'scene.png'), box, GREEN, '0.9')]
    )
    curves = {
        'student': {'loss': [(1, 2.0)], 'loss_reid': [(1, 5.0), (2, 4.0)]},
        'student + GDPS': {'student.loss_reid': [(1, 5.0)], 'distill.loss_relation': [(1, 0.1)]},
    }
    path = tmp_path / 'report.html'
    write_report(path, Table(['', 'mAP'], [['a < b', '12.3']]), ['in per cent'], curves, {3: {'student': row}})
    page = path.read_text()
    assert '<tr><th></th><th>mAP</th></tr><tr><td>a &lt; b</td><td>12.3</td></tr></table><p>in per cent</p>' in page
    assert 'Query 3' in page and 'student</figcaption>' in page
    losses, search = pictures(page)
    assert losses.shape[1] > 1000
    assert (abs(search[60, 25].astype(int) - (200, 0, 0)) < 20).all()
    assert needs_no_other_file(page)


def test_a_search_report_has_tables_then_pictures_under_headings(tmp_path):
    blue, photograph = np.full((30, 40, 3), (0, 0, 255), np.uint8), np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    path = tmp_path / 'new/report.html'
    write_search_report(
        path,
        'OIM & friends',
        {'Scores': Table(['', 'mAP'], [['OIM', '29.8']]), 'Persons': Table(['', 'number'], [])},
        {'Precision <-> recall': blue, 'Scene': photograph.astype(np.uint8)},
    )
    page = path.read_text()
    assert '<title>OIM &amp; friends</title>' in page and '<h1>OIM &amp; friends</h1>' in page
    assert re.findall('<h2>(.*?)</h2>', page) == ['Scores', 'Persons', 'Precision &lt;-&gt; recall', 'Scene']
    assert '<h2>Scores</h2><table><tr><th></th><th>mAP</th></tr><tr><td>OIM</td><td>29.8</td></tr></table>' in page
    first, second = pictures(page)
    np.testing.assert_array_equal(first, blue)
    assert second.shape == (64, 64, 3)
    assert needs_no_other_file(page)
