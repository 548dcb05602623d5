"""Writes reports as single HTML files, with the pictures inside."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mmps.evaluation.tables import Table

from .charts import draw_losses
from .ranked_results import SearchRow, draw_rows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1300px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.strips { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1em; margin-bottom: 1.5em; }
.pictures { display: flex; flex-wrap: wrap; gap: 0 2em; align-items: flex-start; }
figure { margin: 0; } figcaption { color: #666; font-size: 13px; } img { max-width: 100%; }
"""


def write_report(
    path: str | Path,
    table: Table,
    remarks: Sequence[str],
    curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    searches: Mapping[int, Mapping[str, SearchRow]],
) -> None:
    """Writes the demo's report.

    Args:
        table: The scores.
        remarks: Sentences to show under the table.
        curves: For each run and each of its losses the (step, value) pairs.
        searches: For each query and each run the row to show.
    """
    parts = [
        _html_table(table),
        *(f'<p>{html.escape(remark)}</p>' for remark in remarks),
        '<h2>Losses</h2>',
        _html_picture(draw_losses(curves)),
        '<h2>Searches</h2><p>The query in blue, then the most similar detections: green is the person sought, red is not.</p>',
    ]
    for query, rows in searches.items():
        figures = (
            f'<figure>{_html_picture(draw_rows([row], legend=False))}<figcaption>{html.escape(name)}</figcaption></figure>'
            for name, row in rows.items()
        )
        parts.append(f'<h3>Query {query}</h3><div class="strips">{"".join(figures)}</div>')
    _write_page(path, 'Person search distilled', parts)


def write_search_report(path: str | Path, title: str, tables: Mapping[str, Table], pictures: Mapping[str, np.ndarray]) -> None:
    """Writes a report with tables first, then pictures.

    Args:
        tables: The tables by heading.
        pictures: The pictures by heading, RGB.
    """
    parts = [f'<h2>{html.escape(name)}</h2>{_html_table(table)}' for name, table in tables.items()]
    sections = (
        f'<section><h2>{html.escape(name)}</h2>{_html_picture(picture)}</section>' for name, picture in pictures.items()
    )
    _write_page(path, title, [*parts, f'<div class="pictures">{"".join(sections)}</div>'])


def _write_page(path: str | Path, title: str, parts: Sequence[str]) -> None:
    title = html.escape(title)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f'</head><body><h1>{title}</h1>{"".join(parts)}</body></html>'
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(page, encoding='utf-8')


def _html_table(table: Table) -> str:
    rows = [('th', table.columns), *(('td', row) for row in table.rows)]
    cells = (''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in row) for tag, row in rows)
    return f'<table>{"".join(f"<tr>{row}</tr>" for row in cells)}</table>'


def _html_picture(picture: np.ndarray) -> str:
    """Embeds the picture in the page, as JPEG (smaller for photographs) or PNG (smaller for charts), whichever is smaller."""
    picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = {
        'jpeg': cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1],
        'png': cv2.imencode('.png', picture)[1],
    }
    kind = min(encoded, key=lambda kind: len(encoded[kind]))
    return f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(encoded[kind].tobytes()).decode()}">'
