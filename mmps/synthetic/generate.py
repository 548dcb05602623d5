"""Makes a data set on disk: all of it or nothing."""

import json
import multiprocessing
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import cv2
from tqdm import tqdm

from .layouts import image_path, write_annotations
from .plan import plan as make_plan
from .scene import Studio, encode, render_scene
from .size import get_size

# Raised whenever the same seed would give other bytes.
VERSION = 1
MANIFEST = 'synthps.json'
_worker = {}


class OutputInUse(FileExistsError):
    """The output folder holds something else."""


def generate(out, layout, size, seed=0, workers=1, progress=True):
    """Draw a data set.

    The same arguments give the same bytes, in however many processes. It is drawn beside `out` and takes its name when
    it is complete, so `out` never holds half a data set.

    Args:
        out (str or Path): The data set's folder: not there, empty, or holding this very data set already.
        layout (str): 'cuhk-sysu' or 'prw'.
        size (str or Size): A name of `SIZES`, or your own.
        seed (int): Not negative.
        workers (int): Processes that draw.
        progress (bool): Show a progress bar.

    Returns:
        bool: Whether it was drawn: False if `out` held it already.

    Raises:
        OutputInUse: If `out` holds something else, which is left as it is.
        ValueError: If an argument is not one of the above.
    """
    if workers < 1:
        raise ValueError(f'workers must be 1 or more, got {workers}')
    out = Path(out).expanduser().resolve()
    size = get_size(size)
    manifest = dict(name='SynthPS', version=VERSION, layout=layout, seed=seed, size=asdict(size))
    if _holds(out, manifest):
        return False
    planned = make_plan(layout, size, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', suffix='.partial', dir=out.parent))
    try:
        # A folder within: that of tempfile is closed to other users.
        partial = scratch / out.name
        partial.mkdir()
        _draw(planned, partial, workers, progress)
        write_annotations(planned, partial)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + '\n')
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        try:
            partial.rename(out)
        except OSError:
            # Another process may have made the same data set meanwhile.
            if _holds(out, manifest):
                return False
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _holds(out, manifest):
    """Whether the folder holds this data set; False if there is nothing yet, an error if there is something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / MANIFEST).read_text())
    except (OSError, ValueError):
        raise OutputInUse(f'{out} exists and is no SynthPS data set: not overwritten') from None
    if found != json.loads(json.dumps(manifest)):
        raise OutputInUse(
            f'{out} holds another SynthPS data set ({_describe(found)}), not {_describe(manifest)}: '
            'not overwritten; remove it to have it drawn anew'
        )
    return True


def _describe(manifest):
    size = manifest.get('size')
    name = size.get('name') if isinstance(size, dict) else size
    queries = f' with {size["queries"]} queries' if isinstance(size, dict) and 'queries' in size else ''
    return f'{manifest.get("layout")} {name}{queries}, seed {manifest.get("seed")}, version {manifest.get("version")}'


def _draw(planned, out, workers, progress):
    tasks = [(scene, out / image_path(planned.layout, scene.name)) for scene in planned.scenes]
    tasks[0][1].parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(tasks), desc='SynthPS', unit='scene', disable=not progress)
    # One thread each: the workers are the parallelism, and OpenCV's threads would not survive a fork.
    with bar, _one_thread():
        if workers == 1:
            _start(planned.size, planned.seed)
            for task in tasks:
                _draw_task(task)
                bar.update()
            return
        context = multiprocessing.get_context('fork' if sys.platform == 'linux' else 'spawn')
        pool = ProcessPoolExecutor(workers, context, _start, (planned.size, planned.seed))
        try:
            for _ in pool.map(_draw_task, tasks, chunksize=max(1, min(32, len(tasks) // workers))):
                bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _start(size, seed):
    cv2.setNumThreads(1)
    _worker['studio'] = Studio(size, seed)


def _draw_task(task):
    scene, path = task
    studio = _worker['studio']
    path.write_bytes(encode(render_scene(scene, studio), studio.get(scene.camera)[0]))
