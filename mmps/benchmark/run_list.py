"""Lists the runs of a matrix, chooses among them, and clears those that were made with another config."""

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from .matrix import Matrix, Method, Network, compose, folder_name, is_detector
from .runs import Run, embedding_size, sha256


def list_runs(matrix: Matrix, work_dir: Path) -> list[Run]:
    """Lists all runs of a matrix: its teachers, then with the first seed every student under every method, and so on.

    Where the loss weights of a method are tuned, the first seed has a run for each factor. Until all of them are finished,
    the runs with other seeds, and those of students that another one chooses for, wait.
    """
    teachers = {}
    for network in matrix.teachers.values():
        config, folder = network.cfg, work_dir / 'teachers' / folder_name(network.name)
        config.work_dir = str(folder)
        if network.checkpoint:
            config.checkpoint_sha256 = sha256(network.checkpoint.read_bytes())
        role = 'teacher' if is_detector(network.cfg) else 'given boxes'
        teachers[network.name] = Run(
            folder, config, network, keeps_predictions=matrix.predictions, validation=matrix.validation, role=role
        )
    runs = list(teachers.values())
    for seed in range(max(method.seeds for method in matrix.methods.values())):
        for student in matrix.students.values():
            for method in matrix.methods.values():
                for teacher in matrix.teachers_of(student, method) if seed < method.seeds else []:
                    runs += student_runs(matrix, student, method, teacher, seed, teachers, work_dir)
    return runs


def student_runs(
    matrix: Matrix,
    student: Network,
    method: Method,
    teacher: Network | None,
    seed: int,
    teachers: Mapping[str, Run],
    work_dir: Path,
) -> list[Run]:
    """Returns the run of a student; with the first seed, also those with the factors that were not chosen.

    Args:
        teachers: The runs of all teachers by name.
    """

    def make(scale: float, student: Network = student, teacher: Network | None = teacher, seed: int = seed) -> Run:
        run = make_student_run(student, method, teachers[teacher.name] if teacher else None, seed, work_dir, scale)
        run.keeps_predictions, run.validation = matrix.predictions, matrix.validation
        run.role = 'reference' if method.name == matrix.reference else 'student'
        return run

    if not method.tune or student.name in method.scales:
        return [make(method.scales.get(student.name, 1))]
    if method.tune_on in (None, student.name):
        tuned, its_teacher = student, teacher
    else:
        tuned = matrix.students[method.tune_on]
        its_teacher = matrix.teachers_of(tuned, method)[0]
    tried = {scale: make(scale, tuned, its_teacher, 0) for scale in method.tune}
    mAP = {scale: result.validation_mAP for scale, run in tried.items() if (result := run.load_result())}
    is_chosen = len(mAP) == len(tried)
    best = max(mAP, key=lambda scale: mAP[scale] or 0) if is_chosen else method.tune[len(method.tune) // 2]
    if seed or tuned is not student:
        run = make(best)
        run.waits = not is_chosen
        return [run]
    for scale, run in tried.items():
        if scale != best:
            run.role = 'tuning'
    return list(tried.values())


def make_student_run(student: Network, method: Method, teacher: Run | None, seed: int, work_dir: Path, scale: float = 1) -> Run:
    scaled = folder_name(method.name) + (f'-x{scale:g}' if scale != 1 else '')
    name = '_'.join([scaled, *([folder_name(teacher.student.name)] if teacher else []), f'seed{seed}'])
    folder = work_dir / 'students' / folder_name(student.name) / name
    lookup_table = None
    if teacher and method.lookup_table:
        lookup_table = teacher.work_dir / f'lookup_table_{embedding_size(student.cfg)}.npz'
    network, checkpoint = (teacher.student, teacher.final_checkpoint) if teacher else (None, None)
    config = compose(student, method, network, checkpoint, lookup_table, seed, scale)
    config.work_dir = str(folder)
    if teacher:  # the config also says which teacher it is: another teacher means another run
        config.teacher_sha256 = sha256(teacher.config_text.encode())
    return Run(folder, config, student, method, teacher, seed, lookup_table, scale=scale)


def select_runs(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """Returns the runs whose names contain one of the patterns, and their teachers; all runs if there is no pattern.

    Raises:
        ValueError: No run's name contains a pattern.
    """
    for pattern in patterns:
        if not any(name_matches(run, pattern) for run in runs):
            raise ValueError(f'--only: no run has {pattern!r} in its name; the first is {runs[0].name!r}')
    selected = [run for run in runs if not patterns or any(name_matches(run, pattern) for pattern in patterns)]
    return [run for run in runs if run in selected or any(run is other.teacher for other in selected)]


def name_matches(run: Run, pattern: str) -> bool:
    return fnmatch.fnmatch(run.name.lower(), f'*{pattern.lower()}*')


def clear_outdated_runs(runs: Iterable[Run], selected: Collection[Run]) -> None:
    """Clears the folders of selected runs that were made with another config or cannot go on.

    Also clears every run, selected or not, that has begun with a teacher that is now trained again.

    Raises:
        FileNotFoundError: A run needs the checkpoint of a finished teacher, and it is gone.
    """
    for run in runs:
        teacher = run.teacher
        has_new_teacher = teacher is not None and teacher in selected and not teacher.is_done
        is_lost = not run.is_done and run.latest_checkpoint is not None and not run.latest_checkpoint.is_file()
        if (run in selected and (run.is_outdated or is_lost)) or (has_new_teacher and run.kept_config.is_file()):
            if run.latest_checkpoint:
                reason = (
                    'made with another config'
                    if run.is_outdated
                    else 'its checkpoint is gone'
                    if is_lost
                    else 'made with another teacher'
                )
                print(f'{run.name}: {reason}, so it is made again')
            run.clear()
        if run in selected and teacher and not run.is_done and teacher.is_done and not teacher.is_trained:
            raise FileNotFoundError(
                f'{teacher.final_checkpoint}: the checkpoint of a finished teacher is gone; to train it '
                f'again remove {teacher.work_dir}'
            )
