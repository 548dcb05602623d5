import numpy as np
import pytest

from mmps.benchmark.comparison import compare, standard_error
from mmps.benchmark.docs_block import check_page, update_page
from mmps.benchmark.report import markdown_report, write_report
from mmps.benchmark.results import Entry, Result, load_entries, save_entries


def entry(role, student, method, teacher, seed, ap, scale=1.0):
    ap = None if ap is None else np.asarray(ap, np.float32)
    key = (student, method, teacher, seed)
    made_with = dict(config='0a1b', mmps='1.0', torch='2.13', mmdet='3.3.0', commit='c0ffee', date='2026-11-22')
    result = None if ap is None else Result(*key, float(ap.mean()), 0.5, 0.9, 3.5, 0.4, 20.0, 650_000, None, **made_with)
    status = 'missing' if ap is None else 'finished'
    return Entry('bench', role, method == 'GDPS', scale, key, status, f'students/{method}/train.log', result, ap)


@pytest.fixture
def entries():
    """Two students' worth of rows: GDPS is better by 0.1, CWD by nothing, FGD has not run."""
    rng = np.random.default_rng(0)
    plain = rng.uniform(0.1, 0.5, (3, 50))
    noise = rng.normal(0, 0.02, (2, 3, 50))
    return [
        entry('teacher', 'big', '', '', 0, np.full(50, 0.7)),
        *(entry('reference', 'small', 'plain', '', seed, ap) for seed, ap in enumerate(plain)),
        *(entry('student', 'small', 'GDPS', 'big', seed, ap, 3.0) for seed, ap in enumerate(plain + 0.1 + noise[0])),
        entry('tuning', 'small', 'GDPS', 'big', 0, plain[0]),
        *(entry('student', 'small', 'CWD', 'big', seed, ap) for seed, ap in enumerate(plain + noise[1] - noise[1].mean())),
        entry('student', 'small', 'FGD', 'big', 0, None),
    ]


def test_gains_are_paired_by_seed_and_query_and_compared_with_the_gap_to_the_teacher(entries):
    plain, gdps, cwd, fgd = compare(entries)['small']
    aps = {each.key[1:]: each.ap for each in entries if each.ap is not None and each.role != 'tuning'}
    loop = [aps['GDPS', 'big', s][q] - aps['plain', '', s][q] for s in range(3) for q in range(50)]
    assert gdps.gain == pytest.approx(np.mean(loop)) and gdps.gains.shape == (3, 50)
    mAP = [aps['plain', '', seed].mean() for seed in range(3)]
    assert gdps.gap_closed == pytest.approx(np.mean(loop) / (0.7 - np.mean(mAP)), rel=1e-5)
    assert not gdps.may_be_chance and cwd.may_be_chance
    assert plain.gain is None and plain.interval is None and fgd.gain is None
    assert standard_error(plain.scores('mAP')) == pytest.approx(np.std(mAP, ddof=1) / 3**0.5, rel=1e-5)
    assert standard_error([0.5]) is None


def test_a_seed_without_its_plain_run_has_no_part_in_the_gain(entries):
    without = [each for each in entries if each.key != ('small', 'plain', '', 1)]
    gdps = compare(without)['small'][1]
    assert gdps.gains.shape == (2, 50) and len(gdps.results) == 3


def test_the_table_marks_what_may_be_chance_and_names_what_is_missing(entries):
    text = markdown_report(entries)
    rows = {
        cells[0]: cells for cells in ([cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()) if cells
    }
    assert rows['**GDPS** x 3'][2] == '3' and rows['**GDPS** x 3'][4] == '+9.7'
    assert rows['CWD'][4].endswith('0.0 \\*')
    assert rows['FGD'][2:4] == ['0 of 1', 'missing']
    assert '1 of 12 runs are missing; `mmps benchmark configs/benchmarks/bench.yml` makes them.' in text
    assert text.endswith('Made on 2026-11-22 with mmps 1.0, torch 2.13, mmdet 3.3.0; commit c0ffee.\n')


def test_tables_come_from_the_saved_data_alone(entries, tmp_path):
    save_entries(tmp_path, entries)
    loaded = load_entries(tmp_path)
    for one, other in zip(entries, loaded, strict=True):
        assert (one.key, one.result, one.status, one.scale, one.bold) == (
            other.key,
            other.result,
            other.status,
            other.scale,
            other.bold,
        )
        assert np.array_equal(one.ap, other.ap) or one.ap is other.ap is None
    write_report(tmp_path / 'again', loaded)
    assert (tmp_path / 'again/results.md').read_text() == markdown_report(entries)
    assert {path.name for path in (tmp_path / 'again').iterdir()} == {'results.md', 'gain.png', 'accuracy.png'}


def test_a_row_that_the_benchmark_did_not_write_is_named(entries, tmp_path):
    save_entries(tmp_path, entries)
    path = tmp_path / 'results.csv'
    path.write_text(path.read_text().replace('650000', 'many', 1))
    with pytest.raises(ValueError, match=r'results.csv, line 2: expected a run as the benchmark writes it'):
        load_entries(tmp_path)


def test_a_page_that_differs_from_the_results_is_refused(entries, tmp_path):
    page = tmp_path / 'comparison.md'
    page.write_text('# Ours\n\n<!-- begin bench -->\nold\n<!-- end bench -->\n\nWhat follows.\n')
    with pytest.raises(ValueError, match=r"comparison.md, line 4: 'old', but the results say"):
        check_page(page, entries)
    update_page(page, entries)
    check_page(page, entries)
    text = page.read_text()
    assert text.startswith('# Ours\n') and text.endswith('What follows.\n') and '### small (0.65 M' in text
    page.write_text(text.replace('+9.7', '+10.7'))
    with pytest.raises(ValueError, match=r'\+10\.7'):
        check_page(page, entries)
    with pytest.raises(ValueError, match='expected one line <!-- begin bench -->'):
        page.write_text('nothing')
        update_page(page, entries)
