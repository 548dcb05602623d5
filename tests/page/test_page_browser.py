"""The page in a real browser, as somebody uses it: add pictures, choose a person, filter, mark, export, on a phone too."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from browsing import matches, needs_browser, person, similarities, wait_for_matches

pytestmark = needs_browser


@pytest.fixture
def searched(open_page, filled):
    """A new page after the first person of the first scene was chosen."""
    page = open_page(viewport={'width': 1280, 'height': 900})
    person(page).click()
    wait_for_matches(page)
    yield page
    page.context.close()


def test_the_persons_of_the_gallery_are_outlined_and_found(searched):
    assert (
        searched.locator('section .stage rect').count()
        == searched.get_by_role('button', name=re.compile('^Search for')).count()
    )
    assert similarities(searched)[0] == 1 and similarities(searched) == sorted(similarities(searched), reverse=True)
    assert 'north' in matches(searched).first.inner_text()
    for image in searched.locator('img').all():
        image.scroll_into_view_if_needed()
        searched.wait_for_function('image => image.complete && image.naturalWidth > 0', arg=image.element_handle())
        assert image.get_attribute('alt') is not None
    matches(searched).first.get_by_role('button', name=re.compile('^Show the whole scene')).click()
    searched.locator('.scene-dialog rect.match').wait_for()
    searched.get_by_role('dialog').get_by_role('button', name='Close').click()


def test_a_person_is_chosen_by_a_click_and_by_a_drawn_box(searched):
    outline = searched.locator('section .stage rect').first.bounding_box()
    searched.mouse.click(outline['x'] + outline['width'] / 2, outline['y'] + outline['height'] / 2)
    searched.locator('section .stage rect.chosen').wait_for()
    count = searched.locator('section .stage rect').count()
    stage = searched.locator('section .stage').bounding_box()
    searched.mouse.move(stage['x'] + 20, stage['y'] + 20)
    searched.mouse.down()
    searched.mouse.move(stage['x'] + 60, stage['y'] + 90)
    searched.locator('.stage rect.band').wait_for()
    searched.mouse.move(stage['x'] + 80, stage['y'] + 140)
    searched.mouse.up()
    searched.wait_for_function('count => document.querySelectorAll("section .stage rect").length === count', arg=count + 1)
    searched.get_by_role('button', name=re.compile(r'^Search for Person \d+$')).wait_for()  # a drawn box has no confidence


def test_matches_are_filtered_and_sorted(searched):
    searched.get_by_label('From', exact=True).fill('1:00')
    searched.get_by_text('No matches with these filters').wait_for()
    searched.get_by_label('From', exact=True).fill('')
    wait_for_matches(searched)
    searched.get_by_label('Show', exact=True).click()
    searched.get_by_role('option', name='best of each camera').click()
    searched.get_by_text('1 match.').wait_for()
    searched.get_by_label('Show', exact=True).click()
    searched.get_by_role('option', name='every sighting').click()
    searched.wait_for_function('document.querySelectorAll(".match").length > 1')
    least = searched.get_by_role('slider', name='Least similarity')
    least.fill('0.95')
    searched.get_by_text('Similarity from 0.95').wait_for()
    searched.wait_for_function('[...document.querySelectorAll(".match .value")].every(each => Number(each.innerText) >= 0.95)')
    assert matches(searched).count() > 0
    least.fill('0')
    searched.wait_for_function('document.querySelectorAll(".match").length === 20')


def test_two_photographs_are_one_search(searched):
    searched.get_by_role('switch', name='Add the next person').click()
    person(searched, 1).click()
    removers = searched.get_by_role('button', name='Remove this photograph')
    removers.nth(1).wait_for()
    searched.wait_for_function('Number(document.querySelector(".match .value").innerText) < 1')
    removers.nth(1).click()
    searched.wait_for_function('document.querySelector(".match .value").innerText === "1.00"')
    searched.get_by_role('switch', name='Add the next person').click()
    assert removers.count() == 1


def test_what_was_found_is_exported_with_its_marks(searched, tmp_path):
    files = {}
    matches(searched).nth(0).get_by_role('button', name='is right').click()
    searched.locator('#match-0.is-right').wait_for()
    matches(searched).nth(1).get_by_role('button', name='is wrong').click()
    searched.locator('#match-1.is-wrong').wait_for()
    for name in ('CSV', 'JSON', 'ZIP'):
        with searched.expect_download() as download:
            searched.get_by_role('button', name=f'Download {name}').click()
        files[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[name])
    found = json.loads(files['JSON'].read_text())
    assert [each['mark'] for each in found['matches'][:3]] == ['right', 'wrong', '']
    assert len(files['CSV'].read_text().splitlines()) == 1 + len(found['matches'])
    assert f'crops/{len(found["matches"]):03d}.jpg' in zipfile.ZipFile(files['ZIP']).namelist()
    searched.get_by_role('switch', name='Only those marked right').click()
    with searched.expect_download() as download:
        searched.get_by_role('button', name='Download CSV').click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 2
    searched.get_by_role('switch', name='Only those marked right').click()


def test_a_photograph_is_uploaded_and_another_file_is_refused(open_page, filled, place):
    page = open_page()
    person(page).wait_for()
    chooser = page.locator('section input[type=file]').first
    chooser.set_input_files(place / 'wrong.jpg')
    page.get_by_text('This file is not a photograph').wait_for()
    chooser.set_input_files(place / 'secret.jpg')
    page.locator('section .stage img[alt^="secret.jpg"]').wait_for()
    page.get_by_text(re.compile('persons? found')).wait_for()
    person(page).click()
    wait_for_matches(page)
    page.context.close()


def test_a_phone_has_everything_without_scrolling_sideways(open_page, filled):
    page = open_page(viewport={'width': 390, 'height': 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    person(page).tap()
    wait_for_matches(page)
    widths = page.evaluate('[document.documentElement.scrollWidth, window.innerWidth]')
    assert widths == [390, 390]
    page.get_by_role('button', name='Add pictures').tap()
    page.get_by_label('Folders on this machine').wait_for()
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    page.context.close()


def test_the_keyboard_alone_is_enough(open_page, filled):
    page = open_page()
    person(page).focus()
    page.keyboard.press('Enter')
    wait_for_matches(page)
    assert person(page).get_attribute('aria-pressed') == 'true'
    matches(page).first.get_by_role('button', name=re.compile('^Show the whole scene')).focus()
    page.keyboard.press('Enter')
    page.locator('.scene-dialog rect.match').wait_for()
    page.keyboard.press('Escape')
    page.context.close()


def test_without_the_password_there_is_nothing(open_page, filled):
    for credentials in ({'username': 'me', 'password': 'wrong'}, {'username': 'you', 'password': 'sesame'}):
        page = open_page(http_credentials=credentials)
        assert page.answer.status == 401 and 'Person search' not in page.content()
        assert page.request.get(f'{page.url}scene/0/0.jpg').status == 401
        page.context.close()


def test_a_path_outside_the_gallery_is_not_shown(filled, server, place):
    def get(path):
        return filled.request.get(server + path)

    assert get('/scene/0/0.jpg').headers['content-type'] == 'image/jpeg'
    assert get('/crop/0/0.jpg?box=1,1,30,60').status == 200
    for path in (
        '/scene/3/0.jpg',
        '/scene/-1/0.jpg',
        f'/scene/{place}/secret.jpg',
        '/scene/..%2Fsecret/0.jpg',
        '/scene/%2e%2e/secret.jpg',
        '/scene/u/0.jpg',
        '/crop/0/0.jpg?box=9999,9999,5,5',
        '/crop/0/0.jpg?box=nan,1,1,1',
        f'{place}/secret.jpg',
        '/../secret.jpg',
    ):
        assert get(path).status == 404, path
    (place / 'scenes').rename(place / 'moved')
    try:
        (place / 'scenes').mkdir()
        for image in (place / 'moved').iterdir():
            (place / 'scenes' / image.name).symlink_to(place / 'secret.jpg')
        assert get('/scene/2/0.jpg').status == 404
    finally:
        shutil.rmtree(place / 'scenes')
        (place / 'moved').rename(place / 'scenes')
