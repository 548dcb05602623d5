"""Keeps a benchmark's tables in a page of the documentation, between two HTML comments::

<!-- begin synthps-bench -->
<!-- end synthps-bench -->
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mmps.fileio.atomic import write_atomic

from .report import markdown_report
from .results import Entry


def update_page(page: Path, entries: Sequence[Entry]) -> None:
    """Writes the tables of the entries into the page.

    Raises:
        OSError: The page cannot be read or written.
        ValueError: The page has no place for them.
    """
    text = _updated(page, entries)
    with write_atomic(page, 'w') as file:
        file.write(text)


def check_page(page: Path, entries: Sequence[Entry]) -> None:
    """Checks that the page has the tables of the entries.

    Raises:
        OSError: The page cannot be read.
        ValueError: It has others, or no place for them. The message has the first line that differs.
    """
    shown, expected = page.read_text(encoding='utf-8').splitlines(), _updated(page, entries).splitlines()
    for number, (line, other) in enumerate(zip([*shown, ''], [*expected, ''], strict=False), start=1):
        if line != other:
            raise ValueError(f'{page}, line {number}: {line!r}, but the results say {other!r}; write the page again')


def _updated(page: Path, entries: Sequence[Entry]) -> str:
    """Returns the page's text with the tables of the entries, one heading level below that of the matrix's report."""
    name = re.escape(entries[0].matrix)
    table = re.sub(r'^#', '##', markdown_report(entries), flags=re.MULTILINE)
    text, count = re.subn(
        rf'(<!-- begin {name} -->\n).*?(<!-- end {name} -->)',
        lambda found: f'{found[1]}\n{table}\n{found[2]}',
        page.read_text(encoding='utf-8'),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f'{page}: expected one line <!-- begin {entries[0].matrix} --> and after it the same with end')
    return text
