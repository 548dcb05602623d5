"""What all users of the page share: the model, the gallery, the pictures and the indexing.

The model and the gallery work in one thread, in the order in which they are asked. Indexing asks for one batch at a time, so a
search waits for a batch and not for the whole. Pictures are read by two other threads. The event loop never waits for either.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mmps.apis.detections import sightings_of, to_numpy
from mmps.apis.gallery import Gallery
from mmps.apis.indexing import Indexer
from mmps.apis.inferencer import PersonSearchInferencer
from mmps.apis.sightings import Match, Sighting, Where
from mmps.apis.video import Frame, Sampling, count_frames, is_video, list_sources

from .pictures import Box, Pictures, RefusedError, check_photograph, file_name
from .results import Filters, Person

Result = TypeVar('Result')
CAMERA = r'[\w .-]{0,64}'


@dataclass
class Progress:
    """How far an indexing is.

    Attributes:
        total: Number of frames that it will read, as the files' headers tell.
        counts: Those of :meth:`PersonSearchInferencer.index`.
        running: Whether it goes on.
        cancelled: Whether somebody stopped it.
        error: Why it failed, or ''.
    """

    total: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict(sources=0, frames=0, persons=0, unreadable=0))
    running: bool = True
    cancelled: bool = False
    error: str = ''

    @property
    def share(self) -> float:
        """The part that is done, 0 to 1."""
        return min(1.0, self.counts['frames'] / self.total) if self.total else 0.0


class SearchService:
    """Answers the pages of all users.

    Args:
        inferencer: A model with its gallery. Both belong to the service now.
        inputs: Files and folders that users may add to the gallery.
        uploads: Folder for photographs that users add to the gallery.
    """

    def __init__(self, inferencer: PersonSearchInferencer, inputs: Sequence[Path], uploads: Path) -> None:
        if inferencer.gallery is None:
            raise ValueError('the page needs a gallery')
        self.inferencer = inferencer
        self.gallery: Gallery = inferencer.gallery
        self.inputs = list(inputs)
        self.uploads = uploads
        self.pictures = Pictures([*(path.parent if path.is_file() else path for path in inputs), uploads])
        self.sources: list[dict[str, Any]] = []
        self.persons = 0
        self.progress: Progress | None = None
        self.indexing: asyncio.Task[None] | None = None
        self._model = ThreadPoolExecutor(1, 'model')
        self._readers = ThreadPoolExecutor(2, 'pictures')
        self._list_gallery()

    def _list_gallery(self) -> None:
        self.sources = [each for each in self.gallery.sources() if each['next_frame']]  # the others have been begun only
        self.persons = len(self.gallery)
        self.pictures.allow([each['source'] for each in self.sources])

    @property
    def cameras(self) -> list[str]:
        return sorted({each['camera'] for each in self.sources})

    async def _ask(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Runs a function in the thread of the model."""
        return await asyncio.get_running_loop().run_in_executor(self._model, partial(function, *arguments))

    async def read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Runs a function in a thread that reads pictures."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, partial(function, *arguments))

    async def frames(self, source: str) -> list[int]:
        """Returns the frames of a source in which somebody was found."""
        return await self._ask(self.gallery.frames, source)

    async def find_persons(self, picture: str, source: str, frame: int, image: np.ndarray) -> list[Person]:
        """Returns everybody in a scene: as the gallery has them, else as the model finds them."""
        stored = [] if is_upload(picture) else await self._ask(self.gallery.sightings, Where(sources=[source]), frame)
        found = stored or await self._ask(self._detect, source, frame, image)
        return [
            Person(picture, source, frame, each.bbox, each.score, each.embedding)
            for each in sorted(found, key=lambda each: each.bbox[0])
            if each.embedding is not None
        ]

    def _detect(self, source: str, frame: int, image: np.ndarray) -> list[Sighting]:
        ((found, sample),) = self.inferencer.detect([Frame(source, frame, 0.0, image)])
        return sightings_of(found, sample, '', 0.0)

    async def embed(self, picture: str, source: str, frame: int, image: np.ndarray, box: Box) -> Person:
        """Returns the person in a box that a user drew."""
        return Person(picture, source, frame, box, None, await self._ask(self._embed, source, frame, image, box))

    def _embed(self, source: str, frame: int, image: np.ndarray, box: Box) -> np.ndarray:
        ((_, sample),) = self.inferencer.detect([Frame(source, frame, 0.0, image)], [[box]])
        return to_numpy(sample.query_instances.embeddings)[0]

    async def search(self, embedding: np.ndarray, filters: Filters) -> list[Match]:
        """Returns the matches of an embedding (D,)."""
        arguments = (embedding[None], filters.topk, filters.min_similarity, filters.where(), filters.best_of)
        (matches,) = await self._ask(self.gallery.search, *arguments)
        self.pictures.allow_more(match.sighting.source for match in matches)  # an indexing may have added them just now
        return matches

    def list_inputs(self, numbers: Sequence[int]) -> list[str]:
        """Returns the images and videos of some of the ``inputs``, without links that lead out of them."""
        names = []
        for number in numbers:
            root = self.inputs[number].resolve()
            names += [name for name in list_sources(self.inputs[number]) if Path(name).resolve().is_relative_to(root)]
        return names

    def keep(self, name: str, data: bytes) -> str:
        """Writes an uploaded photograph to the folder of uploads. Returns its path.

        Raises:
            RefusedError: It is too large, or no photograph.
        """
        path = self.uploads / file_name(name, check_photograph(data))
        self.uploads.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)

    def start_indexing(self, sources: Sequence[str], camera: str = '', start: float = 0.0, stride: int = 1) -> None:
        """Begins to add everybody in images and videos to the gallery; ``progress`` tells how far it is. One runs at a time.

        Raises:
            RefusedError: Another one is running, or an argument is out of range.
        """
        if self.progress is not None and self.progress.running:
            raise RefusedError('Pictures are already being added. Wait for the end, or stop it.')
        if not re.fullmatch(CAMERA, camera):
            raise RefusedError('A camera has a name of up to 64 letters, digits, spaces, dots, dashes and underscores.')
        if not sources:
            raise RefusedError('Choose a folder, or upload photographs.')
        if stride < 1:
            raise RefusedError('Every how many frames: expected 1 or more.')
        self.progress = Progress()
        self.indexing = asyncio.create_task(self._index(self.progress, sources, camera, start, stride))

    async def _index(self, progress: Progress, sources: Sequence[str], camera: str, start: float, stride: int) -> None:
        try:
            progress.total = await self.read(count_all, sources, stride)
            steps = self.inferencer.index_batches(sources, Indexer(self.gallery, camera, start, Sampling(stride)))
            while not progress.cancelled and (counts := await self._ask(next, steps, None)):
                progress.counts = counts
            await self._ask(steps.close)
        except OSError as error:
            progress.error = str(error)
        finally:
            await self._ask(self._list_gallery)
            progress.running = False

    async def close(self) -> None:
        """Stops the indexing after its batch, ends the threads and closes the gallery."""
        if self.progress is not None and self.indexing is not None:
            self.progress.cancelled = True
            await self.indexing
        self._readers.shutdown(cancel_futures=True)
        self._model.shutdown(cancel_futures=True)
        self.inferencer.close()


def is_upload(picture: str) -> bool:
    """Tells whether a key is that of an uploaded photograph."""
    return picture.startswith('u')


def count_all(sources: Sequence[str], stride: int) -> int:
    """Returns how many frames an indexing will read."""
    return sum(-(-count_frames(source) // stride) if is_video(source) else 1 for source in sources)


def say_progress(progress: Progress) -> str:
    """Writes how far an indexing is."""
    counts = progress.counts
    words = [f'{counts["frames"]} of {progress.total} frames, {counts["persons"]} persons']
    if counts['unreadable']:
        words.append(f'{counts["unreadable"]} files could not be read')
    if progress.error:
        words.append(progress.error)
    elif not progress.running:
        words.append('stopped' if progress.cancelled else 'done')
    return '; '.join(words)
