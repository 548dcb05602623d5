"""Writes the tables and charts of a benchmark from its results alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mmps.evaluation.tables import markdown_table
from mmps.fileio.atomic import write_atomic
from mmps.visualization import draw_accuracy, draw_gains, write_picture

from .comparison import Row, compare, standard_error
from .results import Entry, Result, RunKey, save_entries

TEACHER_COLUMNS = ['teacher', 'mAP', 'full set', 'top-1', 'det AP', 'parameters', 'ms / image', 'minutes']
COLUMNS = [
    'method',
    'teacher',
    'seeds',
    'mAP',
    'over plain',
    '95 % interval',
    'of the gap',
    'full set',
    'top-1',
    'det AP',
    'minutes',
]
NOTES = (
    'Scores in per cent, with several seeds mean ± standard error. Over plain: points of mAP over the plain student with the '
    'same seeds, with the 95 % interval over queries and seeds (hierarchical bootstrap; over queries alone where there is one '
    'seed). **\\***: the interval includes 0, so the difference may be chance. Of the gap: share of the gap between plain '
    'student and teacher that is closed. Full set: mAP of a search in all scenes. Minutes: of training. x: factor of the '
    'published loss weights.'
)
TUNING_NOTES = 'mAP of the queries that choose the factor of the published loss weights / det AP, with seed 0. Bold: chosen.'


def write_results(out: Path, entries: Sequence[Entry]) -> None:
    """Writes results.csv, queries.npz, results.md, gain.png and accuracy.png; replaces those of an earlier call."""
    out.mkdir(parents=True, exist_ok=True)
    save_entries(out, entries)
    write_report(out, entries)


def write_report(out: Path, entries: Sequence[Entry]) -> None:
    """Writes results.md and the charts."""
    with write_atomic(out / 'results.md', 'w') as file:
        file.write(markdown_report(entries))
    table = compare(entries)
    gains = {
        student: {row_name(row, rows): (row.gain, *row.interval) for row in rows if row.gain is not None and row.interval}
        for student, rows in table.items()
    }
    if any(gains.values()):
        write_picture(out / 'gain.png', draw_gains({student: of_rows for student, of_rows in gains.items() if of_rows}))
    sizes, scores = accuracy_and_size(entries, table)
    if scores:
        write_picture(out / 'accuracy.png', draw_accuracy(sizes, scores))


def markdown_report(entries: Sequence[Entry]) -> str:
    """Returns a table of the teachers and one for each student, what is missing, and what the results were made with."""
    parts = [f'# {entries[0].matrix}'] if entries else []
    teachers = [entry for entry in entries if entry.role in ('teacher', 'given boxes')]
    if teachers:
        parts += ['## Teachers', table_without_empty(TEACHER_COLUMNS, [teacher_row(entry) for entry in teachers])]
    for student, rows in compare(entries).items():
        results = [result for row in rows for result in row.results]
        parts += [f'## {student}{size_of(results)}', table_without_empty(COLUMNS, [method_row(row) for row in rows])]
    parts.append(NOTES)
    if tuning := tuning_table(entries):
        parts += ['## Loss weights', TUNING_NOTES, tuning]
    parts += [*missing_runs(entries), *provenance(entries)]
    return '\n\n'.join(parts) + '\n'


def table_without_empty(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns the table without 'full set' where no test has searched there."""
    kept = [i for i, name in enumerate(columns) if name != 'full set' or any(row[i] for row in rows)]
    return markdown_table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def size_of(results: Sequence[Result]) -> str:
    if not results:
        return ''
    return f' ({results[0].parameters / 1e6:.2f} M parameters, {np.mean([each.image_ms for each in results]):.0f} ms / image)'


def teacher_row(entry: Entry) -> list[str]:
    name, result = entry.key[0], entry.result
    if result is None:
        return [name, entry.status, *[''] * (len(TEACHER_COLUMNS) - 2)]
    return [
        name,
        *(format_percent([score]) for score in result.scores.values()),
        f'{result.parameters / 1e6:.2f} M',
        f'{result.image_ms:.0f}',
        f'{result.minutes:.1f}' if result.minutes else '',
    ]


def method_row(row: Row) -> list[str]:
    done, planned = len(row.results), len(row.runs)
    name = f'**{row.method}**' if row.runs[0].bold else row.method
    scales = sorted({run.scale for run in row.runs} - {1.0})
    title = ' '.join([name, *(f'x {scale:g}' for scale in scales)])
    seeds = f'{done}' if done == planned else f'{done} of {planned}'
    if not done:
        failed = any(run.status == 'failed' for run in row.runs)
        return [title, row.teacher, seeds, 'failed' if failed else 'missing', *[''] * (len(COLUMNS) - 4)]
    return [
        title,
        row.teacher,
        seeds,
        mean_and_error(row.scores('mAP')),
        format_percent([row.gain], signed=True) + (' \\*' if row.may_be_chance else ''),
        ' to '.join(format_percent([end], signed=True) for end in row.interval) if row.interval else '',
        f'{round(row.gap_closed * 100)} %' if row.gap_closed is not None else '',
        *(mean_and_error(row.scores(name)) for name in ('full set', 'top-1', 'det AP')),
        f'{np.mean([result.minutes for result in row.results]):.1f}',
    ]


def tuning_table(entries: Iterable[Entry]) -> str:
    """Returns the scores of the runs that loss weights were chosen by; '' if none is finished."""
    tuned = {entry.key[:3] for entry in entries if entry.role == 'tuning' and entry.result}
    runs = [entry for entry in entries if entry.key[:3] in tuned and entry.key[3] == 0]
    if not runs:
        return ''
    scales = sorted({run.scale for run in runs})
    rows: dict[RunKey, dict[float, str]] = {run.key: {} for run in runs}
    for run in runs:
        if run.result:
            text = ' / '.join(format_percent([score]) for score in (run.result.validation_mAP, run.result.det_AP))
            rows[run.key][run.scale] = text if run.role == 'tuning' else f'**{text}**'
    cells = [[key[0], key[1], *(of_run.get(scale, '') for scale in scales)] for key, of_run in rows.items()]
    return markdown_table(['student', 'method', *(f'x {scale:g}' for scale in scales)], cells)


def missing_runs(entries: Sequence[Entry]) -> list[str]:
    """Says how many runs are missing or failed, with the command that makes them and the logs of those that failed."""
    todo = [entry for entry in entries if entry.status != 'finished']
    if not todo:
        return []
    failed = [f'`{entry.log}`' for entry in todo if entry.status == 'failed']
    command = f'`mmps benchmark configs/benchmarks/{entries[0].matrix}.yml`'
    logs = f' {len(failed)} of them failed: {", ".join(failed)}.' if failed else ''
    return [f'{len(todo)} of {len(entries)} runs are missing; {command} makes them.{logs}']


def provenance(entries: Sequence[Entry]) -> list[str]:
    """Says when and with what the results were made."""
    results = [entry.result for entry in entries if entry.result and entry.result.date]
    if not results:
        return []
    dates = sorted({result.date for result in results})
    made = f'Made from {dates[0]} to {dates[-1]}' if len(dates) > 1 else f'Made on {dates[0]}'
    versions = [
        f'{name} {", ".join(sorted({getattr(result, name) for result in results}))}' for name in ('mmps', 'torch', 'mmdet')
    ]
    commits = sorted({result.commit for result in results if result.commit})
    return [f'{made} with {", ".join(versions)}{"; commit " + ", ".join(commits) if commits else ""}.']


def row_name(row: Row, rows: Iterable[Row]) -> str:
    """Names a row of a chart; with its teacher where the method has several."""
    has_several = sum(other.method == row.method for other in rows) > 1
    return f'{row.method} by {row.teacher}' if has_several else row.method


def accuracy_and_size(
    entries: Iterable[Entry], table: dict[str, list[Row]]
) -> tuple[dict[str, tuple[int, float]], dict[str, dict[str, float]]]:
    """Returns, for each detector, its parameters and milliseconds per image, and its mAP by method ('' for a teacher).

    Of a student's methods, those in bold, the plain student and the best one are shown, and no network that is given the boxes.
    """
    sizes, scores = {}, {}
    for entry in entries:
        result = entry.result
        if entry.role == 'teacher' and result and result.mAP is not None:
            sizes[entry.key[0]] = result.parameters, result.image_ms
            scores[entry.key[0]] = {'': result.mAP}
    for student, rows in table.items():
        results = [result for row in rows for result in row.results if result.mAP is not None]
        if results:
            sizes[student] = results[0].parameters, float(np.mean([result.image_ms for result in results]))
            mean = {row: float(np.mean(mAP)) for row in rows if (mAP := row.scores('mAP'))}
            best = max(mean, key=lambda row: mean[row])
            shown = [row for row in mean if row.is_reference or row.runs[0].bold or row is best]
            scores[student] = {row_name(row, rows): mean[row] for row in shown}
    return sizes, scores


def mean_and_error(shares: Sequence[float]) -> str:
    """Formats shares as '61.2 ± 0.8' (standard error of the mean), as '61.2' if there is one; '' for none."""
    error = standard_error(shares)
    mean = format_percent([float(np.mean(shares))]) if shares else ''
    return mean if error is None else f'{mean} ± {error * 100:.1f}'


def format_percent(shares: Sequence[float | None], signed: bool = False) -> str:
    """Formats shares as '61.2', or as '61.2 ± 0.8' if there are several (sample standard deviation); '' for none."""
    known = [share for share in shares if share is not None]
    if not known:
        return ''
    mean = f'{np.mean(known) * 100:{"+" if signed else ""}.1f}'
    return f'{mean} ± {np.std(known, ddof=1) * 100:.1f}' if len(known) > 1 else mean
