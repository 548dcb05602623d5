"""The plan keeps its promises, and the pictures show what is planned."""

import dataclasses

import cv2
import numpy as np
import pytest

from mmps.synthetic import SIZES, STYLES, Studio, plan, render_scene
from mmps.synthetic.figure import draw_figure
from mmps.synthetic.look import draw_look
from mmps.synthetic.plan import TEST, TRAIN, look_of
from mmps.synthetic.pose import Pose, aspect
from mmps.synthetic.seeds import stream


@pytest.fixture(scope='module', params=STYLES)
def style(request):
    return request.param


@pytest.fixture(scope='module')
def mini(style):
    return plan('cuhk-sysu', 'mini', style=style)


@pytest.fixture(scope='module')
def pictures(style):
    """Scenes of `tiny` drawn larger, each with its picture and the person that every pixel shows."""
    planned = plan('prw', dataclasses.replace(SIZES['tiny'], height=192, width=336), 7, style)
    studio = Studio(planned.size, planned.seed, style)
    shown = []
    for scene in planned.scenes:
        owner = np.zeros((192, 336), int)
        shown.append((scene, render_scene(scene, studio, owner), owner))
    return shown


def test_boxes_lie_in_the_image(mini):
    for scene in mini.scenes:
        assert scene.persons
        for person in scene.persons:
            x, y, w, h = person.box
            assert min(x, y) >= 0 and min(w, h) > 0
            assert x + w <= mini.size.width and y + h <= mini.size.height


def test_people_of_the_classic_style_are_a_quarter_to_two_thirds_of_the_scene_high():
    planned = plan('cuhk-sysu', 'mini', style='classic')
    heights = [person.figure[3] / planned.size.height for scene in planned.scenes for person in scene.persons]
    assert min(heights) > 0.24
    assert max(heights) < 0.66


def test_people_of_the_varied_style_are_small_and_large_and_stand_in_crowds():
    size = dataclasses.replace(SIZES['mini'], height=1080, width=1920, persons=(1, 40), cameras=200)
    planned = plan('cuhk-sysu', size, style='varied')
    heights = np.array([person.figure[3] for scene in planned.scenes for person in scene.persons])
    assert np.quantile(heights, 0.05) < 100 and np.quantile(heights, 0.95) > 400
    assert heights.min() >= 20 and heights.max() > 700
    assert max(len(scene.persons) for scene in planned.scenes) > 30


def test_a_third_of_the_people_has_no_identity(mini):
    unlabelled = [person.person_id < 0 for scene in mini.scenes for person in scene.persons]
    assert 0.28 < np.mean(unlabelled) < 0.38


@pytest.mark.parametrize('split', [TRAIN, TEST])
def test_every_identity_is_seen_twice_and_once_a_scene(mini, split):
    for found in mini.sightings(split):
        assert len({scene.index for scene, _ in found}) == len(found) >= 2


def test_most_identities_are_seen_by_several_cameras(mini):
    assert np.mean([len({scene.camera for scene, _ in found}) > 1 for found in mini.sightings(TEST)]) > 0.9


def test_no_two_people_look_alike(mini):
    looks = {look_of(mini.seed, scene, person, mini.style) for scene in mini.scenes for person in scene.persons}
    num_unlabelled = sum(person.person_id < 0 for scene in mini.scenes for person in scene.persons)
    assert len(looks) == mini.size.train_ids + mini.size.test_ids + num_unlabelled


def test_many_people_of_the_classic_style_share_a_garments_colour():
    assert len({draw_look(stream(0, 2, 1, k)).upper_colour for k in range(300)}) <= 8


def test_layouts_differ_in_names_only(mini):
    for ours, theirs in zip(mini.scenes, plan('prw', 'mini', style=mini.style).scenes, strict=True):
        assert dataclasses.replace(theirs, name=ours.name) == ours


def test_image_names_are_unique():
    for layout in ('cuhk-sysu', 'prw'):
        names = [scene.name for scene in plan(layout, 'mini').scenes]
        assert len(set(names)) == len(names)


def test_everybody_annotated_can_be_seen(pictures, style):
    hidden = [
        scene.name
        for scene, _, owner in pictures
        for position, person in enumerate(scene.persons)
        # A figure fills half of its box, and furniture hides its whole box here.
        if (owner == position + 1).sum() <= 0.07 * person.figure[2] * person.figure[3]
    ]
    people = sum(len(scene.persons) for scene, *_ in pictures)
    assert len(hidden) <= (0 if style == 'classic' else 0.02 * people), hidden  # a crowded scene must show its labelled people


def test_a_box_is_tight_around_its_person(pictures, style):
    tight = 0
    for scene, _, owner in pictures:
        nearest = len(scene.persons)
        last = scene.persons[-1]
        is_cut = style == 'varied' and last.figure != last.box  # the widest part may lie outside the scene
        if is_cut or any(item.height > last.depth for item in scene.furniture):
            continue
        x, y, w, h = last.box
        left, top, wide, tall = cv2.boundingRect((owner == nearest).astype(np.uint8))
        assert abs(left - x) <= 1 and abs(top - y) <= 1
        assert abs(left + wide - x - w) <= 1 and abs(top + tall - y - h) <= 1
        tight += 1
    assert tight > 10


def test_nobody_is_drawn_outside_the_boxes(pictures):
    for scene, _, owner in pictures:
        inside = np.zeros(owner.shape, bool)
        for x, y, w, h in (person.box for person in scene.persons):
            inside[y : y + h, x : x + w] = True
        assert not (owner > 0)[~inside].any()


def test_the_planned_shape_is_the_drawn_one(style):
    """If the shapes differed, people would be stretched to fit their boxes."""
    for k in range(40):
        look = STYLES[style].draw_look(stream(0, 2, 0, k))
        pose = STYLES[style].draw_pose(stream(0, 9, k), look)
        h, w = draw_figure(look, pose, 300).shape[:2]
        assert abs(w / h / aspect(look, pose) - 1) < 0.12


def test_a_logo_shows_on_the_front_only():
    look = dataclasses.replace(
        draw_look(stream(0, 2, 0, 0)),
        pattern='logo',
        upper='tshirt',
        is_open=False,
        bag='none',
        scarf=False,
        logo='square',
        upper_colour=(40, 40, 40),
        accent=(250, 20, 250),
    )
    for yaw, shows in ((0.0, True), (np.pi, False), (np.pi / 2, False)):
        figure = draw_figure(look, Pose(yaw, 0.0, 0.1, 0.2, 0), 300).astype(int)
        magenta = (figure[..., 0] > 150) & (figure[..., 2] > 150) & (figure[..., 1] < 80)
        assert magenta.any() == shows
