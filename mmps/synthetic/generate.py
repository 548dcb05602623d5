"""Draws a data set into a folder, completely or not at all."""

import json
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from .layouts import image_path, write_annotations
from .plan import Plan, Scene
from .plan import plan as make_plan
from .scene import Studio, render_jpeg
from .size import Size, get_size
from .styles import get_style

MANIFEST = 'synthps.json'
_worker: dict[str, Studio] = {}  # what a process keeps from task to task


class OutputInUse(FileExistsError):
    """The output folder holds something else."""


def generate(
    out: str | Path,
    layout: str,
    size: str | Size,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
    style: str = 'varied',
) -> bool:
    """Draws a data set. The same arguments give the same bytes, with any number of workers.

    The data set is drawn in a temporary folder beside `out`, which is renamed to `out` when the data set is complete.

    Args:
        out: The data set's folder. It must not exist, be empty, or hold this same data set.
        layout: 'cuhk-sysu' or 'prw'.
        size: A name in `SIZES`, or a Size.
        seed: Not negative.
        workers: Number of processes that draw.
        progress: Shows a progress bar.
        style: 'varied', or 'classic' (version 1).

    Returns:
        True if it was drawn, False if `out` held it already.

    Raises:
        OutputInUse: If `out` holds something else. It is left as it is.
        ValueError: If another argument is not one of the above.
    """
    if workers < 1:
        raise ValueError(f'workers must be 1 or more, got {workers}')
    out = Path(out).expanduser().resolve()
    size = get_size(size)
    manifest = dict(name='SynthPS', version=get_style(style).version, layout=layout, seed=seed, size=asdict(size))
    if _is_complete(out, manifest):
        return False
    plan = make_plan(layout, size, seed, style)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', suffix='.partial', dir=out.parent))
    try:
        # Other users cannot read a folder that mkdtemp made, so the data set gets a folder within it.
        partial = scratch / out.name
        partial.mkdir()
        _draw(plan, partial, workers, progress)
        write_annotations(plan, partial)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + '\n')
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        try:
            partial.rename(out)
        except OSError:
            # Another process may have made the same data set in the meantime.
            if _is_complete(out, manifest):
                return False
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _is_complete(out: Path, manifest: dict[str, Any]) -> bool:
    """Tells whether the folder holds this data set. Raises OutputInUse if it holds something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / MANIFEST).read_text())
    except (OSError, ValueError):
        raise OutputInUse(f'{out} exists and is not a SynthPS data set: not overwritten') from None
    if found != json.loads(json.dumps(manifest)):
        raise OutputInUse(
            f'{out} holds another SynthPS data set ({_describe(found)}), not {_describe(manifest)}: '
            'not overwritten; remove it to draw the new one'
        )
    return True


def _describe(manifest: dict[str, Any]) -> str:
    size = manifest.get('size')
    name = size.get('name') if isinstance(size, dict) else size
    queries = f' with {size["queries"]} queries' if isinstance(size, dict) and 'queries' in size else ''
    return f'{manifest.get("layout")} {name}{queries}, seed {manifest.get("seed")}, version {manifest.get("version")}'


def _draw(plan: Plan, out: Path, workers: int, progress: bool) -> None:
    tasks = [(scene, out / image_path(plan.layout, scene.name)) for scene in plan.scenes]
    tasks[0][1].parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(tasks), desc='SynthPS', unit='scene', disable=not progress)
    # OpenCV gets one thread: the processes work in parallel, and its threads do not survive a fork.
    with bar, _single_opencv_thread():
        if workers == 1:
            _init_worker(plan.size, plan.seed, plan.style)
            for task in tasks:
                _draw_task(task)
                bar.update()
            return
        context = multiprocessing.get_context('fork' if sys.platform == 'linux' else 'spawn')
        pool = ProcessPoolExecutor(workers, context, _init_worker, (plan.size, plan.seed, plan.style))
        try:
            for _ in pool.map(_draw_task, tasks, chunksize=max(1, min(32, len(tasks) // workers))):
                bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _single_opencv_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _init_worker(size: Size, seed: int, style: str) -> None:
    cv2.setNumThreads(1)
    _worker['studio'] = Studio(size, seed, style)


def _draw_task(task: tuple[Scene, Path]) -> None:
    scene, path = task
    path.write_bytes(render_jpeg(scene, _worker['studio']))
