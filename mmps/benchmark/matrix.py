"""The benchmark's matrix: its students, methods, teachers and seeds; and the config of each run."""

import copy
import re
from collections.abc import Mapping
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
        cfg: Its config, with the data root and all options.
        teachers: Names of a student's teachers.
        checkpoint: A teacher's checkpoint; with one it is not trained.
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
        hooks: Hooks that are added to ``custom_hooks``.
        lookup_table: Whether the student's lookup table is the teacher's.
        teachers: Names of the teachers; None for the student's own.
        options: Overrides of the training config.
        seeds: Number of seeds: 0, 1, ..., seeds - 1.
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
        """Whether it uses neither a distiller nor a teacher's lookup table."""
        return self.distil is None and not self.lookup_table


@dataclass(frozen=True)
class Matrix:
    """Every method on every student.

    Attributes:
        data: Root folder of the data set.
        synthesise: Arguments of ``mmps.synthetic.generate`` if the data is to be drawn.
        headline: Methods that the tables show in bold.
        predictions: Whether each run keeps the predictions of its test.
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
        """Returns the teachers that the student is trained with, one run each; [None] where the method has no teacher."""
        if method.is_plain:
            return [None]
        names = student.teachers if method.teachers is None else method.teachers
        return [self.teachers[name] for name in names] or [None]

    @property
    def reference(self) -> str | None:
        """The method that gains are measured against: the first plain one without options."""
        return next((name for name, method in self.methods.items() if method.is_plain and not method.options), None)


def compose(
    student: Network,
    method: Method,
    teacher: Network | None,
    teacher_checkpoint: Path | None,
    lookup_table: Path | None,
    seed: int,
) -> Config:
    """Returns the config that the student is trained with."""
    cfg = copy.deepcopy(student.cfg)
    cfg.merge_from_dict({'randomness.seed': seed})
    if method.distil is not None:
        cfg.model = {'type': 'PersonSearchDistill', 'architecture': cfg.model}
        if teacher is not None:
            cfg.model.update(teacher=copy.deepcopy(teacher.cfg.model), teacher_ckpt=str(teacher_checkpoint))
        cfg.model.update(copy.deepcopy(method.distil))
    hooks = [*cfg.get('custom_hooks', []), *copy.deepcopy(method.hooks)]
    if lookup_table:
        hooks.append(dict(type='LookupTableHook', path=str(lookup_table)))
    if hooks:
        cfg.custom_hooks = hooks
    cfg.merge_from_dict(copy.deepcopy(method.options))
    return cfg


def config_as_python(cfg: Config) -> str:
    """Returns the config as a Python file. (MMEngine's ``pretty_text`` takes seconds for two networks.)"""
    return ''.join(f'{key} = {pformat(value, width=128, sort_dicts=False)}\n' for key, value in cfg.to_dict().items())


def folder_name(name: str) -> str:
    """Turns a name into that of a folder: 'OIM R18 x 1/8' -> 'oim-r18-x-1-8'."""
    return re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')


def is_detector(cfg: Config) -> bool:
    """Tells whether the model finds persons: a re-id network on crops does not."""
    with DefaultScope.overwrite_default_scope('mmps'):
        return getattr(MODELS.get(cfg.model.type), 'dense_head', None) is not None
