"""Explains, in one line, an error that wrong input or a lack of memory caused.

Most such errors are raised inside MMEngine, MMDetection and PyTorch, which build what a config says. Where their message does
not say which value is wrong, it is looked up in the frames of the traceback.
"""

import inspect
import re
import traceback
from types import FrameType

from mmengine.config import Config
from mmengine.registry import Registry, build_from_cfg
from mmengine.runner import FlexibleRunner, Runner
from mmengine.utils import import_modules_from_strings

import mmps.registry
from mmps.compat.operators import MissingOperator

# Wrong input raises these: a missing or unreadable file, a value that does not fit, a loss that is not finite, an operator that
# needs compiled MMCV.
EXPECTED = (OSError, ValueError, FloatingPointError, MissingOperator)


def explain(error: Exception) -> str | None:
    """Returns the line, or None for a bug: an error that the user did not cause."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, OSError) and error.filename:
        return one_line(error)
    expected = one_line(error) if isinstance(error, EXPECTED) else None
    return (
        unreadable_config(error, frames)
        or unknown_type(error)
        or wrong_argument(error, frames)
        or wrong_value(error, frames)
        or killed_worker(error, frames)
        or expected
    )


def one_line(error: BaseException) -> str:
    """Returns the message without the registry's "class X in file:" and without a data worker's traceback."""
    if isinstance(error, OSError) and error.filename:
        return f'{error.filename}: {error.strerror}'
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = re.sub(r'^[\w.]*(Error|Exception): ', '', lines[-1]) if 'Original Traceback' in str(error) else ' '.join(lines)
    return re.sub(r'^(class `\w+` in \S+: )+', '', line)


def unreadable_config(error: Exception, frames: list[FrameType]) -> str | None:
    """Explains any error while a config file is read: names the file, the line and the reason."""
    paths = [
        str(frame.f_locals['filename'])
        for frame in frames
        if frame.f_globals.get('__name__') == Config.__module__ and 'filename' in frame.f_locals
    ]
    importing = any(frame.f_code is import_modules_from_strings.__code__ for frame in frames)
    if not paths or (importing and not isinstance(error, ImportError)):  # the second: a bug in a module of custom_imports
        return None
    path = paths[-1]
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    reason = error.msg if isinstance(error, SyntaxError) else one_line(error)
    return f'{path}{f", line {line}" if line else ""}: expected a config ({type(error).__name__}: {reason})'


def unknown_type(error: Exception) -> str | None:
    """Explains a type in a config that no registry knows: suggests similar names."""
    found = re.search(r'(\S+) is not in the (?:\S+::)?([\w ]+) registry', str(error)) if isinstance(error, KeyError) else None
    if found is None:
        return None
    name, kind = found[1].strip('\'"'), found[2]
    registry = next((each for each in vars(mmps.registry).values() if isinstance(each, Registry) and each.name == kind), None)
    known = set()
    while registry is not None:
        known |= registry.module_dict.keys()
        registry = registry.parent
    return f'there is no {kind} of type {name!r}{mmps.registry.did_you_mean(name, known)}'


def wrong_argument(error: Exception, frames: list[FrameType]) -> str | None:
    """Explains an argument in a config that its type does not have (suggests similar names), or one that is missing."""
    found = re.search(r"(\w+)\.__init__\(\) (?:got an unexpected keyword argument '(\w+)'|(missing .*))", str(error))
    callers = [frame for frame in frames if frame.f_code.co_name != '__init__']
    if not isinstance(error, TypeError) or found is None or not callers:
        return None
    name, unknown, missing = found.groups()
    caller = callers[-1]  # it called the class: if it is not MMEngine, with values of the config, then the error is a bug
    built = caller.f_locals.get('obj_cls') or caller.f_globals.get(name)
    if not caller.f_globals.get('__name__', '').startswith('mmengine.') or not inspect.isclass(built):
        return None
    if missing and name in {each.__name__ for each in built.__mro__}:
        return f'{built.__name__}: {missing}'
    if not any(isinstance(value, dict) and unknown in value for value in caller.f_locals.values()):
        return None
    inits = [vars(each)['__init__'] for each in built.__mro__ if '__init__' in vars(each)]
    known = {argument for init in inits for argument in inspect.signature(init).parameters}
    near = mmps.registry.did_you_mean(unknown, known - {'self', 'args', 'kwargs'})
    return f'{built.__name__} has no argument {unknown!r}{near}'


def wrong_value(error: Exception, frames: list[FrameType]) -> str | None:
    """Explains a value that its type cannot use, where the error does not name it: names the type and what it was given."""
    building = [frame for frame in frames if frame.f_code is build_from_cfg.__code__ and 'obj_cls' in frame.f_locals]
    is_ours = isinstance(error, ValueError) and frames[-1].f_globals.get('__name__', '').startswith('mmps')
    if not isinstance(error, TypeError | ValueError) or not building or is_ours:  # ours name the value themselves
        return None
    built, args = (building[-1].f_locals[name] for name in ('obj_cls', 'args'))
    if inspect.isclass(built) and issubclass(built, Runner | FlexibleRunner):  # it was given the whole config: a bug
        return None
    given = ', '.join(f'{name}={value!r}' for name, value in args.items() if isinstance(value, str | int | float | None))
    return f'{built.__name__} cannot be built with {given or "its arguments"}: {one_line(error)} (MMPS_TRACEBACK=1 shows where)'


def killed_worker(error: Exception, frames: list[FrameType]) -> str | None:
    """Explains the sudden death of a data worker: PyTorch notices that it is gone, or cannot read what it sent."""
    found = re.search(r'DataLoader worker \(pid.*?\) (?:is killed by signal: (\w[\w ]*\w)|exited unexpectedly)', str(error))
    cut = isinstance(error, OSError | EOFError) and any(frame.f_code.co_name == '_try_get_data' for frame in frames)
    if found is None and not cut:
        return None
    how = f' (signal: {found[1]})' if found and found[1] else ''
    return (
        f'a data worker was killed{how}: out of memory, or of shared memory? Fewer workers (num_workers of the dataloader) '
        'need less'
    )
