"""Writes a plan's annotations as CUHK-SYSU's files, nested as in the original."""

from pathlib import Path

from . import mat5
from .plan import TEST, TRAIN
from .seeds import QUERY, stream

IMAGES = Path('Image/SSM')
ANNOTATIONS = Path('annotation')
PROTOCOLS = ANNOTATIONS / 'test/train_test'
GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
_ENTRY = ('imname', 'idlocate', 'ishard')


def image_path(name):
    """Where an image lies under the data set's folder."""
    return IMAGES / name


def write(plan, out, gallery_sizes=GALLERY_SIZES):
    """Write Images.mat, pool.mat, Train.mat and a TestG*.mat for each gallery size.

    Args:
        plan (Plan): What to write.
        out (Path): The data set's folder.
        gallery_sizes (sequence[int]): TestG50 lists 50 images a query, and so on; where the pool is smaller it lists
            all scenes but the query's.
    """
    (out / PROTOCOLS).mkdir(parents=True, exist_ok=True)
    in_order = sorted(plan.scenes, key=lambda scene: int(scene.name[1:-4]))
    hard = mat5.numbers([[0]])
    mat5.save(
        out / ANNOTATIONS / 'Images.mat',
        mat5.struct(
            ('imname', 'nAppear', 'box'),
            [
                [
                    *mat5.text(scene.name),
                    *mat5.numbers([[len(scene.persons)]]),
                    *mat5.struct(('idlocate', 'ishard'), [mat5.record(mat5.numbers([p.box]), hard) for p in scene.persons]),
                ]
                for scene in in_order
            ],
            'Img',
        ),
    )
    pool = [scene for scene in in_order if scene.split == TEST]
    mat5.save(out / ANNOTATIONS / 'pool.mat', mat5.cell([mat5.text(scene.name) for scene in pool], 'pool'))
    mat5.save(
        out / PROTOCOLS / 'Train.mat',
        mat5.cell(
            [
                mat5.struct(
                    ('idname', 'nAppear', 'scene'),
                    [
                        [
                            *mat5.text(f'p{person_id + 1}'),
                            *mat5.numbers([[len(found)]]),
                            *mat5.struct(_ENTRY, [_sighting(scene, person) for scene, person in found]),
                        ]
                    ],
                )
                for person_id, found in enumerate(plan.sightings(TRAIN))
            ],
            'Train',
        ),
    )
    for count in gallery_sizes:
        _write_protocol(plan, pool, out / PROTOCOLS, count)


def galleries(plan, count):
    """What TestG`count` asks for.

    Args:
        plan (Plan): The data set.
        count (int): Images a query.

    Yields:
        tuple: (query's Scene, query's Person, list of (Scene, target Person or None)); the targets first.
    """
    pool = plan.split(TEST)
    sightings = plan.sightings(TEST)
    for number, (scene_index, position) in enumerate(plan.queries):
        scene = plan.scenes[scene_index]
        person = scene.persons[position]
        targets = [(s, p) for s, p in sightings[person.person_id] if s is not scene][:count]
        # Other sightings must not pass as distractors, even where they exceed the gallery; the query's is among them.
        holders = {s.index for s, _ in sightings[person.person_id]}
        others = [s for s in pool if s.index not in holders]
        wanted = min(count - len(targets), len(others))
        rng = stream(plan.seed, QUERY, 1, number, count)
        yield scene, person, targets + [(s, None) for s in rng.sample(others, wanted)]


def _sighting(scene, person):
    return mat5.record(mat5.text(scene.name), mat5.numbers([person.box]), mat5.numbers([[0]]))


def _write_protocol(plan, pool, folder, count):
    blank = {scene.index: mat5.record(mat5.text(scene.name), mat5.empty(), mat5.empty()) for scene in pool}
    entries = []
    for scene, person, gallery in galleries(plan, count):
        query = mat5.struct(
            (*_ENTRY, 'idname'),
            [mat5.record([_sighting(scene, person)], mat5.text(f'p{plan.size.train_ids + person.person_id + 1}'))],
        )
        listed = [blank[s.index] if p is None else _sighting(s, p) for s, p in gallery]
        entries.append([*query, *mat5.struct(_ENTRY, listed)])
    mat5.save(folder / f'TestG{count}.mat', mat5.struct(('Query', 'Gallery'), entries, f'TestG{count}'))
