"""Reads and checks a benchmark's matrix, a YAML file::

    data: data/synthps-mini     # root of the data set
    synthesise: {size: mini, layout: cuhk-sysu, seed: 0, style: classic}   # optional: SynthPS, drawn if it is missing
    options: {train_cfg.max_epochs: 20}     # optional: overrides of every config
    teachers:
      OIM R50: {config: oim/oim_r50-fpn_20e_prw.py}     # relative to the folder of configs
      mine: {config: ..., options: {...}, checkpoint: FILE}   # with a checkpoint it is not trained; mmps://real comes with mmps
    students:
      OIM R18: {config: ..., options: {...}, teacher: OIM R50}    # a name or a list; default all teachers that are detectors
    methods:
      plain: {}
      GDPS: {distiller: gdps, seeds: 3}     # configs/_base_/distillers/gdps.py
      HKD, one head: {distiller: hkd-self, teacher: none}    # self-distillation
      DKD: {distiller: dkd, teacher: re-id on crops, options: {...}}    # instead of the students' own teachers
      Munjal: {lookup_table: true}      # the student's lookup table is the teacher's
      plain, twice: {schedule: 2}       # two times as many epochs
      PKD: {distiller: pkd, tune: true} # its weights are multiplied by one of the factors below, chosen for each student
      MGD: {distiller: mgd, tune: OIM R18}      # the factor that is best for this student is taken for all
      CWD: {distiller: cwd, scale: {OIM R18: 3}}    # by this factor for this student; or scale: 3 for all
    seeds: 1    # optional: of the methods that do not say
    tune: [0.3, 1, 3]           # optional: factors of loss weights. One run each, with seed 0
    validation: 200             # optional: the first 200 queries choose between them. Scores are those of the other queries
    headline: [plain, GDPS]     # optional: bold in the tables
    predictions: true       # optional: each run keeps what it predicts, test/predictions.npz

A method's options override the config that its students are trained with, all others that of the network itself. Text in
options is read as on the command line: '(832, 480)' is a tuple, and 1e-4, which is text in YAML, a number. A matrix names and
overrides configs, which are Python: trust it like a config.
"""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import yaml
from mmengine.config import Config, DictAction

from mmps.fileio.arrays import one_line
from mmps.models.pretrained import RELEASED_SCHEME, released_file
from mmps.registry import did_you_mean

from .matrix import Matrix, Method, Network, folder_name, is_detector

NO_TEACHER = 'none'
Types = Mapping[str, tuple[type, ...]]
TYPE_NAMES = {str: 'text', int: 'a whole number', float: 'a number', bool: 'true or false', dict: 'a mapping', list: 'a list'}
MATRIX: Types = dict(
    data=(str,),
    synthesise=(dict,),
    options=(dict,),
    teachers=(dict,),
    students=(dict,),
    methods=(dict,),
    seeds=(int,),
    headline=(list,),
    predictions=(bool,),
    tune=(list,),
    validation=(int,),
)
SYNTHESISE: Types = dict(size=(str,), layout=(str,), seed=(int,), style=(str,))
TEACHER: Types = dict(config=(str,), options=(dict,), checkpoint=(str,))
STUDENT: Types = dict(config=(str,), options=(dict,), teacher=(str, list))
METHOD: Types = dict(
    distiller=(str,),
    lookup_table=(bool,),
    teacher=(str, list),
    options=(dict,),
    seeds=(int,),
    schedule=(int, float),
    scale=(int, float, dict),
    tune=(bool, str),
)


def read_matrix(path: Path, configs: Path, data_root: Path | None = None, options: Mapping | None = None) -> Matrix:
    """Reads and checks a matrix.

    Args:
        configs: The folder that the configs in it are relative to.
        data_root: Instead of the matrix's own.
        options: Overrides of every config, over the matrix's own.

    Raises:
        OSError: The file, or one that it names, cannot be read.
        ValueError: The file is not YAML, or a value in it is wrong: one line names the place and what was expected.
    """
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), UniqueKeys)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: bytes that are no text, a 13th month
        raise ValueError(f'{path}: not YAML: {one_line(error)}') from error
    check_fields(content, str(path), MATRIX, required=('data', 'students', 'methods'))
    for section in ('students', 'methods'):
        if not content[section]:
            refuse(f'{path}: {section}', 'expected one or more')
    data, synthesise = data_root or Path(content['data']), content.get('synthesise')
    if synthesise is not None:
        check_fields(synthesise, f'{path}: synthesise', SYNTHESISE, required=('size', 'layout'))
    elif not data.is_dir():
        raise FileNotFoundError(f'{data}: there is no such folder; {path} needs the data set there')

    def load_network(entry: dict, where: str) -> Config:
        """The config of a teacher or student, with all overrides."""
        config = configs / entry['config']
        if not config.is_file():
            known = [str(each.relative_to(configs)) for each in configs.rglob('*.py') if '_base_' not in each.parts]
            check_known(entry['config'], known, 'config', where)
        cfg = Config.fromfile(config)
        if not isinstance(cfg.get('model'), dict):
            refuse(where, f'{config} has no model')
        for split in ('train', 'val', 'test'):
            if f'{split}_dataloader' in cfg:
                dataset_with_root(cfg[f'{split}_dataloader'].dataset)['data_root'] = str(data)
        for overrides in (read_options(content, str(path)), read_options(entry, where), copy.deepcopy(options or {})):
            try:
                cfg.merge_from_dict(overrides)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                refuse(where, f'options that do not fit {config}: {error}')
        return cfg

    teachers: dict[str, Network] = {}
    for name, entry, where in entries_of(content, 'teachers', path, TEACHER, required=['config']):
        if name == NO_TEACHER:
            refuse(where, 'a teacher cannot have this name, it stands for no teacher')
        teachers[name] = Network(name, load_network(entry, where), checkpoint=find_checkpoint(entry, where))
    detectors = tuple(name for name, teacher in teachers.items() if is_detector(teacher.cfg))
    students = {}
    for name, entry, where in entries_of(content, 'students', path, STUDENT, required=['config']):
        names = read_teachers(entry, teachers, where)
        students[name] = Network(name, load_network(entry, where), detectors if names is None else names)
    methods = {}
    for name, entry, where in entries_of(content, 'methods', path, METHOD):
        methods[name] = read_method(name, {'seeds': content.get('seeds', 1), **entry}, configs, teachers, where)
        methods[name] = replace(
            methods[name],
            scales=read_scales(entry.get('scale', {}), students, where),
            tune=tuple(content.get('tune', ())) if entry.get('tune') else (),
            tune_on=entry['tune'] if isinstance(entry.get('tune'), str) else None,
        )
        if methods[name].tune_on is not None:
            check_known(methods[name].tune_on, students, 'student', where)
        if (methods[name].scales or entry.get('tune')) and methods[name].distil is None:
            refuse(where, 'scale and tune are for methods with a distiller')
        if entry.get('tune') and not (content.get('tune') and content.get('validation')):
            refuse(where, "tune needs the matrix's tune, a list of factors, and validation, a number of queries")
        for student in students.values():
            if not (methods[name].is_plain or methods[name].teachers is not None or student.teachers):
                refuse(where, f'needs a teacher, and {student.name!r} has none (teacher: {NO_TEACHER} for self-distillation)')
    headline = tuple(content.get('headline', ()))
    for name in headline:
        check_known(name, methods, 'method', f'{path}: headline')
    return Matrix(
        path.stem,
        data,
        synthesise,
        teachers,
        students,
        methods,
        headline,
        content.get('predictions', False),
        content.get('validation', 0),
    )


def read_method(name: str, entry: dict, configs: Path, teachers: Mapping[str, Network], where: str) -> Method:
    distil, hooks, names = None, (), read_teachers(entry, teachers, where)
    if 'distiller' in entry:
        folder = configs / '_base_' / 'distillers'
        check_known(entry['distiller'], [path.stem for path in folder.glob('*.py')], 'distiller', where)
        cfg = Config.fromfile(folder / f'{entry["distiller"]}.py')
        if 'distil' not in cfg:
            raise ValueError(f'{cfg.filename}: expected a dict named distil')
        distil, hooks = cfg.distil, tuple(cfg.get('custom_hooks', ()))
    if entry['seeds'] < 1:
        refuse(where, f'seeds: expected 1 or more, got {entry["seeds"]}')
    if entry.get('schedule', 1) <= 0:
        refuse(where, f'schedule: expected a factor above 0, got {entry["schedule"]}')
    method = Method(
        name,
        distil,
        hooks,
        entry.get('lookup_table', False),
        names,
        read_options(entry, where),
        entry['seeds'],
        entry.get('schedule', 1),
    )
    if method.is_plain and names:
        refuse(where, 'has a teacher, but neither a distiller nor lookup_table')
    if method.lookup_table and names == ():
        refuse(where, 'lookup_table needs a teacher')
    return method


def read_scales(scale: float | Mapping[str, float], students: Collection[str], where: str) -> dict[str, float]:
    """What ``scale`` says: a factor for all students, or one for each that it names."""
    if not isinstance(scale, Mapping):
        return dict.fromkeys(students, scale)
    for name, factor in scale.items():
        check_known(name, students, 'student', where)
        if type(factor) not in (int, float):
            refuse(where, f'scale: {name}: expected a number, got {factor!r}')
    return dict(scale)


def read_teachers(entry: dict, teachers: Collection[str], where: str) -> tuple[str, ...] | None:
    """What ``teacher`` says: a name, a list, 'none' (an empty tuple) or nothing at all (None)."""
    if 'teacher' not in entry:
        return None
    if entry['teacher'] == NO_TEACHER:
        return ()
    names = [entry['teacher']] if isinstance(entry['teacher'], str) else entry['teacher']
    for name in names:
        check_known(name, teachers, 'teacher', where)
    return tuple(dict.fromkeys(names))


def find_checkpoint(entry: Mapping[str, Any], where: str) -> Path | None:
    if 'checkpoint' not in entry:
        return None
    checkpoint = Path(entry['checkpoint'])
    if entry['checkpoint'].startswith(RELEASED_SCHEME):
        try:
            return released_file(entry['checkpoint'])
        except ValueError as error:
            refuse(where, str(error))
    if not checkpoint.is_file():
        raise FileNotFoundError(f'{where}: there is no checkpoint {checkpoint}')
    return checkpoint


def read_options(entry: dict, where: str) -> dict:
    """The overrides in ``options``; text is read as on the command line."""

    def parse(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: parse(each) for key, each in value.items()}
        if isinstance(value, list):
            return [parse(each) for each in value]
        return DictAction._parse_iterable(value) if isinstance(value, str) else value

    try:
        return parse(entry.get('options', {}))
    except AssertionError as error:  # brackets that do not match
        refuse(where, f'options: {error}')


def entries_of(
    content: dict, section: str, path: Path, types: Types, required: Sequence[str] = ()
) -> Iterator[tuple[str, dict, str]]:
    """The name, the fields and the place in the file of each entry in a section. Two names must not share a folder."""
    names: dict[str, str] = {}
    for name, entry in content.get(section, {}).items():
        if not isinstance(name, str) or not folder_name(name):
            refuse(f'{path}: {section}', f'expected names with letters or digits, got {name!r}')
        other = names.setdefault(folder_name(name), name)
        if other != name:
            refuse(f'{path}: {section}', f'{other!r} and {name!r} would share the folder {folder_name(name)}')
        where = f'{path}: {section}: {name}'
        check_fields(entry, where, types, required)
        yield name, entry, where


def check_fields(entry: Any, where: str, types: Types, required: Sequence[str] = ()) -> None:
    """Refuses anything but a mapping that has the required keys, no unknown ones, and values of the given types."""
    if not isinstance(entry, dict):
        refuse(where, f'expected a mapping{" with " if required else ""}{" and ".join(required)}, got {entry!r}')
    for key, value in entry.items():
        check_known(key, types, 'key', where)
        if type(value) not in types[key]:
            refuse(where, f'{key}: expected {" or ".join(TYPE_NAMES[each] for each in types[key])}, got {value!r}')
    for key in required:
        if key not in entry:
            refuse(where, f'{key} is missing')


def check_known(name: Any, known: Collection[str], kind: str, where: str) -> None:
    if name not in list(known):  # a list: a name that cannot be hashed is unknown too
        hint = did_you_mean(str(name), known) or f': there is {", ".join(known) or "none"}'
        refuse(where, f'there is no {kind} {name!r}{hint}')


def refuse(where: str, complaint: str) -> NoReturn:
    raise ValueError(f'{where}: {complaint}')


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would let the later one replace the earlier, and a row would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f'{key!r} is there twice', node.start_mark)
        return super().construct_mapping(node, deep)


def dataset_with_root(dataset: dict) -> dict:
    """The data set, or the one that it wraps, that has a root folder."""
    while 'data_root' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset
