"""The runs of a benchmark: what each is trained and tested with, where, and what it gave."""

import copy
import fnmatch
import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import median
from typing import ClassVar

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmps.fileio.atomic import write_atomic
from mmps.registry import DATASETS, MODELS

from .checkpoints import TrainingFolder
from .logs import scalars
from .matrix import Matrix, Method, Network, compose, config_text, folder_name
from .report import Result

SCORES = {'mAP': 'search/mAP', 'top_1': 'search/top-1', 'det_AP': 'search/det_AP'}


@dataclass(eq=False)
class Run(TrainingFolder):
    """One training and its test.

    Attributes:
        student: What is trained: a student or, if there is no method, a teacher.
        config: What it is trained with; ``student.cfg`` is what it is tested with.
        teacher: The run of its teacher.
        lookup_table: Where the table that it starts with is, or will be.
        keeps_predictions: Whether its test writes what it predicts.
    """

    student: Network
    method: Method | None
    teacher: 'Run | None'
    seed: int
    work_dir: Path
    config: Config
    lookup_table: Path | None = None
    keeps_predictions: bool = False
    made_by: ClassVar[str] = 'the benchmark'
    stamp_name: ClassVar[str] = 'benchmark_config.py'  # not config.py: MMEngine writes what it has made of it over it

    @property
    def name(self) -> str:
        if self.method is None:
            return f'{self.student.name}  teacher'
        by = f' by {self.teacher.student.name}' if self.teacher else ''
        return f'{self.student.name}  {self.method.name}{by}  seed {self.seed}'

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Student, method and teacher, '' where there is none, and seed."""
        return (
            self.student.name,
            self.method.name if self.method else '',
            self.teacher.student.name if self.teacher else '',
            self.seed,
        )

    @property
    def loaded(self) -> Config:
        return self.config

    @cached_property
    def text(self) -> str:
        return config_text(self.config)

    @property
    def checkpoint(self) -> Path:
        return self.student.checkpoint or super().checkpoint

    @property
    def is_trained(self) -> bool:
        return bool(self.student.checkpoint) or super().is_trained

    @property
    def num_steps(self) -> int:
        """Of its training."""
        loop, loader = self.config.train_cfg, self.config.train_dataloader
        if 'max_iters' in loop:
            return loop.max_iters
        return loop.max_epochs * -(-len(build_dataset(loader.dataset)) // loader.batch_size)

    def steps_done(self) -> int:
        return max((entry.get('iter', 0) for entry in scalars(self.work_dir)), default=0)

    @property
    def result_file(self) -> Path:
        return self.work_dir / 'result.json'

    def result(self) -> Result | None:
        """What a finished run of this very config gave."""
        lost = self.keeps_predictions and not self.predictions.is_file()
        if self.is_changed or lost or not self.result_file.is_file():
            return None
        return Result(**json.loads(self.result_file.read_text()))

    @property
    def is_done(self) -> bool:
        """Whether it is trained, or was trained and tested: then its checkpoint may be gone."""
        return self.is_trained or self.result() is not None

    def forget(self) -> None:
        super().forget()
        self.trained_as.write_text(self.text)
        self.tested_as.write_text(config_text(self.student.cfg))

    @property
    def trained_as(self) -> Path:
        return self.work_dir / 'config.py'

    @property
    def tested_as(self) -> Path:
        return self.work_dir / 'test_config.py'

    def command(self, tools: Path) -> list[str]:
        return [sys.executable, str(tools / 'train.py'), str(self.trained_as), '--work-dir', str(self.work_dir), '--resume']

    def test_command(self, tools: Path) -> list[str]:
        out = ['--out', str(self.predictions)] if self.keeps_predictions else []
        return [
            sys.executable,
            str(tools / 'test.py'),
            str(self.tested_as),
            str(self.checkpoint),
            '--work-dir',
            str(self.work_dir / 'test'),
            *out,
        ]

    @property
    def predictions(self) -> Path:
        return self.work_dir / 'test' / 'predictions.npz'

    @property
    def is_tested(self) -> bool:
        return super().is_tested and (self.predictions.is_file() or not self.keeps_predictions)

    def finish(self, parameters: int) -> Result:
        """Writes what the run gave, and drops the checkpoints but the last."""
        scores = self.test_scores()
        times = {entry['iter']: entry['time'] for entry in scalars(self.work_dir) if 'iter' in entry}
        losses = [entry['loss'] for entry in scalars(self.work_dir) if 'loss' in entry]
        steps = sorted(times)
        result = Result(
            *self.key,
            **{name: scores.get(key) for name, key in SCORES.items()},
            minutes=sum(times[step] * (step - before) for before, step in zip([0, *steps], steps, strict=False)) / 60,
            step_seconds=median(times.values()) if times else None,
            image_ms=scores['time'] * 1000,
            parameters=parameters,
            loss=losses[-1] if losses else None,
        )
        for checkpoint in self.work_dir.glob('*.pth'):
            if checkpoint != self.checkpoint:
                checkpoint.unlink()
        with write_atomic(self.result_file, 'w') as file:
            json.dump(vars(result), file, indent=1)
        return result


def list_runs(matrix: Matrix, work_dir: Path) -> list[Run]:
    """All runs of a matrix: its teachers, then with the first seed every student under every method, and so on."""
    teachers = {}
    for network in matrix.teachers.values():
        config, folder = network.cfg, work_dir / 'teachers' / folder_name(network.name)
        config.work_dir = str(folder)
        if network.checkpoint:
            config.checkpoint_sha256 = digest(network.checkpoint.read_bytes())
        teachers[network.name] = Run(network, None, None, 0, folder, config, keeps_predictions=matrix.predictions)
    runs = list(teachers.values())
    for seed in range(max(method.seeds for method in matrix.methods.values())):
        for student in matrix.students.values():
            for method in matrix.methods.values():
                for network in matrix.teachers_of(student, method) if seed < method.seeds else []:
                    teacher = teachers[network.name] if network else None
                    runs.append(student_run(student, method, teacher, seed, work_dir, matrix.predictions))
    return runs


def student_run(
    student: Network, method: Method, teacher: Run | None, seed: int, work_dir: Path, keeps_predictions: bool
) -> Run:
    name = '_'.join([folder_name(method.name), *([folder_name(teacher.student.name)] if teacher else []), f'seed{seed}'])
    folder = work_dir / 'students' / folder_name(student.name) / name
    lookup_table = None
    if method.lookup_table:
        lookup_table = teacher.work_dir / f'lookup_table_{embed_dims(student.cfg)}.npz'
    config = compose(student, method, teacher and teacher.student, teacher and teacher.checkpoint, lookup_table, seed)
    config.work_dir = str(folder)
    if teacher:  # what it is made with: another teacher means another run
        config.teacher_sha256 = digest(teacher.text.encode())
    return Run(student, method, teacher, seed, folder, config, lookup_table, keeps_predictions)


def chosen(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """The runs whose names have one of the patterns in them, and their teachers."""
    for pattern in patterns:
        if not any(matches(run, pattern) for run in runs):
            raise ValueError(f'--only: no run has {pattern!r} in its name; the first is {runs[0].name!r}')
    asked = [run for run in runs if not patterns or any(matches(run, pattern) for pattern in patterns)]
    return [run for run in runs if run in asked or any(run is other.teacher for other in asked)]


def matches(run: Run, pattern: str) -> bool:
    return fnmatch.fnmatch(run.name.lower(), f'*{pattern.lower()}*')


def forget_changed(runs: Iterable[Run], asked: Collection[Run]) -> None:
    """Drops, of the runs that are asked for, what was made with other configs or cannot go on; and of all runs what was
    distilled, or begun, with a teacher that is now trained again.

    Raises:
        FileNotFoundError: A finished teacher's checkpoint is gone, and a run needs it.
    """
    for run in runs:
        anew = run.teacher in asked and not run.teacher.is_done
        lost = not run.is_done and run.latest is not None and not run.latest.is_file()
        if (run in asked and (run.is_changed or lost)) or (anew and run.stamp.is_file()):
            if run.latest:
                reason = (
                    'made with another config'
                    if run.is_changed
                    else 'its checkpoint is gone'
                    if lost
                    else 'made with another teacher'
                )
                print(f'{run.name}: {reason}, so it is made again')
            run.forget()
        if run in asked and run.teacher and not run.is_done and run.teacher.is_done and not run.teacher.is_trained:
            raise FileNotFoundError(
                f'{run.teacher.checkpoint}: the checkpoint of a finished teacher is gone; to train it '
                f'again remove {run.teacher.work_dir}'
            )


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_dataset(cfg: dict):
    with DefaultScope.overwrite_default_scope('mmps'):
        return DATASETS.build(copy.deepcopy(cfg))  # what is built is used up


def build(cfg: Config):
    with DefaultScope.overwrite_default_scope('mmps'):
        return MODELS.build(copy.deepcopy(cfg.model))


def embed_dims(cfg: Config) -> int:
    return build(cfg).memory.embed_dims


@cache
def parameters_of(network: Network) -> int:
    return sum(parameter.numel() for parameter in build(network.cfg).parameters())
