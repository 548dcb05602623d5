"""The benchmark's matrix: its students, methods, teachers and seeds; and the config of each run."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
        schedule: Factor of the length of the training.
        scales: Factor of all its distillation losses by student; 1 for a student that is not named.
        tune: Factors to choose from for a student that ``scales`` does not name; empty for none.
        tune_on: The student whose runs choose for all of them; None if each chooses for itself.
    """

    name: str
    distil: Mapping | None
    hooks: tuple[Mapping, ...]
    lookup_table: bool
    teachers: tuple[str, ...] | None
    options: Mapping
    seeds: int
    schedule: float = 1
    scales: Mapping[str, float] = field(default_factory=dict)
    tune: tuple[float, ...] = ()
    tune_on: str | None = None

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
        validation: How many queries, the first, choose between ``tune``. Scores are those of the others.
    """

    name: str
    data: Path
    synthesise: Mapping | None
    teachers: Mapping[str, Network]
    students: Mapping[str, Network]
    methods: Mapping[str, Method]
    headline: tuple[str, ...]
    predictions: bool = False
    validation: int = 0

    def teachers_of(self, student: Network, method: Method) -> list[Network | None]:
        """Returns the teachers that the student is trained with, one run each; [None] where the method has no teacher."""
        if method.is_plain:
            return [None]
        names = student.teachers if method.teachers is None else method.teachers
        return [self.teachers[name] for name in names] or [None]

    @property
    def reference(self) -> str | None:
        """The method that gains are measured against: the first plain one without options or another schedule."""
        plain = (name for name, each in self.methods.items() if each.is_plain and not each.options and each.schedule == 1)
        return next(plain, None)


def compose(
    student: Network,
    method: Method,
    teacher: Network | None,
    teacher_checkpoint: Path | None,
    lookup_table: Path | None,
    seed: int,
    scale: float = 1,
) -> Config:
    """Returns the config that the student is trained with."""
    cfg = copy.deepcopy(student.cfg)
    cfg.merge_from_dict({'randomness.seed': seed})
    if method.distil is not None:
        cfg.model = {'type': 'PersonSearchDistill', 'architecture': cfg.model}
        if teacher is not None:
            cfg.model.update(teacher=copy.deepcopy(teacher.cfg.model), teacher_ckpt=str(teacher_checkpoint))
        cfg.model.update(copy.deepcopy(method.distil))
        if scale != 1:
            cfg.model.distiller['scale'] = scale
    hooks = [*cfg.get('custom_hooks', []), *copy.deepcopy(method.hooks)]
    if lookup_table:
        hooks.append(dict(type='LookupTableHook', path=str(lookup_table)))
    if hooks:
        cfg.custom_hooks = hooks
    cfg.merge_from_dict(copy.deepcopy(method.options))
    if method.schedule != 1:
        stretch(cfg, method.schedule)
    return cfg


def stretch(cfg: Config, factor: float) -> None:
    """Makes a training longer by a factor, in place: its loop, and the parameter schedulers that count in the loop's unit."""
    by_epoch = 'max_epochs' in cfg.train_cfg
    places: list[tuple[dict, tuple[str, ...]]] = [(cfg.train_cfg, ('max_epochs', 'max_iters', 'val_interval'))]
    places += [
        (scheduler, ('begin', 'end', 'T_max', 'milestones'))
        for scheduler in cfg.get('param_scheduler', [])
        if scheduler.get('by_epoch', True) == by_epoch
    ]
    for place, names in places:
        for name in names:
            if isinstance(place.get(name), list):
                place[name] = [round(each * factor) for each in place[name]]
            elif name in place:
                place[name] = round(place[name] * factor)


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
