"""The annotation files can be read in the way that the field's own loaders read them."""

import numpy as np
import pytest
from scipy.io import loadmat

from mmps.synthetic import Size, generate, plan, write_annotations
from mmps.synthetic.plan import TEST, TRAIN

PAIRS = Size('pairs', 96, 160, 12, 8, 3, 3, (1, 2), 2, 3)


@pytest.fixture(scope='module', params=['tiny', PAIRS], ids=['tiny', 'pairs'])
def cuhk(request, tmp_path_factory):
    out = tmp_path_factory.mktemp('cuhk') / 'data'
    generate(out, 'cuhk-sysu', request.param, seed=3, progress=False, style='classic')
    return out, plan('cuhk-sysu', request.param, seed=3, style='classic')


@pytest.fixture(scope='module')
def prw(tmp_path_factory):
    out = tmp_path_factory.mktemp('prw') / 'data'
    generate(out, 'prw', 'tiny', seed=3, progress=False, style='classic')
    return out, plan('prw', 'tiny', seed=3, style='classic')


def read_images(out):
    boxes_of = {}
    for img_name, _, boxes in loadmat(out / 'annotation/Images.mat')['Img'].squeeze():
        boxes = np.asarray([b[0] for b in boxes[0]])
        boxes_of[str(img_name[0])] = boxes.reshape(boxes.shape[0], 4)
    return boxes_of


def read_train(out):
    identities = []
    for item in loadmat(out / 'annotation/test/train_test/Train.mat')['Train'].squeeze():
        scenes = item[0, 0][2].squeeze()
        identities.append([(str(name[0]), box.squeeze().astype(int).tolist()) for name, box, _ in scenes])
    return identities


def read_pool(out):
    return [str(a[0]) for a in loadmat(out / 'annotation/pool.mat')['pool'].squeeze()]


def read_protocol(out, count):
    found = []
    protocol = loadmat(out / f'annotation/test/train_test/TestG{count}.mat')[f'TestG{count}'].squeeze()
    for index, item in enumerate(protocol['Query']):
        gallery = [
            (str(name[0]), roi.squeeze().astype(int).tolist() if roi.size else None)
            for name, roi, _ in protocol['Gallery'][index].squeeze()
        ]
        found.append((str(item['imname'][0, 0][0]), item['idlocate'][0, 0][0].astype(int).tolist(), gallery))
    return found


def test_cuhk_images_hold_every_planned_box(cuhk):
    out, planned = cuhk
    read = {name: boxes.tolist() for name, boxes in read_images(out).items()}
    assert read == {scene.name: [list(p.box) for p in scene.persons] for scene in planned.scenes}
    assert sorted(read) == sorted(path.name for path in (out / 'Image/SSM').iterdir())


def test_the_pairs_have_images_with_one_box(cuhk):
    _, planned = cuhk
    if planned.size.name == 'pairs':
        assert any(len(scene.persons) == 1 for scene in planned.scenes)


def test_cuhk_train_identities_are_seen_in_two_scenes_or_more(cuhk):
    out, planned = cuhk
    images, identities, pool = read_images(out), read_train(out), set(read_pool(out))
    assert len(identities) == planned.size.train_ids
    for scenes in identities:
        assert len({name for name, _ in scenes}) == len(scenes) >= 2
        for name, box in scenes:
            assert name not in pool
            assert images[name].tolist().count(box) == 1
    assert identities == [[(s.name, list(p.box)) for s, p in found] for found in planned.sightings(TRAIN)]


def test_cuhk_pool_is_the_test_scenes(cuhk):
    out, planned = cuhk
    assert sorted(read_pool(out)) == sorted(scene.name for scene in planned.split(TEST))


@pytest.mark.parametrize('count', [50, 100, 500, 1000, 2000, 4000])
def test_cuhk_protocol_lists_all_targets_and_never_the_query_image(cuhk, count):
    out, planned = cuhk
    images, pool = read_images(out), set(read_pool(out))
    where = {}
    for person_id, found in enumerate(planned.sightings(TEST)):
        for scene, person in found:
            where[scene.name, person.box] = person_id
    protocol = read_protocol(out, count)
    assert len(protocol) == planned.size.queries
    for name, box, gallery in protocol:
        person_id = where[name, tuple(box)]
        assert name in pool
        assert box in images[name].tolist()
        names = [entry[0] for entry in gallery]
        assert len(set(names)) == len(names) == min(count, len(pool) - 1)
        assert name not in names
        assert set(names) <= pool
        targets = {(entry, tuple(roi)) for entry, roi in gallery if roi is not None}
        assert targets == {key for key, other in where.items() if other == person_id and key[0] != name}
        assert targets


def test_a_small_gallery_has_its_own_size_and_no_hidden_target(tmp_path):
    planned = plan('cuhk-sysu', 'mini', style='classic')
    write_annotations(planned, tmp_path, gallery_sizes=(50,))
    assert not (tmp_path / 'Image').exists()
    holders = [{scene.name for scene, _ in found} for found in planned.sightings(TEST)]
    for (scene, position), (_, _, gallery) in zip(planned.queries, read_protocol(tmp_path, 50), strict=True):
        assert len(gallery) == 50
        person_id = planned.scenes[scene].persons[position].person_id
        assert {name for name, roi in gallery if roi is None}.isdisjoint(holders[person_id])


def test_prw_frames_hold_every_planned_box(prw):
    out, planned = prw
    for scene in planned.scenes:
        rows = loadmat(out / 'annotations' / f'{scene.name}.mat')['box_new']
        assert rows.shape == (len(scene.persons), 5)
        assert rows.dtype == np.float64
        assert rows[:, 1:].tolist() == [list(p.box) for p in scene.persons]
        assert (rows[:, 0] == -2).tolist() == [p.person_id < 0 for p in scene.persons]
        assert int(scene.name[1]) == scene.camera + 1
        assert (out / 'frames' / scene.name).is_file()


def test_prw_identities_are_disjoint_and_have_a_gap(prw):
    out, planned = prw
    ids = {}
    for split, part in ((TRAIN, 'train'), (TEST, 'test')):
        names = [str(n[0][0]) for n in loadmat(out / f'frame_{part}.mat')[f'img_index_{part}']]
        assert names == [scene.name[:-4] for scene in planned.split(split)]
        rows = np.concatenate([loadmat(out / 'annotations' / f'{name}.jpg.mat')['box_new'] for name in names])
        ids[part] = sorted(set(rows[:, 0].astype(int)) - {-2})
    assert len(ids['train']) == planned.size.train_ids
    assert len(ids['test']) == planned.size.test_ids
    assert not set(ids['train']) & set(ids['test'])
    assert ids['train'][0] == 1
    assert ids['train'] != list(range(1, planned.size.train_ids + 1))


def test_prw_queries_are_test_boxes_with_a_target_elsewhere(prw):
    out, planned = prw
    test = {scene.name[:-4] for scene in planned.split(TEST)}
    rows = {name: loadmat(out / 'annotations' / f'{name}.jpg.mat')['box_new'].tolist() for name in test}
    lines = (out / 'query_info.txt').read_text().splitlines(keepends=True)
    assert len(lines) == planned.size.queries
    for line in lines:
        person_id, *box, frame = line.split(' ')
        frame = frame[:-1]
        assert [float(person_id), *map(float, box)] in rows[frame]
        assert any(row[0] == float(person_id) for name in test - {frame} for row in rows[name])
