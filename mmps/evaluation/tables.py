"""Formats scores as Markdown tables, which also read well on a terminal."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .search import SearchResult


class Table(NamedTuple):
    """A table. As text it is Markdown that also reads well on a terminal: the first column is set left, the others right.

    Attributes:
        columns: Headings.
        rows: Cells, as many per row as there are columns.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        cells = [list(self.columns), *map(list, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, ['-' * width for width in widths])
        return '\n'.join(
            '| '
            + ' | '.join(
                cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            + ' |'
            for row in cells
        )


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a :class:`Table` as text."""
    return str(Table(columns, rows))


def per_cent(share: float) -> str:
    """Formats 0.12345 as '12.35' and NaN as ''."""
    return '' if np.isnan(share) else f'{share * 100:.2f}'


def search_table(results: Mapping[str, SearchResult]) -> Table:
    """Returns a table of mAP and top-k in per cent, with one row per search. All searches must have the same values of k."""
    topk = [f'top-{k}' for k in next(iter(results.values())).topk]
    return Table(
        ['search', 'queries', 'targets', 'mAP', *topk],
        [
            [
                name,
                str(len(result.ap)),
                str(result.num_targets.sum()),
                per_cent(result.mAP),
                *map(per_cent, result.topk.values()),
            ]
            for name, result in results.items()
        ],
    )


def detection_table(scores: Mapping[str, Mapping[str, float]]) -> Table:
    """Returns a table of detection AP and recall in per cent, one row per entry with ``ap``, ``recall`` and ``persons``."""
    return Table(
        ['detection', 'persons', 'AP', 'recall'],
        [[name, str(found['persons']), per_cent(found['ap']), per_cent(found['recall'])] for name, found in scores.items()],
    )
