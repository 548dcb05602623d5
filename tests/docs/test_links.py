import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ('README.md', 'docs/*.md', 'docs/api/*.md', 'docs/tutorials/*.md', 'configs/*/README.md')
PAGES = [page for place in PLACES for page in sorted(ROOT.glob(place))]
CODE = re.compile(r'^(```|~~~).*?^\1|`[^`\n]*`', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\(([^)\s#:]+)(?:#[^)\s]*)?\)')
ADDRESS = re.compile(r'\]\(([^)\s#:]*)#([^)\s]+)\)')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page):
    targets = LINK.findall(CODE.sub('', page.read_text()))
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_anchor_is_a_heading_of_its_page(page):
    for target, anchor in ADDRESS.findall(CODE.sub('', page.read_text())):
        file = page.parent / target if target else page
        assert anchor in anchors(file.read_text()), f'{file.name}#{anchor}'


def anchors(text: str) -> set[str]:
    """As GitHub makes them from headings, and those that MyST reads from ``(name)=``."""
    text = re.sub(r'^```.*?^```', '', text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings} | set(
        re.findall(r'^\(([\w-]+)\)=$', text, re.MULTILINE)
    )
