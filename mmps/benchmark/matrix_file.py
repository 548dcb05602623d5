"""Reads and checks a benchmark's matrix, a YAML file::

    data: data/synthps-mini     # root of the data set
    synthesise: {size: mini, layout: cuhk-sysu, seed: 0}    # optional: the data is SynthPS, and drawn if it is missing
    options: {train_cfg.max_epochs: 20}     # optional: overrides of every config
    teachers:
      OIM R50: {config: oim/oim_r50-fpn_20e_prw.py}     # relative to the folder of configs
      mine: {config: ..., options: {...}, checkpoint: FILE}   # with a checkpoint it is not trained
    students:
      OIM R18: {config: ..., options: {...}, teacher: OIM R50}    # a name or a list; default all teachers that are detectors
    methods:
      plain: {}
      GDPS: {distiller: gdps, seeds: 3}     # configs/_base_/distillers/gdps.py
      HKD: {distiller: hkd, teacher: none}      # self-distillation
      DKD: {distiller: dkd, teacher: re-id on crops, options: {...}}    # instead of the students' own teachers
      Munjal: {lookup_table: true}      # the student's lookup table is the teacher's
    seeds: 1    # optional: of the methods that do not say
    headline: [plain, GDPS]     # optional: bold in the tables
    predictions: true       # optional: each run keeps what it predicts, test/predictions.npz

A method's options override the config that its students are trained with, all others that of the network itself. Text in
options is read as on the command line: '(832, 480)' is a tuple, and 1e-4, which is text in YAML, a number. The YAML itself is
read as data, but it names and overrides configs, which are Python: a matrix is to be trusted like a config.
"""

import argparse
import copy
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import yaml
from mmengine.config import Config, DictAction

from mmps.fileio.arrays import one_line
from mmps.registry import did_you_mean

from .matrix import Matrix, Method, Network, folder_name, is_detector

NO_TEACHER = 'none'
MAX_BYTES = 100_000  # of a file, and entries in it: a shipped matrix has 3,000 bytes
KINDS = {str: 'text', int: 'a whole number', bool: 'true or false', dict: 'a mapping', list: 'a list'}


def read_matrix(path: Path, configs: Path, data_root: Path | None = None, options: Mapping | None = None) -> Matrix:
    """Reads and checks a matrix.

    Args:
        configs: The folder that the configs in it are relative to.
        data_root: Instead of the matrix's own.
        options: Overrides of every config, over the matrix's own.

    Raises:
        OSError: The file, or one that it names, cannot be read.
        ValueError: It is no YAML, or says what cannot be.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f'more than {MAX_BYTES} bytes')
        content = yaml.load(path.read_text(encoding='utf-8'), UniqueKeys)
        if _entries(content, {}) > MAX_BYTES:
            raise ValueError('its aliases stand for more than the file has room for')
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError: bytes that are no text, a 13th month
        raise ValueError(f'{path}: not YAML of a matrix: {one_line(error)}') from None
    return MatrixReader(path, configs, data_root, options or {}).read(content)


def _entries(content, counted: dict[int, float]) -> float:
    """How many there are with aliases written out; infinite where one holds itself. Raises ValueError for another type."""
    if not isinstance(content, dict | list):
        if not isinstance(content, str | int | float | None):
            raise ValueError(f'expected text, numbers, mappings and lists, got {content!r}')
        return 1
    if id(content) not in counted:
        counted[id(content)] = math.inf
        counted[id(content)] = 1 + sum(
            _entries(each, counted) for each in (content.values() if isinstance(content, dict) else content)
        )
    return counted[id(content)]


class UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one of the same name: a row would be lost without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f'{key!r} is there twice', node.start_mark)
        return super().construct_mapping(node, deep)


class MatrixReader:
    """Turns what is in the file into a :class:`Matrix`; ``where`` is the place in it that complaints name."""

    def __init__(self, path: Path, configs: Path, data_root: Path | None, options: Mapping):
        self.path, self.configs, self.data, self.overrides = path, configs, data_root, options
        self.options: dict = {}
        self.teachers: dict[str, Network] = {}

    def read(self, content) -> Matrix:
        self.check_fields(
            content,
            '',
            dict(
                data=str,
                synthesise=dict,
                options=dict,
                teachers=dict,
                students=dict,
                methods=dict,
                seeds=int,
                headline=list,
                predictions=bool,
            ),
            required=('data', 'students', 'methods'),
        )
        self.data = self.data or Path(content['data'])
        self.options = self.overrides_in(content, '')
        for section in ('teachers', 'students', 'methods'):
            self.check_names(content.get(section, {}), section)
        self.teachers = {name: self.teacher(name, entry) for name, entry in content.get('teachers', {}).items()}
        students = {name: self.student(name, entry) for name, entry in content['students'].items()}
        methods = {name: self.method(name, entry, content.get('seeds', 1)) for name, entry in content['methods'].items()}
        headline = content.get('headline', [])
        for name in headline:
            self.check_known(name, methods, 'method', 'headline')
        synthesise = content.get('synthesise')
        if synthesise is not None:
            self.check_fields(synthesise, 'synthesise', dict(size=str, layout=str, seed=int), required=['size', 'layout'])
        elif not self.data.is_dir():
            raise FileNotFoundError(f'{self.data}: there is no such folder; {self.path} needs the data set there')
        for method in methods.values():
            for student in students.values():
                if not (method.is_plain or method.teachers is not None or student.teachers):
                    self.refuse(
                        f'methods: {method.name}',
                        f'needs a teacher, and {student.name!r} has none (teacher: {NO_TEACHER} for self-distillation)',
                    )
        return Matrix(
            self.path.stem,
            self.data,
            synthesise,
            self.teachers,
            students,
            methods,
            tuple(headline),
            content.get('predictions', False),
        )

    def teacher(self, name: str, entry) -> Network:
        where = f'teachers: {name}'
        if name == NO_TEACHER:
            self.refuse(where, 'a teacher cannot have this name, it stands for no teacher')
        self.check_fields(entry, where, dict(config=str, options=dict, checkpoint=str), required=['config'])
        checkpoint = Path(entry['checkpoint']) if 'checkpoint' in entry else None
        if checkpoint and not checkpoint.is_file():
            raise FileNotFoundError(f'{self.path}: {where}: there is no checkpoint {checkpoint}')
        return Network(name, self.network(entry, where), checkpoint=checkpoint)

    def student(self, name: str, entry) -> Network:
        where = f'students: {name}'
        self.check_fields(entry, where, dict(config=str, options=dict, teacher=(str, list)), required=['config'])
        teachers = self.named_teachers(entry, where)
        if teachers is None:
            teachers = tuple(each.name for each in self.teachers.values() if is_detector(each.cfg))
        return Network(name, self.network(entry, where), teachers)

    def method(self, name: str, entry, seeds: int) -> Method:
        where = f'methods: {name}'
        self.check_fields(entry, where, dict(distiller=str, lookup_table=bool, teacher=(str, list), options=dict, seeds=int))
        seeds = entry.get('seeds', seeds)
        if seeds < 1:
            self.refuse(where, f'seeds: expected 1 or more, got {seeds}')
        distil, hooks = self.distiller(entry['distiller'], where) if 'distiller' in entry else (None, ())
        method = Method(
            name,
            distil,
            hooks,
            entry.get('lookup_table', False),
            self.named_teachers(entry, where),
            self.overrides_in(entry, where),
            seeds,
        )
        if method.is_plain and method.teachers:
            self.refuse(where, 'has a teacher, but neither a distiller nor lookup_table')
        if method.lookup_table and method.teachers == ():
            self.refuse(where, 'lookup_table needs a teacher')
        return method

    def named_teachers(self, entry: dict, where: str) -> tuple[str, ...] | None:
        """What ``teacher`` says: a name, a list, 'none' (an empty tuple) or nothing at all (None)."""
        if 'teacher' not in entry:
            return None
        if entry['teacher'] == NO_TEACHER:
            return ()
        names = [entry['teacher']] if isinstance(entry['teacher'], str) else entry['teacher']
        for name in names:
            self.check_known(name, self.teachers, 'teacher', where)
        return tuple(dict.fromkeys(names))

    def network(self, entry: dict, where: str) -> Config:
        """The config of a teacher or student, with all overrides."""
        path = self.configs / entry['config']
        if not path.is_file():
            known = [str(each.relative_to(self.configs)) for each in self.configs.rglob('*.py') if '_base_' not in each.parts]
            self.check_known(entry['config'], known, 'config', where)
        cfg = Config.fromfile(path)
        for split in ('train', 'val', 'test'):
            if f'{split}_dataloader' in cfg:
                rooted(cfg[f'{split}_dataloader'].dataset).data_root = str(self.data)
        for options in (self.options, self.overrides_in(entry, where), self.overrides):
            try:
                cfg.merge_from_dict(copy.deepcopy(options))  # what is merged is used up
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                self.refuse(where, f'options that do not fit {path}: {error}')
        if not isinstance(cfg.get('model'), dict) or not isinstance(cfg.model.get('type'), str):
            self.refuse(where, f'{path} has no model with a type')
        return cfg

    def overrides_in(self, entry: dict, where: str) -> dict:
        try:
            return as_options(entry.get('options', {}))
        except (AssertionError, RecursionError, ValueError) as error:  # the first: brackets that do not match
            self.refuse(where, f'options: {error}')

    def distiller(self, name: str, where: str) -> tuple[Mapping, tuple[Mapping, ...]]:
        """A distiller's arguments of ``PersonSearchDistill``, and its hooks."""
        folder = self.configs / '_base_' / 'distillers'
        self.check_known(name, [path.stem for path in folder.glob('*.py')], 'distiller', where)
        cfg = Config.fromfile(folder / f'{name}.py')
        if 'distil' not in cfg:
            raise ValueError(f'{folder / name}.py: expected a dict named distil')
        return cfg.distil, tuple(cfg.get('custom_hooks', ()))

    def check_fields(self, entry, where: str, known: Mapping[str, type | tuple], required: Iterable[str] = ()) -> None:
        """Refuses what is not a mapping of these keys to values of these types."""
        if not isinstance(entry, dict):
            self.refuse(where, f'expected a mapping{" with " if required else ""}{" and ".join(required)}, got {entry!r}')
        for key, value in entry.items():
            self.check_known(key, known, 'key', where)
            types = known[key] if isinstance(known[key], tuple) else (known[key],)
            if type(value) not in types:
                self.refuse(where, f'{key}: expected {" or ".join(KINDS[each] for each in types)}, got {value!r}')
        for key in required:
            if key not in entry:
                self.refuse(where, f'{key} is missing')

    def check_known(self, name, known: Collection[str], what: str, where: str) -> None:
        if name not in list(known):
            names = [str(each) for each in known]
            self.refuse(
                where,
                f'there is no {what} {name!r}{did_you_mean(str(name), names) or ": there is " + (", ".join(names) or "none")}',
            )

    def check_names(self, section: Mapping, where: str) -> None:
        """Refuses names that cannot be told apart as folders, and a section without any."""
        if not section and where != 'teachers':
            self.refuse(where, 'expected one or more')
        names: dict[str, str] = {}
        for name in section:
            if not isinstance(name, str) or not folder_name(name):
                self.refuse(where, f'expected names with letters or digits, got {name!r}')
            other = names.setdefault(folder_name(name), name)
            if other != name:
                self.refuse(where, f'{other!r} and {name!r} would share the folder {folder_name(name)}')

    def refuse(self, where: str, complaint: str) -> None:
        raise ValueError(one_line(': '.join(filter(None, (str(self.path), where, complaint)))))


def as_options(value):
    """Overrides as the command line would have them."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f'expected keys of text, got {key!r}')
        return {key: as_options(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_options(each) for each in value]
    if not isinstance(value, str):
        return value
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', action=DictAction, nargs=1)
    return parser.parse_args(['--options', f'value={value}']).options['value']


def rooted(dataset: dict) -> dict:
    """The data set, or the one that it wraps, that has a root folder."""
    while 'data_root' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset
