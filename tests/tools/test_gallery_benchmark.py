"""The benchmark of the gallery, on a few persons."""

import itertools

import numpy as np
import pytest


@pytest.fixture
def tool(repository, load_script):
    return load_script(repository / 'tools/benchmarks/gallery.py')


def test_the_table_has_a_row_for_each_size_and_index(tool, monkeypatch, capsys):
    monkeypatch.setattr(
        'sys.argv', ['gallery.py', '--persons', '60', '300', '--queries', '5', '--drawn', 'identities', 'random']
    )
    tool.main()
    header, _, *rows = ([cell.strip() for cell in line.split('|')[1:-1]] for line in capsys.readouterr().out.splitlines())
    combinations = itertools.product(['Milvus Lite'], ['60', '300'], ['identities', 'random'], ['FLAT'])
    assert [row[:4] for row in rows] == [[label, drawn, size, index] for label, size, drawn, index in combinations]
    for row in rows:
        figures = dict(zip(header, row, strict=True))
        assert 0 < float(figures['p50, ms']) <= float(figures['p95, ms'])
        assert float(figures['recall@20']) == pytest.approx(1, abs=0.02 * (figures['index'] == 'HNSW'))


def test_the_embeddings_are_spread_as_it_says(tool):
    embeddings, queries = tool.draw_embeddings(2000, 50)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    similarities = np.sort(queries @ embeddings.T, axis=1)[:, ::-1]
    assert np.mean(similarities[:, :10]) == pytest.approx(tool.SIMILARITY, abs=0.03)  # the query's own identity
    assert np.mean(np.abs(similarities[:, 200:])) < 0.15
    assert np.array_equal(tool.best_rows(embeddings, queries, 1)[:, 0], (queries @ embeddings.T).argmax(axis=1))
