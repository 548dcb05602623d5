"""The benchmark's matrix: which students, under which methods, with which teachers and seeds; and the config of each run."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat

from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmps.models  # noqa: F401 (fills the registries)
from mmps.registry import MODELS


@dataclass(frozen=True, eq=False)
class Network:
    """A teacher or a student.

    Attributes:
        cfg: Its config, led to the data, with all options.
        teachers: Names of a student's teachers.
        checkpoint: A teacher's, if it need not be trained.
    """

    name: str
    cfg: Config
    teachers: tuple[str, ...] = ()
    checkpoint: Path | None = None


@dataclass(frozen=True, eq=False)
class Method:
    """A way to train a student.

    Attributes:
        distil: Arguments of ``PersonSearchDistill``; None for a method without a distiller.
        hooks: What is added to ``custom_hooks``.
        lookup_table: Whether the student's lookup table is the teacher's.
        teachers: Names of the teachers; None for the student's own.
        options: Overrides of the config that it is trained with.
        seeds: It is run with 0, 1, ..., seeds - 1.
    """

    name: str
    distil: Mapping | None
    hooks: tuple[Mapping, ...]
    lookup_table: bool
    teachers: tuple[str, ...] | None
    options: Mapping
    seeds: int

    @property
    def is_plain(self) -> bool:
        """Whether it has nothing to do with a teacher."""
        return self.distil is None and not self.lookup_table


@dataclass(frozen=True)
class Matrix:
    """What is run: every method on every student.

    Attributes:
        synthesise: Arguments of ``mmps.synthetic.generate`` if the data is to be drawn.
        headline: Methods that the tables show in bold.
        predictions: Whether what each run predicts in its test is kept.
    """

    name: str
    data: Path
    synthesise: Mapping | None
    teachers: Mapping[str, Network]
    students: Mapping[str, Network]
    methods: Mapping[str, Method]
    headline: tuple[str, ...]
    predictions: bool = False

    def teachers_of(self, student: Network, method: Method) -> list[Network | None]:
        """With each of them the student is trained; [None] where the method has none."""
        if method.is_plain:
            return [None]
        names = student.teachers if method.teachers is None else method.teachers
        return [self.teachers[name] for name in names] or [None]

    @property
    def reference(self) -> str | None:
        """The method that gains are over: the first that is just the student's own training."""
        return next((name for name, method in self.methods.items() if method.is_plain and not method.options), None)


def compose(
    student: Network,
    method: Method,
    teacher: Network | None,
    teacher_checkpoint: Path | None,
    lookup_table: Path | None,
    seed: int,
) -> Config:
    """The config that the student is trained with."""
    cfg = copy.deepcopy(student.cfg)
    cfg.merge_from_dict({'randomness.seed': seed})
    if method.distil is not None:
        of_teacher = (
            {} if teacher is None else dict(teacher=copy.deepcopy(teacher.cfg.model), teacher_ckpt=str(teacher_checkpoint))
        )
        cfg.model = {'type': 'PersonSearchDistill', 'architecture': cfg.model, **of_teacher, **copy.deepcopy(method.distil)}
    hooks: Sequence = [*cfg.get('custom_hooks', []), *copy.deepcopy(method.hooks)]
    if lookup_table:
        hooks = [*hooks, dict(type='LookupTableHook', path=str(lookup_table))]
    if hooks:
        cfg.custom_hooks = list(hooks)
    cfg.merge_from_dict(copy.deepcopy(method.options))
    return cfg


def config_text(cfg: Config) -> str:
    """The config as a Python file. (MMEngine's own text is the prettier one, but takes seconds for two networks.)"""
    return ''.join(f'{key} = {pformat(value, width=128, sort_dicts=False)}\n' for key, value in cfg.to_dict().items())


def folder_name(name: str) -> str:
    """'OIM R18 x 1/8' -> 'oim-r18-x-1-8'."""
    return re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')


def is_detector(cfg: Config) -> bool:
    """Whether the model finds persons: a re-id network on crops does not."""
    with DefaultScope.overwrite_default_scope('mmps'):
        return getattr(MODELS.get(cfg.model.type), 'refine_boxes', None) is not None
