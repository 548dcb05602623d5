"""The demo: a benchmark of a teacher, a plain student and the same student under GDPS, on synthetic scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import mmcv
import numpy as np
from mmengine.dataset import BaseDataset

from mmps.evaluation import (
    Predictions,
    SearchProtocol,
    SearchResult,
    colour_histogram,
    load_predictions,
    mean_interval,
    search_scores,
)
from mmps.evaluation.tables import Table
from mmps.visualization import search_rows
from mmps.visualization.ranked_results import SearchRow
from mmps.visualization.report import write_report

from .logs import losses
from .matrix_file import read_matrix
from .matrix_runner import run_benchmark
from .report import format_percent
from .run_list import list_runs
from .runs import Run, build_dataset, count_parameters

MATRIX = 'benchmarks/demo.yml'
COLUMNS = ['', 'mAP', '95 % interval', 'top-1', 'det AP', 'parameters', 'ms / image']


def demo(configs: Path, tools: Path, work_dir: Path, data_root: Path, seeds: int = 1) -> Path:
    """Runs the demo, prints its table and writes ``report.html``. Finished runs of an earlier call are used again.

    Args:
        configs: The folder of mmps's configs.
        tools: The folder of its tools.
        work_dir: Where all runs go.
        data_root: The folder of SynthPS mini, which is drawn if it is missing.
        seeds: Number of seeds, 0, 1, ..., with which both students are trained.

    Returns:
        Path of the report.

    Raises:
        ChildProcessError: A run failed; its message was printed.
    """
    matrix = read_matrix(configs / MATRIX, configs, data_root)
    matrix = replace(matrix, methods={name: replace(method, seeds=seeds) for name, method in matrix.methods.items()})
    if not run_benchmark(matrix, tools, work_dir, work_dir, workers=2, show_progress=True):
        raise ChildProcessError('a run of the demo failed, see above')
    runs = list_runs(matrix, work_dir)
    runs_of_row: dict[str, list[Run]] = {}
    for run in runs:
        runs_of_row.setdefault(row_name(run), []).append(run)
    dataset = build_dataset(runs[0].student.cfg.test_dataloader.dataset)
    protocol, paths = dataset.metainfo['protocol'], [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    predictions = {run: load_predictions(run.predictions) for run in runs}
    searches = {run: score_predictions(protocol, found) for run, found in predictions.items()}
    table = make_table(runs_of_row, searches, search_by_histogram(dataset, protocol, paths))
    remarks = [
        *compare_students(runs, searches),
        f'SynthPS mini, {protocol.num_queries} queries, per cent. Intervals: bootstrap over the queries'
        + (f'; students: mean and standard deviation of {seeds} seeds' if seeds > 1 else ''),
    ]
    print('', table, *remarks, sep='\n\n')
    report = work_dir / 'report.html'
    write_report(
        report,
        table,
        remarks,
        {run.name: losses(run.work_dir) for run in runs},
        search_examples({name: predictions[of_row[0]] for name, of_row in runs_of_row.items()}, protocol, paths),
    )
    print(f'\n{report}')
    return report


def row_name(run: Run) -> str:
    """Names the row of the table that a run belongs to."""
    if run.method is None:
        return f'{"not trained here" if run.student.checkpoint else "teacher"} ({run.student.name})'
    return f'student ({run.student.name})' if run.method.is_plain else f'student + {run.method.name}'


def score_predictions(protocol: SearchProtocol, found: Predictions) -> SearchResult:
    return search_scores(protocol, found.boxes, found.scores, found.embeddings, found.query_embeddings)


def search_by_histogram(dataset: BaseDataset, protocol: SearchProtocol, paths: Sequence[str]) -> SearchResult:
    """Scores a search by colour histograms of the annotated boxes: how far colours alone lead, with perfect detection."""
    boxes, embeddings, queries = [], [], dict[int, np.ndarray]()
    for index, path in enumerate(paths):
        image = mmcv.imread(path)
        persons = [instance['bbox'] for instance in dataset.get_data_info(index)['instances']]
        boxes.append(np.array(persons, dtype=np.float32).reshape(-1, 4))
        embeddings.append(colour_histogram(image, boxes[-1]))
        of_image = np.flatnonzero(protocol.query_images == index)
        queries.update(zip(of_image.tolist(), colour_histogram(image, protocol.query_boxes[of_image]), strict=True))
    scores = [np.ones(len(of_image), np.float32) for of_image in boxes]
    return search_scores(protocol, boxes, scores, embeddings, np.stack([queries[i] for i in range(protocol.num_queries)]))


def make_table(
    runs_of_row: Mapping[str, Sequence[Run]], searches: Mapping[Run, SearchResult], histogram: SearchResult
) -> Table:
    """Returns the table of scores. Several seeds give mean and standard deviation; the interval is that of their mean."""
    topk = format_percent([histogram.topk[1]])
    rows = [['colour histogram, given boxes', format_percent([histogram.mAP]), format_interval(histogram.ap), topk, '', '', '']]
    for name, runs in runs_of_row.items():
        results = [result for run in runs if (result := run.load_result())]
        rows.append(
            [
                name,
                format_percent([searches[run].mAP for run in runs]),
                format_interval(mean_ap(runs, searches)),
                format_percent([searches[run].topk[1] for run in runs]),
                format_percent([result.det_AP for result in results]),
                f'{count_parameters(runs[0].student) / 1e6:.2f} M',
                f'{np.mean([each.image_ms for each in results]):.0f}',
            ]
        )
    return Table(COLUMNS, rows)


def compare_students(runs: Sequence[Run], searches: Mapping[Run, SearchResult]) -> list[str]:
    """Says by how much the distilled student exceeds the plain one, for each seed and, if there are several, on average."""
    pairs = [
        (plain, distilled)
        for plain in runs
        for distilled in runs
        if plain.method and plain.method.is_plain and distilled.teacher and plain.seed == distilled.seed
    ]
    lines = [describe_gain(f'seed {plain.seed}', searches[distilled].ap - searches[plain].ap) for plain, distilled in pairs]
    if len(pairs) > 1:
        plain_ap, distilled_ap = (mean_ap(of_row, searches) for of_row in zip(*pairs, strict=True))
        lines.append(describe_gain(f'mean of {len(pairs)} seeds', distilled_ap - plain_ap))
    return lines


def mean_ap(runs: Sequence[Run], searches: Mapping[Run, SearchResult]) -> np.ndarray:
    """Returns (Q,): each query's average precision, as the mean over runs with different seeds."""
    return np.mean([searches[run].ap for run in runs], axis=0)


def format_interval(values: np.ndarray) -> str:
    return ' to '.join(f'{end * 100:.1f}' for end in mean_interval(values))


def describe_gain(name: str, gains: np.ndarray) -> str:
    """Describes gains in average precision, (Q,) query by query, in one line."""
    low, high = mean_interval(gains)
    verdict = '' if low > 0 or high < 0 else ': it may be chance'
    return (
        f'GDPS over plain, {name}: {gains.mean() * 100:+.1f} mAP, 95 % interval {low * 100:+.1f} to {high * 100:+.1f} '
        f'(paired){verdict}'
    )


def search_examples(
    predictions: Mapping[str, Predictions], protocol: SearchProtocol, paths: Sequence[str], count: int = 6
) -> dict[int, dict[str, SearchRow]]:
    """Returns, for some evenly spaced queries and each row of the table, the query and its first five results."""
    queries = np.unique(np.linspace(0, protocol.num_queries - 1, count).round().astype(int)).tolist()
    examples = {name: search_rows(protocol, found, paths, queries) for name, found in predictions.items()}
    return {query: {name: of_row[i] for name, of_row in examples.items()} for i, query in enumerate(queries)}
