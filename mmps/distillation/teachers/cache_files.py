"""Stores a teacher's person embeddings in a folder, so that no teacher runs in training. A memory map reads them.

Shapes: M images, P persons of all images (image by image, N_i in image i), J jitters, I identities, D embedding size. Of the
2 flips, the first is the image itself, the second its mirror image. The folder holds header.json (:class:`Header`), which is
written last, and one .npy file without pickle for each of these arrays::

    image_ids   (M,) int64            img_id of each image
    offsets     (M + 1,) int64        index of each image's first person, and P
    movements   (J, P, 4) float32     how far the edges of each box move in the image itself, as a fraction of the box's width
                                      (x) or height (y). All J are random: no box stays in place unless box_jitter is 0
    embeddings  (2, J, P, D) float32
    done        (M,) bool             whether the image's embeddings are written
    lut         (I, D) float32        the teacher's lookup table
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import numpy as np

from mmps.fileio.arrays import one_line
from mmps.fileio.atomic import remove_unfinished, write_atomic

FORMAT = 'mmps teacher cache 1'
MAPPED = ('movements', 'embeddings')  # the arrays that are read through a memory map
T = TypeVar('T')


@dataclass(frozen=True)
class Header:
    """Describes a cache.

    Attributes:
        data: :func:`~mmps.datasets.fingerprint.fingerprint` of the training set.
        transforms: :func:`~mmps.datasets.fingerprint.repeatable_settings` of its pipeline.
        weights: :func:`~mmps.fileio.checkpoint.weights_fingerprint` of the teacher's checkpoint.
        normalization: Mean, std and channel order of the teacher's images, and the padding of a single image.
        box_jitter: How far an edge may move, as a fraction of the box's width or height.
        seed: Seed of the movements.
        images, boxes, jitters, identities, embed_dims: M, P, J, I, D.
        teacher, config: Name of the teacher, and the config that names it.
    """

    format: str
    data: str
    transforms: list[str]
    weights: str
    normalization: dict
    box_jitter: float
    seed: int
    images: int
    boxes: int
    jitters: int
    identities: int
    embed_dims: int
    teacher: str
    config: str

    def layout(self) -> dict[str, tuple[str, tuple]]:
        """Returns dtype and shape of each array."""
        return {
            'image_ids': ('int64', (self.images,)),
            'offsets': ('int64', (self.images + 1,)),
            'movements': ('float32', (self.jitters, self.boxes, 4)),
            'embeddings': ('float32', (2, self.jitters, self.boxes, self.embed_dims)),
            'done': ('bool', (self.images,)),
            'lut': ('float32', (self.identities, self.embed_dims)),
        }


def typed(kind: type[T], fields: dict[str, Any]) -> T:
    """Builds a dataclass from the fields of a JSON object.

    Raises:
        ValueError: The fields differ from the dataclass's, a value has another type, or a number is negative or not finite.
    """
    try:
        made = kind(**fields)
    except TypeError as error:
        raise ValueError(str(error)) from error
    for name, annotation in get_type_hints(kind).items():
        value, wanted = getattr(made, name), get_origin(annotation) or annotation
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits or (wanted in (int, float) and not 0 <= value < float('inf')):
            raise ValueError(f'{name}: expected {wanted.__name__}, got {repr(value)[:40]}')
    return made


def command(path: Path, header: Header | None = None) -> str:
    """Returns the command line that writes a cache."""
    config, options = 'DISTILLED_CONFIG', ''
    if header is not None:
        config, options = header.config, f' --jitters {header.jitters} --seed {header.seed}'
    return f'python tools/cache_teacher.py {config} --out {path}{options}'


class TeacherCache:
    """Opens a cache. Its arrays are attributes; those in ``MAPPED`` are read-only memory maps.

    Raises:
        FileNotFoundError: One of its files is missing.
        ValueError: One of its files is damaged, truncated or of another version.
    """

    image_ids: np.ndarray
    offsets: np.ndarray
    movements: np.ndarray
    embeddings: np.ndarray
    done: np.ndarray
    lut: np.ndarray

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.command = command(self.path)
        self.header = self._read_header()
        for name, (dtype, shape) in self.header.layout().items():
            file = self.path / f'{name}.npy'
            try:
                array = np.load(file, mmap_mode='r' if name in MAPPED else None, allow_pickle=False)
            except OSError:
                raise
            except Exception as error:  # damaged files raise many types, even MemoryError
                raise ValueError(f'{file}: damaged or truncated, expected {dtype} {shape}; {self.advice}') from error
            if (array.dtype, array.shape) != (np.dtype(dtype), shape):
                raise ValueError(f'{file}: found {array.dtype} {array.shape}, expected {dtype} {shape}; {self.advice}')
            setattr(self, name, np.asarray(array))
        for name, holds, what in (
            ('image_ids', len(np.unique(self.image_ids)) == len(self.image_ids), 'different numbers'),
            (
                'offsets',
                self.offsets[0] == 0
                and self.offsets[-1] == self.header.boxes
                and (self.offsets[1:] >= self.offsets[:-1]).all(),
                f'numbers that rise from 0 to {self.header.boxes}',
            ),
            ('movements', np.isfinite(self.movements).all(), 'finite numbers'),
            ('lut', np.isfinite(self.lut).all(), 'finite numbers'),
        ):
            if not holds:
                raise ValueError(f'{self.path / name}.npy: damaged, expected {what}; {self.advice}')
        self._positions = {img_id: position for position, img_id in enumerate(self.image_ids.tolist())}

    def _read_header(self) -> Header:
        file = self.path / 'header.json'
        if not file.is_file():
            raise FileNotFoundError(f'{file}: no such file, expected a teacher cache; write it with: {self.command}')
        try:
            header = typed(Header, json.loads(file.read_text(encoding='utf-8')))
        except (ValueError, RecursionError) as error:  # not JSON, or other entries
            raise ValueError(f'{file}: expected the header of a teacher cache ({one_line(error)}); {self.advice}') from error
        if header.format != FORMAT:
            raise ValueError(f'{file}: found format {header.format!r}, expected {FORMAT!r}; {self.advice}')
        self.command = command(self.path, header)
        return header

    @property
    def advice(self) -> str:
        """Tells the user how to replace the cache."""
        return f'remove {self.path} and write it anew with: {self.command}'

    def require(self, **expected: Any) -> None:
        """Raises ValueError if a field of the header differs from the expected value."""
        for name, value in expected.items():
            found = getattr(self.header, name)
            if found != value:
                raise ValueError(
                    f'{self.path}: stale teacher cache, its {name} differ: found {found}, expected {value}; {self.advice}'
                )

    def require_complete(self) -> None:
        """Raises ValueError if an image has no embeddings yet."""
        if not self.done.all():
            raise ValueError(
                f'{self.path}: partial teacher cache: found {np.count_nonzero(self.done)} images, expected '
                f'{len(self.done)}; go on with: {self.command}'
            )

    def persons(self, img_id: int) -> slice:
        """Returns the positions of an image's persons. Raises ValueError if the image is not in the cache."""
        position = self._positions.get(img_id)
        if position is None:
            raise ValueError(f'{self.path}: has no image with img_id {img_id}; {self.advice}')
        return slice(*self.offsets[position : position + 2].tolist())


def create_cache(path: Path, header: Header, **arrays: np.ndarray) -> None:
    """Creates a cache whose embeddings are not written yet.

    Args:
        path: A new folder, or one that an earlier call did not finish.
        arrays: All arrays but the embeddings.

    Raises:
        OSError: It cannot be written. The disk may be full.
        ValueError: The folder holds other files.
    """
    layout = header.layout()
    path.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path, 'header.json')
    others = {file.name for file in path.iterdir()} - {f'{name}.npy' for name in layout}
    if others:
        raise ValueError(f'{path}: expected a new folder or a teacher cache, found {min(others)} in it')
    for name, (dtype, shape) in layout.items():
        file = path / f'{name}.npy'
        if name in arrays:
            np.save(file, arrays[name].astype(dtype), allow_pickle=False)
        else:
            np.lib.format.open_memmap(file, mode='w+', dtype=dtype, shape=shape)
        _reserve(file)
    with write_atomic(path / 'header.json', 'w') as opened:
        opened.write(json.dumps(asdict(header), indent=1) + '\n')


def _reserve(file: Path) -> None:
    """Allocates a file's disk space now. A memory map that finds a full disk later kills the process without an error."""
    with open(file, 'r+b') as opened:
        if hasattr(os, 'posix_fallocate'):
            try:
                os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
            except OSError as error:
                error.filename = str(file)
                raise
        os.fsync(opened.fileno())


class CacheWriter:
    """Fills a cache image by image.

    An image is marked as done after its embeddings are on the disk. If a writer is killed, another one can continue.
    """

    def __init__(self, cache: TeacherCache):
        self.offsets = cache.offsets
        self.embeddings, self.done = (
            np.load(cache.path / f'{name}.npy', mmap_mode='r+', allow_pickle=False) for name in ('embeddings', 'done')
        )

    def write(self, position: int, embeddings: np.ndarray) -> None:
        """Writes the embeddings (2, J, N_i, D) of the image at ``position`` in the cache's order."""
        self.embeddings[:, :, self.offsets[position] : self.offsets[position + 1]] = embeddings
        self.embeddings.flush()
        self.done[position] = True
        self.done.flush()
