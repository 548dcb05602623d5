"""The runs of a benchmark: the configs, folder and result of each."""

import copy
import fnmatch
import hashlib
import json
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import mmdet
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope

from mmps.fileio.arrays import open_npz, read_array
from mmps.fileio.atomic import write_atomic
from mmps.registry import DATASETS, MODELS
from mmps.version import __version__ as mmps_version

from .checkpoints import TrainingFolder
from .logs import scalars
from .matrix import Matrix, Method, Network, compose, config_as_python, folder_name, is_detector
from .results import Entry, Result, RunKey


@dataclass(eq=False)
class Run(TrainingFolder):
    """One training and its test.

    Attributes:
        student: The network to train: a student or, if there is no method, a teacher. It is tested with ``student.cfg``.
        teacher: The run of its teacher.
        lookup_table: The file of the lookup table that training starts with; it need not exist yet.
        keeps_predictions: Whether the test writes its predictions.
        scale: Factor of the method's distillation losses.
        validation: How many queries, the first, do not count in its scores.
        role: As in :class:`~mmps.benchmark.results.Entry`.
        waits: Whether ``scale`` is still to be chosen.
    """

    student: Network
    method: Method | None = None
    teacher: 'Run | None' = None
    seed: int = 0
    lookup_table: Path | None = None
    keeps_predictions: bool = False
    scale: float = 1
    validation: int = 0
    role: str = 'student'
    waits: bool = False

    @property
    def name(self) -> str:
        if self.method is None:
            return f'{self.student.name}  teacher'
        by = f' by {self.teacher.student.name}' if self.teacher else ''
        scale = f' x {self.scale:g}' if self.scale != 1 else ''
        return f'{self.student.name}  {self.method.name}{scale}{by}  seed {self.seed}'

    @property
    def key(self) -> RunKey:
        """Student, method and teacher ('' where there is none), and seed."""
        return (
            self.student.name,
            self.method.name if self.method else '',
            self.teacher.student.name if self.teacher else '',
            self.seed,
        )

    @property
    def final_checkpoint(self) -> Path:
        return self.student.checkpoint or super().final_checkpoint

    @property
    def is_trained(self) -> bool:
        return bool(self.student.checkpoint) or super().is_trained

    @property
    def num_steps(self) -> int:
        """How many steps its training has."""
        loop, loader = self.config.train_cfg, self.config.train_dataloader
        if 'max_iters' in loop:
            return loop.max_iters
        return loop.max_epochs * -(-len(build_dataset(loader.dataset)) // loader.batch_size)

    def count_steps_done(self) -> int:
        return max((entry.get('iter', 0) for entry in scalars(self.work_dir)), default=0)

    @property
    def result_file(self) -> Path:
        return self.work_dir / 'result.json'

    def load_result(self) -> Result | None:
        """Returns the result of a finished run with exactly this config; None if there is none."""
        if self.is_outdated or not self.is_tested or not self.result_file.is_file():
            return None
        return Result(**json.loads(self.result_file.read_text()))

    @property
    def is_done(self) -> bool:
        """Whether it is trained, or was trained and tested: then its checkpoint may be gone."""
        return self.is_trained or self.load_result() is not None

    def clear(self) -> None:
        super().clear()
        self.write_configs()

    def write_configs(self) -> None:
        """Writes the configs of the training and of the test to the run's folder."""
        self.train_config.write_text(self.config_text)
        config = copy.deepcopy(self.student.cfg)
        config.merge_from_dict({'test_evaluator.query_file': str(self.query_file)})
        self.test_config.write_text(config_as_python(config))

    @property
    def train_config(self) -> Path:
        return self.work_dir / 'config.py'

    @property
    def test_config(self) -> Path:
        return self.work_dir / 'test_config.py'

    def train_command(self, tools: Path) -> list[str]:
        return [str(tools / 'train.py'), str(self.train_config), '--work-dir', str(self.work_dir), '--resume']

    def test_command(self, tools: Path) -> list[str]:
        command = [str(tools / 'test.py'), str(self.test_config), str(self.final_checkpoint)]
        out = ['--out', str(self.predictions)] if self.keeps_predictions else []
        return [*command, '--work-dir', str(self.work_dir / 'test'), *out]

    @property
    def predictions(self) -> Path:
        return self.work_dir / 'test' / 'predictions.npz'

    @property
    def query_file(self) -> Path:
        """The search of each query in the test, as ``PersonSearchMetric`` writes it."""
        return self.work_dir / 'test' / 'queries.npz'

    def queries(self) -> dict[str, np.ndarray]:
        """Returns ``ap`` and ``first_ranks`` of all queries, those of the validation first."""
        with open_npz(self.query_file) as arrays:
            return {name: read_array(arrays, name) for name in ('ap', 'first_ranks')}

    @property
    def is_tested(self) -> bool:
        kept = [self.query_file, *([self.predictions] if self.keeps_predictions else [])]
        return super().is_tested and all(path.is_file() for path in kept)

    def search_scores(self, scores: Mapping[str, Any]) -> dict[str, float | None]:
        """Returns mAP and top-1 of the test queries, and mAP of those of the validation, in 0..1."""
        if not self.validation:
            return {'mAP': scores.get('search/mAP'), 'top_1': scores.get('search/top-1')}
        queries = self.queries()
        ap, first_ranks = queries['ap'], queries['first_ranks'][self.validation :]
        return {
            'mAP': float(ap[self.validation :].mean()),
            'top_1': float(np.mean(first_ranks == 1)),
            'validation_mAP': float(ap[: self.validation].mean()),
        }

    def entry(self, matrix: Matrix, work_dir: Path, result: Result | None, has_failed: bool) -> Entry:
        """Returns what is known about the run, as data."""
        return Entry(
            matrix.name,
            self.role,
            self.method is not None and self.method.name in matrix.headline,
            self.scale,
            self.key,
            'finished' if result else 'failed' if has_failed else 'missing',
            str((self.work_dir / 'train.log').relative_to(work_dir)),
            result,
            self.queries()['ap'][self.validation :] if result else None,
        )

    def save_result(self, num_parameters: int) -> Result:
        """Writes the result of a finished run, and deletes all checkpoints but the final one."""
        scores = self.test_scores()
        times = {entry['iter']: entry['time'] for entry in scalars(self.work_dir) if 'iter' in entry}
        losses = [entry['loss'] for entry in scalars(self.work_dir) if 'loss' in entry]
        steps = sorted(times)
        result = Result(
            *self.key,
            **self.search_scores(scores),
            det_AP=scores.get('search/det_AP'),
            minutes=sum(times[step] * (step - before) for before, step in zip([0, *steps], steps, strict=False)) / 60,
            step_seconds=median(times.values()) if times else None,
            image_ms=scores['time'] * 1000,
            parameters=num_parameters,
            loss=losses[-1] if losses else None,
            config=sha256(self.config_text.encode())[:12],
            mmps=mmps_version,
            torch=torch.__version__,
            mmdet=mmdet.__version__,
            commit=commit(),
            date=date.today().isoformat(),
        )
        for checkpoint in self.work_dir.glob('*.pth'):
            if checkpoint != self.final_checkpoint:
                checkpoint.unlink()
        with write_atomic(self.result_file, 'w') as file:
            json.dump(vars(result), file, indent=1)
        return result


def list_runs(matrix: Matrix, work_dir: Path) -> list[Run]:
    """Lists all runs of a matrix: its teachers, then with the first seed every student under every method, and so on.

    Where the loss weights of a method are tuned, the first seed has a run for each factor. Until all of them are finished,
    the runs with other seeds wait.
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
                    runs += student_runs(matrix, student, method, teachers[teacher.name] if teacher else None, seed, work_dir)
    return runs


def student_runs(matrix: Matrix, student: Network, method: Method, teacher: Run | None, seed: int, work_dir: Path) -> list[Run]:
    """Returns the run of a student; with the first seed of a tuned method, also those with the factors not chosen."""

    def make(scale: float, seed: int) -> Run:
        run = make_student_run(student, method, teacher, seed, work_dir, scale)
        run.keeps_predictions, run.validation = matrix.predictions, matrix.validation
        run.role = 'reference' if method.name == matrix.reference else 'student'
        return run

    if not method.tune or student.name in method.scales:
        return [make(method.scales.get(student.name, 1), seed)]
    tried = {scale: make(scale, 0) for scale in method.tune}
    mAP = {scale: result.validation_mAP for scale, run in tried.items() if (result := run.load_result())}
    is_chosen = len(mAP) == len(tried)
    best = max(mAP, key=lambda scale: mAP[scale] or 0) if is_chosen else method.tune[len(method.tune) // 2]
    if seed:
        run = make(best, seed)
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


@cache
def commit() -> str:
    """Returns the commit of mmps, with a '+' if its files differ from it; '' if it is not in a repository."""
    git = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--abbrev=12', '--exclude=*', '--dirty=+']
    found = subprocess.run(git, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else ''


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_dataset(cfg: dict) -> BaseDataset:
    with DefaultScope.overwrite_default_scope('mmps'):
        return DATASETS.build(copy.deepcopy(cfg))  # building changes the config


def build_model(cfg: Config) -> BaseModel:
    with DefaultScope.overwrite_default_scope('mmps'):
        return MODELS.build(copy.deepcopy(cfg.model))


def embedding_size(cfg: Config) -> int:
    return build_model(cfg).memory.embed_dims


@cache
def count_parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in build_model(network.cfg).parameters())
