"""The demo's report: one HTML file with the table, the loss curves and search results."""
import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from .ranked_results import Crop, draw_rows

STYLE = '''
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1300px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .35em .9em; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
.strips { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1em; margin-bottom: 1.5em; }
figure { margin: 0; } figcaption { color: #666; font-size: 13px; } img { max-width: 100%; }
'''


@dataclass(frozen=True)
class Row:
    """A line of the table: scores in per cent, one value a seed; parameters and milliseconds an image where it has them."""
    name: str
    scores: Mapping[str, Sequence[float]]
    parameters: int | None = None
    milliseconds: float | None = None

    def cells(self, columns: Sequence[str]) -> list[str]:
        texts = {name: spread(values) for name, values in self.scores.items()}
        if self.parameters is not None:
            texts['parameters'] = f'{self.parameters / 1e6:.2f} M'
        if self.milliseconds is not None:
            texts['ms / image'] = f'{self.milliseconds:.0f}'
        return [texts.get(column, '') for column in columns]


def spread(values: Sequence[float]) -> str:
    """'61.2', or '61.2 ± 0.8' for more than one value (sample standard deviation)."""
    mean = f'{np.mean(values):.1f}'
    return f'{mean} ± {np.std(values, ddof=1):.1f}' if len(values) > 1 else mean


def write_report(path: str | Path, table: str, curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
                 searches: Mapping[int, Mapping[str, Sequence[Crop]]]) -> None:
    """Writes the report.

    Args:
        table: Markdown.
        curves: For each run and each of its losses the (step, value) pairs.
        searches: For each query and each run the crops of its strip.
    """
    parts = ['<h1>Person search distilled</h1>', _html_table(table), '<h2>Losses</h2>', _image(draw_losses(curves), 'png'),
             '<h2>Searches</h2><p>The query in blue, then the five most similar detections: green is the person sought, '
             'red is not.</p>']
    for query, strips in searches.items():
        figures = (f'<figure>{_image(_encode(draw_rows([row])), "jpeg")}<figcaption>{html.escape(name)}</figcaption></figure>'
                   for name, row in strips.items())
        parts.append(f'<h3>Query {query}</h3><div class="strips">{"".join(figures)}</div>')
    page = (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mmps demo</title><style>{STYLE}</style>'
            f'</head><body>{"".join(parts)}</body></html>')
    Path(path).write_text(page, encoding='utf-8')


def draw_losses(curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> bytes:
    """A panel a loss, a line a run: PNG. A student's own losses share their panels with the plain student's."""
    panels: dict[str, dict[str, Sequence[tuple[int, float]]]] = {}
    for run, losses in curves.items():
        for name, points in losses.items():
            if name != 'loss':
                panels.setdefault(name.removeprefix('student.'), {})[run] = points
    columns = 4
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(3.4 * columns, 2.4 * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = {run: f'C{i % 10}' for i, run in enumerate(curves)}
    for axis, (name, lines) in zip(axes, panels.items(), strict=False):
        for run, points in lines.items():
            axis.plot(*zip(*points, strict=True), label=run, color=colours[run], linewidth=1.2)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_ylim(bottom=0)
    for axis in axes[len(panels):]:
        axis.set_axis_off()
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc='outside lower center', ncols=4, fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()


def _encode(picture: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _image(data: bytes, kind: str) -> str:
    return f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _html_table(markdown: str) -> str:
    lines = [line for line in markdown.splitlines() if line.startswith('|') and set(line) - set('|- ')]
    rest = [line for line in markdown.splitlines() if line and not line.startswith('|')]
    rows = [[html.escape(cell.strip()) for cell in line.strip('|').split('|')] for line in lines]
    head = ''.join(f'<th>{cell}</th>' for cell in rows[0])
    body = ''.join('<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>' for row in rows[1:])
    return f'<table><tr>{head}</tr>{body}</table>' + ''.join(f'<p>{html.escape(line)}</p>' for line in rest)
