"""The settings of the documentation site, which ``make docs`` builds."""

import importlib
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from mmps import __version__  # noqa: E402

project = 'mmps'
release = version = __version__
project_copyright = 'the maintainers of mmps'
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'sphinx_copybutton']
exclude_patterns = ['_build', 'comparison/*/results.md']
suppress_warnings = ['myst.header']  # a README may begin below the first level
source_suffix = {'.md': 'markdown', '.rst': 'restructuredtext'}

html_theme = 'furo'
html_title = f'mmps {__version__}'
html_show_sphinx = False
html_static_path = ['_static']
html_css_files = ['site.css']
html_theme_options = {'navigation_with_keys': True}
pygments_dark_style = 'monokai'
copybutton_exclude = '.linenos, .gp, .go'

myst_heading_anchors = 4  # as GitHub names them
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_inherit_docstrings = False  # those of other libraries are in their documentation
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
autodoc_typehints_format = 'short'
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries_show_parents = 'hide'

# Pages that are made from files elsewhere: docname -> the file.
MADE = {
    'pages/overview': ROOT / 'README.md',
    'pages/contributing': ROOT / 'CONTRIBUTING.md',
    'pages/changelog': ROOT / 'CHANGELOG.md',
} | {f'pages/configs/{path.parent.name}': path for path in sorted(ROOT.glob('configs/*/README.md'))}
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)')


def make_pages() -> None:
    """Copies the READMEs to where Sphinx finds them; an unchanged page stays, so that it is not built again."""
    for docname, path in MADE.items():
        page, text = DOCS / f'{docname}.md', path.read_text()
        page.parent.mkdir(parents=True, exist_ok=True)
        if not page.is_file() or page.read_text() != text:
            page.write_text(text)


def relink(app: Sphinx, docname: str, source: list[str]) -> None:
    """Leads links that are right in the repository to the pages of the site.

    Of a link to a folder only its text stays. Links to other files stay links: MyST offers them as downloads.
    """
    page = DOCS / docname
    origin = MADE.get(docname, page)
    pages = {path: DOCS / f'{name}.md' for name, path in MADE.items()}

    def replace(link: re.Match) -> str:
        image, text, target, anchor = link.groups(default='')
        if ':' in target:
            return link[0]
        path = Path(os.path.normpath(origin.parent / target))
        if path.is_dir():
            return text
        return f'{image}[{text}]({os.path.relpath(pages.get(path, path), page.parent)}{anchor})'

    if (DOCS / f'{docname}.md').is_file():
        source[0] = LINK.sub(replace, source[0])


def escape_letters(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Keeps the D of ``embed_dims: D.`` a letter: reStructuredText takes it for the start of a list."""
    lines[:] = [re.sub(r'^(\s*\w[^:]*: )([A-Za-z])\.', r'\1\2\\.', line) for line in lines]


class Room(SphinxDirective):
    """``.. room:: mmps.models`` documents a package.

    First what it exports, then each module that it exports nothing of, then its packages in the same way.
    """

    required_arguments = 1
    option_spec = {'skip': str.split}  # packages that have a page of their own

    def run(self) -> list[nodes.Node]:
        lines = room_lines(self.arguments[0], self.options.get('skip', []))
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(list(lines)), section)
        return section.children


def room_lines(name: str, skipped: list[str], depth: int = 0, known: frozenset = frozenset()) -> Iterator[str]:
    package = importlib.import_module(name)
    exported = {each: getattr(package, each) for each in getattr(package, '__all__', [])}
    exported = {each: value for each, value in exported.items() if inspect.isroutine(value) or inspect.isclass(value)}
    new = sorted((not inspect.isclass(value), each.lower(), each) for each, value in exported.items() if each not in known)
    if depth and new:
        yield from heading(name, depth)
        yield from [f'.. py:module:: {name}', '']
    for is_function, _, each in new:
        yield from (
            [f'.. autofunction:: {name}.{each}', ''] if is_function else [f'.. autoclass:: {name}.{each}', '   :members:', '']
        )
    sources = {value.__module__ for value in exported.values()}
    for info in pkgutil.iter_modules(package.__path__, f'{name}.'):
        if info.name in skipped or info.name in sources:
            continue
        if info.ispkg:
            yield from room_lines(info.name, skipped, depth + 1, known | exported.keys())
        else:
            yield from heading(info.name, depth + 1)
            yield from [f'.. automodule:: {info.name}', '   :members:', '']


def heading(name: str, depth: int) -> list[str]:
    return [name, '-~^'[depth - 1] * len(name), '']


def setup(app: Sphinx) -> None:
    make_pages()
    app.add_directive('room', Room)
    app.connect('source-read', relink)
    app.connect('autodoc-process-docstring', escape_letters, priority=100)  # before napoleon
