"""The demo: a benchmark of a teacher, a plain student and the same student under GDPS, on scenes drawn on the spot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from mmps.evaluation import (
    Predictions,
    SearchProtocol,
    SearchResult,
    colour_histogram,
    load_predictions,
    mean_interval,
    search_scores,
)
from mmps.evaluation.tables import markdown_table
from mmps.visualization import search_rows
from mmps.visualization.report import write_report

from .logs import losses
from .matrix_file import read_matrix
from .matrix_runner import benchmark
from .report import percent
from .runs import Run, build_dataset, list_runs, parameters_of

MATRIX = 'benchmarks/demo.yml'
COLUMNS = ['', 'mAP', '95 % interval', 'top-1', 'det AP', 'parameters', 'ms / image']


def demo(configs: Path, tools: Path, work_dir: Path, data_root: Path, seeds: int = 1) -> Path:
    """Runs the whole demo, prints its table and writes ``report.html``. Finished parts of an earlier call are used again.

    Args:
        configs: The folder of mmps's configs.
        tools: The folder of its tools.
        work_dir: Where all runs go.
        data_root: Where SynthPS mini is, or will be drawn.
        seeds: With how many seeds, 0, 1, ..., both students are trained.

    Returns:
        The report's path.

    Raises:
        ChildProcessError: A run failed; what it said was printed.
    """
    matrix = read_matrix(configs / MATRIX, configs, data_root)
    matrix = replace(matrix, methods={name: replace(method, seeds=seeds) for name, method in matrix.methods.items()})
    if not benchmark(matrix, tools, work_dir, work_dir, workers=2, bars=True):
        raise ChildProcessError('a run of the demo failed, see above')
    runs = list_runs(matrix, work_dir)
    rows: dict[str, list[Run]] = {}
    for run in runs:
        rows.setdefault(row_name(run), []).append(run)
    dataset = build_dataset(runs[0].student.cfg.test_dataloader.dataset)
    protocol, paths = dataset.metainfo['protocol'], [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    predictions = {run: load_predictions(run.predictions) for run in runs}
    searches = {run: score(protocol, found) for run, found in predictions.items()}
    text = '\n\n'.join(
        [
            table(rows, searches, histogram_search(dataset, protocol, paths)),
            *comparison(runs, searches),
            f'SynthPS mini, {protocol.num_queries} queries, per cent. Intervals: bootstrap over the queries'
            + (f'; students: mean and standard deviation of {seeds} seeds' if seeds > 1 else ''),
        ]
    )
    print('\n' + text)
    report = work_dir / 'report.html'
    write_report(
        report,
        text,
        {run.name: losses(run.work_dir) for run in runs},
        search_pictures({name: predictions[of_row[0]] for name, of_row in rows.items()}, protocol, paths),
    )
    print(f'\n{report}')
    return report


def row_name(run: Run) -> str:
    """The row of the table that a run belongs to."""
    if run.method is None:
        return f'teacher ({run.student.name})'
    return f'student ({run.student.name})' if run.method.is_plain else f'student + {run.method.name}'


def score(protocol: SearchProtocol, found: Predictions) -> SearchResult:
    return search_scores(protocol, found.boxes, found.scores, found.embeddings, found.query_embeddings)


def histogram_search(dataset, protocol: SearchProtocol, paths: Sequence[str]) -> SearchResult:
    """How far colours alone lead, even with the annotated boxes for detections."""
    boxes, embeddings, queries = [], [], [None] * protocol.num_queries
    for index, path in enumerate(paths):
        image = cv2.imread(path)
        boxes.append(
            np.array([instance['bbox'] for instance in dataset.get_data_info(index)['instances']], dtype=np.float32).reshape(
                -1, 4
            )
        )
        embeddings.append(colour_histogram(image, boxes[-1]))
        asked = np.flatnonzero(protocol.query_images == index)
        for query, histogram in zip(asked, colour_histogram(image, protocol.query_boxes[asked]), strict=True):
            queries[query] = histogram
    return search_scores(
        protocol, boxes, [np.ones(len(of_image), np.float32) for of_image in boxes], embeddings, np.stack(queries)
    )


def table(rows: Mapping[str, Sequence[Run]], searches: Mapping[Run, SearchResult], histogram: SearchResult) -> str:
    """Markdown. More than one seed as mean and spread; the interval is that of the mean over the seeds."""
    lines = [['colour histogram, given boxes', percent([histogram.mAP]), interval(histogram.ap), percent([histogram.topk[1]])]]
    for name, runs in rows.items():
        results = [run.result() for run in runs]
        lines.append(
            [
                name,
                percent([searches[run].mAP for run in runs]),
                interval(mean_ap(runs, searches)),
                percent([searches[run].topk[1] for run in runs]),
                percent([result.det_AP for result in results]),
                f'{parameters_of(runs[0].student) / 1e6:.2f} M',
                f'{np.mean([each.image_ms for each in results]):.0f}',
            ]
        )
    return markdown_table(COLUMNS, [line + [''] * (len(COLUMNS) - len(line)) for line in lines])


def comparison(runs: Sequence[Run], searches: Mapping[Run, SearchResult]) -> list[str]:
    """How much better the distilled student is than the plain one: with each seed, and on average where there are several."""
    pairs = [
        (plain, distilled)
        for plain in runs
        for distilled in runs
        if plain.method and plain.method.is_plain and distilled.teacher and plain.seed == distilled.seed
    ]
    lines = [difference(f'seed {plain.seed}', searches[distilled].ap - searches[plain].ap) for plain, distilled in pairs]
    if len(pairs) > 1:
        plain, distilled = (mean_ap(of_row, searches) for of_row in zip(*pairs, strict=True))
        lines.append(difference(f'mean of {len(pairs)} seeds', distilled - plain))
    return lines


def mean_ap(runs: Sequence[Run], searches: Mapping[Run, SearchResult]) -> np.ndarray:
    """(Q,): each query's average precision, the mean over runs with different seeds."""
    return np.mean([searches[run].ap for run in runs], axis=0)


def interval(values: np.ndarray) -> str:
    return ' to '.join(f'{end * 100:.1f}' for end in mean_interval(values))


def difference(name: str, gains: np.ndarray) -> str:
    """One line about gains in average precision, (Q,), query by query."""
    low, high = mean_interval(gains)
    verdict = '' if low > 0 or high < 0 else ': it may be chance'
    return (
        f'GDPS over plain, {name}: {gains.mean() * 100:+.1f} mAP, 95 % interval {low * 100:+.1f} to {high * 100:+.1f} '
        f'(paired){verdict}'
    )


def search_pictures(
    predictions: Mapping[str, Predictions], protocol: SearchProtocol, paths: Sequence[str], count: int = 6
) -> dict:
    """For some queries, drawn evenly, and for each row of the table: the query and its first five results."""
    queries = np.unique(np.linspace(0, protocol.num_queries - 1, count).round().astype(int))
    per_row = {name: search_rows(protocol, found, paths, queries) for name, found in predictions.items()}
    return {int(query): {name: of_row[i] for name, of_row in per_row.items()} for i, query in enumerate(queries)}
