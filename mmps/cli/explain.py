"""What a user is told, in one line, of an error that wrong input, or a lack of memory, caused."""

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

# What wrong input raises: a file that is missing or unreadable, a value that does not fit, a loss that is not finite, an
# operator that needs compiled MMCV.
EXPECTED = (OSError, ValueError, FloatingPointError, MissingOperator)


def explain(error: Exception) -> str | None:
    """The line; None for an error that is none of the user's: a bug."""
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
    """The message without what others put around it: the registry's "class X in file:", a data worker's traceback."""
    if isinstance(error, OSError) and error.filename:
        return f'{error.filename}: {error.strerror}'
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = re.sub(r'^[\w.]*(Error|Exception): ', '', lines[-1]) if 'Original Traceback' in str(error) else ' '.join(lines)
    return re.sub(r'^(class `\w+` in \S+: )+', '', line)


def unreadable_config(error: Exception, frames: list[FrameType]) -> str | None:
    """Of whatever went wrong while a config file was read."""
    reading = [
        frame for frame in frames if frame.f_globals.get('__name__') == Config.__module__ and 'filename' in frame.f_locals
    ]
    importing = any(frame.f_code is import_modules_from_strings.__code__ for frame in frames)
    if not reading or (importing and not isinstance(error, ImportError)):  # the second: a bug in a module of custom_imports
        return None
    path = str(reading[-1].f_locals['filename'])
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    reason = error.msg if isinstance(error, SyntaxError) else one_line(error)
    return f'{path}{f", line {line}" if line else ""}: expected a config ({type(error).__name__}: {reason})'


def unknown_type(error: Exception) -> str | None:
    """Of a config's type that no registry knows: names that are like it."""
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
    """Of a config's argument that its type does not have: names that are like it. Of one that is left out: its name."""
    found = re.search(r"(\w+)\.__init__\(\) (?:got an unexpected keyword argument '(\w+)'|(missing .*))", str(error))
    outer = [frame for frame in frames if frame.f_code.co_name != '__init__']
    if not isinstance(error, TypeError) or found is None or not outer:
        return None
    name, unknown, missing = found.groups()
    caller = outer[-1]  # what called the class that is built: MMEngine, with the config's values, or else it is a bug
    given = [value for value in caller.f_locals.values() if isinstance(value, dict) and unknown in value]
    built = caller.f_locals.get('obj_cls') or caller.f_globals.get(name)
    if not caller.f_globals.get('__name__', '').startswith('mmengine.') or not inspect.isclass(built):
        return None
    if missing and name in {each.__name__ for each in built.__mro__}:
        return f'{built.__name__}: {missing}'
    if not given:
        return None
    known = {argument for each in built.__mro__ for argument in inspect.signature(each.__init__).parameters}
    near = mmps.registry.did_you_mean(unknown, known - {'self', 'args', 'kwargs'})
    return f'{built.__name__} has no argument {unknown!r}{near}'


def wrong_value(error: Exception, frames: list[FrameType]) -> str | None:
    """Of a value that cannot be what a type needs, where the error does not name it: the type, and what it was given."""
    building = [frame for frame in frames if frame.f_code is build_from_cfg.__code__ and 'obj_cls' in frame.f_locals]
    said = isinstance(error, ValueError) and frames[-1].f_globals.get('__name__', '').startswith('mmps')
    if not isinstance(error, TypeError | ValueError) or not building or said:
        return None
    built, args = (building[-1].f_locals[name] for name in ('obj_cls', 'args'))
    if inspect.isclass(built) and issubclass(built, Runner | FlexibleRunner):  # it was given the whole config: a bug
        return None
    given = ', '.join(f'{name}={value!r}' for name, value in args.items() if isinstance(value, str | int | float | None))
    return f'{built.__name__} cannot be built with {given or "its arguments"}: {one_line(error)} (MMPS_TRACEBACK=1 shows where)'


def killed_worker(error: Exception, frames: list[FrameType]) -> str | None:
    """Of a data worker that did not end by itself: PyTorch notices that it is gone, or what it sent can no longer be had."""
    found = re.search(r'DataLoader worker \(pid.*?\) (?:is killed by signal: (\w[\w ]*\w)|exited unexpectedly)', str(error))
    cut = isinstance(error, OSError | EOFError) and any(frame.f_code.co_name == '_try_get_data' for frame in frames)
    if found is None and not cut:
        return None
    how = f' (signal: {found[1]})' if found and found[1] else ''
    return (
        f'a data worker was killed{how}: out of memory, or of shared memory? Fewer workers (num_workers of the dataloader) '
        'need less'
    )
