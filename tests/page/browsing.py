"""What tests of the page in a browser look for."""

import importlib.util
import re
import shutil

import pytest

CHROMIUM = shutil.which('chromium')
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec('playwright') is None, reason='needs playwright and /usr/bin/chromium'
)


def person(page, number=0):
    return page.get_by_role('button', name=re.compile('^Search for Person')).nth(number)


def matches(page):
    return page.get_by_role('list', name='Matches').get_by_role('listitem')


def wait_for_matches(page):
    page.get_by_text(re.compile(r'^\d+ match')).wait_for()


def similarities(page):
    return [float(text) for text in page.locator('.match .value').all_inner_texts()]
