"""The benchmark of exported models, on a tiny detector."""

import json

import pytest
from mmengine.config import Config

for package in ('onnx', 'onnxscript', 'onnxruntime'):
    pytest.importorskip(package, reason=f'{package} is not installed')


@pytest.fixture
def table(repository, load_script, search_files, tmp_path, monkeypatch, capsys):
    """table(ways, ...) -> the printed table: a list of cells for each row."""

    def run(*ways):
        tool = load_script(repository / 'tools/benchmarks/export.py')
        monkeypatch.setattr(tool, 'CALIBRATE', 4)
        cfg = Config.fromfile(search_files / 'config.py')
        cfg.train_dataloader.dataset.data_root = str(search_files / 'tiny')
        cfg.dump(tmp_path / 'config.py')
        arguments = ['--trained', 'tiny', tmp_path / 'config.py', search_files / 'weights.pth', '--tolerance', 1]
        arguments += ['--ways', *ways, '--rounds', 2, '--out', tmp_path / 'out']
        monkeypatch.setattr('sys.argv', ['export.py', *map(str, arguments)])
        tool.main()
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
        return [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]

    return run


@pytest.mark.soak
def test_the_table_has_a_row_for_each_way(table, tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', '/bin/false')
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'compiled'))
    header, _, *rows = table('eager', 'compile', 'onnxruntime', 'onnxruntime int8')
    assert [row[:2] for row in rows] == [['tiny', way] for way in ('eager', 'compile', 'onnxruntime', 'onnxruntime int8')]
    eager, compiled, whole, small = (dict(zip(header, row, strict=True)) for row in rows)
    assert 'No working C++ compiler' in compiled['mAP'] and not compiled['ms']
    for row in (eager, whole, small):
        assert float(row['ms']) > 0 and float(row['peak, MB']) > 0
        assert float(row['start, CPU s']) * 1000 >= float(row['ms'])
    assert whole['mAP'] == eager['mAP']
    assert float(small['file, MB']) < float(whole['file, MB']) < float(eager['file, MB'])
    measured = json.loads((tmp_path / 'out/rows.json').read_text())
    assert float(whole['x eager']) == pytest.approx(measured[0]['ms'] / measured[2]['ms'], abs=0.01)
    assert (tmp_path / 'out/accuracy.png').stat().st_size > 1000
