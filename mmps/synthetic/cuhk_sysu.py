"""Writes a plan's annotations as CUHK-SYSU's files, with the nesting of the original."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from . import mat5
from .plan import TEST, TRAIN, Person, Plan, Scene
from .seeds import QUERY, stream

IMAGES = Path('Image/SSM')
ANNOTATIONS = Path('annotation')
PROTOCOLS = ANNOTATIONS / 'test/train_test'
GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
_SIGHTING = ('imname', 'idlocate', 'ishard')
_NOT_HARD = mat5.numbers([[0]])


def write(plan: Plan, out: Path, gallery_sizes: Sequence[int] = GALLERY_SIZES) -> None:
    """Writes Images.mat, pool.mat, Train.mat and a TestG*.mat for each gallery size.

    Args:
        plan: What to write.
        out: The data set's folder.
        gallery_sizes: Images per query: TestG50 lists 50. If the pool is smaller, a query lists all scenes but its own.
    """
    (out / PROTOCOLS).mkdir(parents=True, exist_ok=True)
    scenes = sorted(plan.scenes, key=lambda scene: int(scene.name[1:-4]))
    images = [
        [
            *mat5.text(scene.name),
            *mat5.numbers([[len(scene.persons)]]),
            *mat5.struct(('idlocate', 'ishard'), [mat5.record(mat5.numbers([p.box]), _NOT_HARD) for p in scene.persons]),
        ]
        for scene in scenes
    ]
    mat5.save(out / ANNOTATIONS / 'Images.mat', mat5.struct(('imname', 'nAppear', 'box'), images, 'Img'))
    pool = [scene for scene in scenes if scene.split == TEST]
    mat5.save(out / ANNOTATIONS / 'pool.mat', mat5.cell([mat5.text(scene.name) for scene in pool], 'pool'))
    identities = []
    for person_id, found in enumerate(plan.sightings(TRAIN)):
        sightings = mat5.struct(_SIGHTING, [sighting(scene.name, person.box) for scene, person in found])
        fields = [*mat5.text(f'p{person_id + 1}'), *mat5.numbers([[len(found)]]), *sightings]
        identities.append(mat5.struct(('idname', 'nAppear', 'scene'), [fields]))
    mat5.save(out / PROTOCOLS / 'Train.mat', mat5.cell(identities, 'Train'))
    for size in gallery_sizes:
        _write_protocol(plan, pool, out / PROTOCOLS, size)


def _galleries(plan: Plan, size: int) -> Iterator[tuple[Scene, Person, list[tuple[Scene, Person | None]]]]:
    """Yields each query's scene, its person and its gallery of `size` images, as (scene, target or None), targets first."""
    pool = plan.split(TEST)
    sightings = plan.sightings(TEST)
    for number, (scene_index, position) in enumerate(plan.queries):
        scene = plan.scenes[scene_index]
        person = scene.persons[position]
        found = sightings[person.person_id]
        targets = [(s, p) for s, p in found if s is not scene][:size]
        # No scene that shows the person may be a distractor: neither the query's nor a target beyond the gallery's size.
        excluded = {s.index for s, _ in found}
        others = [s for s in pool if s.index not in excluded]
        rng = stream(plan.seed, QUERY, 1, number, size)
        distractors = rng.sample(others, min(size - len(targets), len(others)))
        yield scene, person, [*targets, *((s, None) for s in distractors)]


def sighting(name: str, box: Sequence[int] | None) -> bytes:
    """Encodes an image's name and the person's box [x y w h] in it; None for a gallery image without the person."""
    if box is None:
        return mat5.record(mat5.text(name), mat5.empty(), mat5.empty())
    return mat5.record(mat5.text(name), mat5.numbers([box]), _NOT_HARD)


def save_protocol(path: Path, queries: Iterable[tuple[bytes, str, Sequence[bytes]]]) -> None:
    """Writes a TestG*.mat from each query's sighting, the person's name, and the sightings that its gallery lists."""
    entries = []
    for query, name, gallery in queries:
        asked = mat5.struct((*_SIGHTING, 'idname'), [mat5.record([query], mat5.text(name))])
        entries.append([*asked, *mat5.struct(_SIGHTING, gallery)])
    mat5.save(path, mat5.struct(('Query', 'Gallery'), entries, path.stem))


def _write_protocol(plan: Plan, pool: Sequence[Scene], folder: Path, size: int) -> None:
    without_target = {scene.index: sighting(scene.name, None) for scene in pool}
    save_protocol(
        folder / f'TestG{size}.mat',
        (
            (
                sighting(scene.name, person.box),
                f'p{plan.size.train_ids + person.person_id + 1}',
                [without_target[s.index] if p is None else sighting(s.name, p.box) for s, p in gallery],
            )
            for scene, person, gallery in _galleries(plan, size)
        ),
    )
