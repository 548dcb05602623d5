"""Writes a plan's annotations as PRW's files, with the nesting of the original."""

from pathlib import Path

from . import mat5
from .plan import TEST, TRAIN, Plan
from .size import Size

IMAGES = Path('frames')
ANNOTATIONS = Path('annotations')
UNLABELLED = -2


def file_id(size: Size, split: int, person_id: int) -> int:
    """Returns the number of a person in the files.

    As in the original, training numbers have a gap: the last training identity comes after all test identities.
    """
    if person_id < 0:
        return UNLABELLED
    if split == TEST:
        return size.train_ids + person_id
    is_last = person_id == size.train_ids - 1
    return size.train_ids + size.test_ids if is_last else person_id + 1


def write(plan: Plan, out: Path) -> None:
    """Writes a .mat for every frame, frame_train.mat, frame_test.mat and query_info.txt.

    Args:
        plan: What to write.
        out: The data set's folder.
    """
    (out / ANNOTATIONS).mkdir(parents=True, exist_ok=True)
    for scene in plan.scenes:
        rows = [[float(file_id(plan.size, scene.split, p.person_id)), *map(float, p.box)] for p in scene.persons]
        mat5.save(out / ANNOTATIONS / f'{scene.name}.mat', mat5.numbers(rows, 'box_new'))
    for split, part in ((TRAIN, 'train'), (TEST, 'test')):
        names = [mat5.text(Path(scene.name).stem) for scene in plan.split(split)]
        mat5.save(out / f'frame_{part}.mat', mat5.cell(names, f'img_index_{part}'))
    lines = []
    for scene_index, position in plan.queries:
        scene = plan.scenes[scene_index]
        person = scene.persons[position]
        box = ' '.join(f'{v:.4f}' for v in person.box)
        lines.append(f'{file_id(plan.size, TEST, person.person_id)} {box} {Path(scene.name).stem}\n')
    (out / 'query_info.txt').write_text(''.join(lines), newline='\n')
