"""Two users on the page at once, a video on the page, and the whole way with the keyboard alone."""

import csv
import re

import pytest
from browsing import matches, needs_browser, person, similarities, wait_for_matches

pytestmark = needs_browser


def add_video(page, stride):
    """Starts to add the video."""
    page.get_by_role('button', name='Add pictures').click()
    page.get_by_label('Folders on this machine').click()
    page.get_by_role('option').nth(1).click()
    page.keyboard.press('Escape')
    page.get_by_label('Every n-th frame of a video').fill(str(stride))
    page.get_by_role('button', name='Start').click()


@pytest.fixture(scope='module')
def with_video(open_page, filled):
    """The gallery with six frames of a video as well."""
    page = open_page()
    add_video(page, stride=100)
    page.get_by_text(re.compile(r'^6 of 6 frames, \d+ persons; done$')).wait_for()
    page.context.close()


def asked(page):
    return page.get_by_role('img', name='The person that is searched for').get_attribute('src')


def search_for(page, number):
    """Chooses a person, and waits until the best match is that person."""
    person(page, number).click()
    crop = person(page, number).locator('img').get_attribute('src')
    page.locator(f'.person.asked img[src="{crop}"]').wait_for()
    page.locator(f'#match-0 img[src="{crop}"]').wait_for()
    assert similarities(page)[0] == 1


def test_each_user_gets_the_own_matches_while_one_adds_a_video(open_page, with_video):
    one, other = open_page(viewport={'width': 1280, 'height': 900}), open_page(viewport={'width': 1280, 'height': 900})
    search_for(one, 0)
    search_for(other, 1)
    assert asked(one) != asked(other)
    add_video(one, stride=1)
    one.get_by_text(re.compile(r'^[1-9]\d* of 600 frames, \d+ persons$')).wait_for()
    search_for(other, 2)
    # The answer came before the end of the indexing.
    assert one.get_by_role('button', name='Stop').is_enabled() and 'done' not in one.locator('.adding .hint').last.inner_text()
    other.get_by_role('button', name='Add pictures').click()
    other.get_by_text(re.compile(r'^\d+ of 600 frames, \d+ persons$')).wait_for()  # the progress is everybody's
    other.get_by_role('button', name='Stop').click()
    for page in (one, other):
        page.get_by_text(re.compile(r'^\d+ of 600 frames, \d+ persons; stopped$')).wait_for()
    assert asked(one) != asked(other)
    one.context.close()
    other.context.close()


def test_a_person_in_a_frame_of_a_video_is_found(open_page, with_video):
    page = open_page(viewport={'width': 1280, 'height': 900})
    person(page).wait_for()
    page.get_by_label('Photograph or video').click()
    page.get_by_role('option', name='street.avi').click()
    stage = page.locator('section .stage img')
    page.locator('section .stage img[alt="street.avi"]').wait_for()
    person(page).wait_for()
    page.get_by_role('button', name='Next frame with people').click()
    page.locator('section .stage img[alt^="street.avi, frame "]').wait_for()
    frame = int(stage.get_attribute('alt').split()[-1])
    person(page).wait_for()
    page.get_by_text(re.compile('^frame [1-9]')).wait_for()
    outline = page.locator('section .stage rect').first.bounding_box()
    page.mouse.click(outline['x'] + outline['width'] / 2, outline['y'] + outline['height'] / 2)
    wait_for_matches(page)
    first = matches(page).first
    assert f'/{frame}.jpg' in asked(page) and asked(page) == first.locator('img').get_attribute('src')
    assert 'street.avi' in first.inner_text() and re.search(r'\d:\d\d', first.inner_text())
    page.context.close()


def test_the_keyboard_alone_goes_the_whole_way(open_page, with_video):
    page = open_page(viewport={'width': 1280, 'height': 900})
    person(page).wait_for()

    def tab_to(target):
        for _ in range(150):
            page.keyboard.press('Tab')
            if target.evaluate('target => target.contains(document.activeElement)'):
                return
        raise AssertionError(f'Tab does not lead to {target}')

    tab_to(page.get_by_label('Photograph or video'))
    scene = page.locator('section .stage img').get_attribute('src')
    page.keyboard.press('ArrowDown')
    page.get_by_role('option').nth(1).wait_for()
    page.keyboard.press('ArrowDown')
    page.keyboard.press('Enter')
    page.wait_for_function('scene => document.querySelector("section .stage img").getAttribute("src") !== scene', arg=scene)
    page.get_by_text(re.compile('persons? found')).wait_for()
    tab_to(person(page, 1))
    page.keyboard.press('Enter')
    wait_for_matches(page)
    assert person(page, 1).get_attribute('aria-pressed') == 'true'
    assert person(page, 1).evaluate('button => button === document.activeElement')  # and Tab goes on from there
    tab_to(matches(page).nth(1).get_by_role('button', name='is right'))
    page.keyboard.press('Enter')
    page.locator('#match-1.is-right').wait_for()
    tab_to(page.get_by_role('switch', name='Only those marked right'))
    page.keyboard.press('Space')
    tab_to(page.get_by_role('button', name='Download CSV'))
    with page.expect_download() as download:
        page.keyboard.press('Enter')
    with open(download.value.path(), newline='') as file:
        (row,) = csv.DictReader(file)
    assert row['mark'] == 'right' and row['rank'] == '2'
    page.context.close()
