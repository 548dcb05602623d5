"""A run of a benchmark: its configs, folder and result."""

import copy
import hashlib
import json
import subprocess
from collections.abc import Mapping
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
from .matrix import Matrix, Method, Network, config_as_python
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
        """Returns the arrays of ``query_file`` for all queries, those of the validation first."""
        with open_npz(self.query_file) as arrays:
            return {name: read_array(arrays, name) for name in arrays.files}

    @property
    def is_tested(self) -> bool:
        kept = [self.query_file, *([self.predictions] if self.keeps_predictions else [])]
        return super().is_tested and all(path.is_file() for path in kept)

    def search_scores(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Returns mAP, that of the full set and top-1 of the test queries, and mAP of those of the validation, in 0..1."""
        if not self.validation:
            names = {'mAP': 'mAP', 'full_set_mAP': 'full_set_mAP', 'top_1': 'top-1'}
            return {name: scores.get(f'search/{key}') for name, key in names.items()}
        queries = self.queries()
        ap, first_ranks = queries['ap'], queries['first_ranks'][self.validation :]
        full_set = queries.get('full_set_ap')
        return {
            'full_set_mAP': None if full_set is None else float(full_set[self.validation :].mean()),
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
