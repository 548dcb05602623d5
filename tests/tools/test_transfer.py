"""The protocol for real frames, on frames that are drawn: it needs no licensed picture."""

import dataclasses
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmps.evaluation import Predictions
from mmps.registry import MODELS
from mmps.synthetic import SIZES, Studio, plan, render_scene

CONFIG = 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'
INFO = '[Sequence]\nname=drawn\nimDir=img1\nframeRate=1\nseqLength=4\nimWidth=224\nimHeight=128\nimExt=.jpg\n'


@pytest.fixture
def frames(tmp_path):
    """A MOTChallenge folder of four drawn frames."""
    planned = plan('prw', dataclasses.replace(SIZES['tiny'], cameras=1, train_ids=3), style='classic')
    studio = Studio(planned.size, planned.seed, 'classic')
    folder = tmp_path / 'drawn'
    (folder / 'img1').mkdir(parents=True)
    (folder / 'gt').mkdir()
    rows = []
    for number, scene in enumerate(planned.scenes[:4], 1):
        cv2.imwrite(str(folder / f'img1/{number:06d}.jpg'), render_scene(scene, studio))
        rows += [
            f'{number},{person.person_id + 1},{person.box[0] + 1},{person.box[1] + 1},{person.box[2]},{person.box[3]},1,1,1\n'
            for person in scene.persons
            if person.person_id >= 0
        ]
    (folder / 'gt/gt.txt').write_text(''.join(rows))
    (folder / 'seqinfo.ini').write_text(INFO)
    return folder, len(rows)


def test_the_tables_have_a_row_for_each_folder_and_height(repository, load_script, frames, tmp_path, monkeypatch, capsys):
    folder, persons = frames
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmps'):
        detector = MODELS.build(Config.fromfile(repository / CONFIG).model)
    torch.save({'state_dict': detector.state_dict()}, tmp_path / 'weights.pth')
    tool = load_script(repository / 'tools/benchmarks/transfer.py')
    arguments = ['--data', str(folder), '--heights', '96', '128', '--out', str(tmp_path / 'pictures'), '--device', 'cpu']
    monkeypatch.setattr('sys.argv', ['transfer.py', str(repository / CONFIG), str(tmp_path / 'weights.pth'), *arguments])
    tool.main()
    scores, by_height = capsys.readouterr().out.split('Recall by')
    by_height, across = by_height.split('Similarity of')
    ((mean, low),) = re.findall(r'^\| drawn\s+\| 96 and 128 \|\s+(\S+) \|\s+(\S+) \|', across, re.MULTILINE)
    assert -1 <= float(low) < float(mean) < 1
    assert re.findall(r'^\| drawn\s+\|\s+(\d+)', scores, re.MULTILINE) == ['96', '128']
    assert re.findall(r'^\| drawn\s+\|\s+(\d+)', by_height, re.MULTILINE) == ['96', '128']
    counted = [sum(map(int, re.findall(r'of (\d+)', line))) for line in by_height.splitlines() if '| drawn' in line]
    assert counted == [persons, persons]
    for number in range(1, 5):
        drawn = cv2.imread(str(tmp_path / f'pictures/drawn/img1/{number:06d}.jpg'))
        assert drawn is not None and np.abs(drawn.astype(int) - cv2.imread(str(folder / f'img1/{number:06d}.jpg'))).max() > 50


def test_recall_precision_and_false_alarms_are_those_at_a_confidence(
    repository, load_script, frames, tmp_path, monkeypatch, capsys
):
    folder, _ = frames
    tool = load_script(repository / 'tools/benchmarks/transfer.py')
    boxes = [np.array([[0, 0, 10, 20], [100, 0, 110, 20], [50, 50, 60, 70], [0, 90, 10, 99]], float)]
    confidences = [np.array([0.9, 0.8, 0.6, 0.3])]
    queries = (np.zeros((0, 4), np.float32), [], np.zeros((0, 4)))
    found = Predictions(('1.jpg',), boxes, confidences, [np.eye(4, dtype=np.float32)], *queries, gt_boxes=[boxes[0][[0, 2]]])
    scores = dict.fromkeys(('search/det_AP', 'search/mAP', 'search/top-1'), 0.5)
    monkeypatch.setattr(tool, 'load_model', lambda *_: None)
    monkeypatch.setattr(tool, 'search', lambda *_, given=found: (scores, given, np.ones(1), ['1.jpg']))
    for threshold, expected in (
        (0.2, ['100.00', '50.00', '2.0']),
        (0.5, ['100.00', '66.67', '1.0']),
        (0.7, ['50.00', '50.00', '1.0']),
        (0.85, ['50.00', '100.00', '0.0']),
    ):
        arguments = [
            str(repository / CONFIG),
            'CHECKPOINT',
            '--data',
            str(folder),
            '--heights',
            '96',
            '--score-thr',
            str(threshold),
        ]
        monkeypatch.setattr('sys.argv', ['transfer.py', *arguments])
        tool.main()
        (row,) = re.findall(r'^\| drawn .*', capsys.readouterr().out.split('Recall by')[0], re.MULTILINE)
        assert [cell.strip() for cell in row.split('|')][4:7] == expected
