"""The pictures that the page may show: frames of the gallery's sources, and photographs that were uploaded.

A picture has a key: a source's is its number in the order in which it was listed, an upload's cannot be guessed. The browser
knows keys only, and no path that it sends is ever opened.
"""

import io
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmps.apis.video import UnreadableSourceError, read_frame

TYPES = {'JPEG': '.jpg', 'PNG': '.png', 'WEBP': '.webp'}
MAX_BYTES, MAX_PIXELS = 20 * 2**20, 40_000_000  # of an uploaded photograph
TOO_MANY_PIXELS = f'The photograph is too large: it has more than {MAX_PIXELS // 10**6} million pixels.'
MAX_UPLOADS = 64  # kept in memory; the oldest goes first
SIDE = 1600  # longest side of a scene as it is sent, in pixels
CROP_HEIGHT, MARGIN = 240, 0.08  # of a person's picture: pixels, and the share of the box shown around it

Box = tuple[float, float, float, float]  # x, y, width, height in pixels


class RefusedError(ValueError):
    """A file or a picture that the page does not take or show; the message is for the user."""


class Pictures:
    """Reads the pictures that may be shown, by their keys.

    Args:
        folders: A source that is a link may lead into these folders, or stay in its own.
    """

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self.folders = [folder.resolve() for folder in folders]
        self.sources: list[str] = []
        self._keys: dict[str, str] = {}
        self._allowed: set[str] = set()
        self._uploads: OrderedDict[str, bytes] = OrderedDict()
        self._decoded = lru_cache(maxsize=8)(self._decode)

    def allow(self, sources: Iterable[str]) -> None:
        """Lets the pictures of these sources be shown, and no longer those of others. Keys stay as they are."""
        self._allowed.clear()
        self._decoded.cache_clear()
        self.allow_more(sources)

    def allow_more(self, sources: Iterable[str]) -> None:
        """Lets the pictures of these sources be shown as well."""
        for source in sources:
            self._allowed.add(source)
            if source not in self._keys:
                self._keys[source] = str(len(self.sources))
                self.sources.append(source)

    def key(self, source: str) -> str:
        """Returns a source's key."""
        return self._keys[source]

    def upload(self, data: bytes) -> str:
        """Keeps an uploaded photograph for a while. Returns its key.

        Raises:
            RefusedError: It is too large, or no photograph.
        """
        check_photograph(data)
        key = f'u{secrets.token_urlsafe(16)}'
        self._uploads[key] = data
        while len(self._uploads) > MAX_UPLOADS:
            self._uploads.popitem(last=False)
        return key

    def read(self, key: str, frame: int = 0) -> np.ndarray:
        """Returns a picture, uint8 (H, W, 3), BGR.

        Raises:
            RefusedError: There is none of this key, or it cannot be shown.
        """
        if key not in self._uploads:
            self._check_source(key)
        return self._decoded(key, frame)

    def _decode(self, key: str, frame: int) -> np.ndarray:
        if key in self._uploads:
            return decode_photograph(self._uploads[key])
        try:
            return read_frame(self.sources[int(key)], frame)
        except UnreadableSourceError as error:
            raise RefusedError('This picture cannot be read any more.') from error

    def _check_source(self, key: str) -> None:
        if not re.fullmatch(r'[0-9]{1,9}', key) or int(key) >= len(self.sources):
            raise RefusedError('There is no such picture.')
        source = self.sources[int(key)]
        if source not in self._allowed:
            raise RefusedError('This picture is no longer in the gallery.')
        if '://' in source:
            raise RefusedError('A stream cannot be shown again.')
        real = Path(source).resolve()
        own = Path(source).parent.resolve()
        if not any(real.is_relative_to(folder) for folder in [own, *self.folders]):
            raise RefusedError('This picture is a link that leads out of its folder.')


def check_photograph(data: bytes) -> str:
    """Checks a photograph by its size and header, without decoding it. Returns the suffix of its type.

    Raises:
        RefusedError: It is too large, or no JPEG, PNG or WebP.
    """
    if len(data) > MAX_BYTES:
        raise RefusedError(f'The file is too large: a photograph has at most {MAX_BYTES // 2**20} MB.')
    try:
        with Image.open(io.BytesIO(data), formats=tuple(TYPES)) as header:
            (width, height), kind = header.size, header.format
    except Image.DecompressionBombError as error:
        raise RefusedError(TOO_MANY_PIXELS) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise RefusedError('This file is not a photograph (JPEG, PNG or WebP).') from error
    if width * height > MAX_PIXELS:
        raise RefusedError(TOO_MANY_PIXELS)
    return TYPES[str(kind)]


def decode_photograph(data: bytes) -> np.ndarray:
    """Decodes a checked photograph, turned as its EXIF data say: uint8 (H, W, 3), BGR.

    Raises:
        RefusedError: It is damaged.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise RefusedError('This photograph is damaged.')
    return image


def shown_scene(image: np.ndarray) -> bytes:
    """Returns a scene as the page shows it: a JPEG of at most ``SIDE`` pixels."""
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return to_jpeg(small)


def crop(image: np.ndarray, box: Box) -> np.ndarray:
    """Returns a person with a margin, uint8 (h, w, 3).

    Raises:
        RefusedError: The box is not in the image.
    """
    x, y, width, height = box
    margin = MARGIN * max(width, height)
    left, top = max(0, int(x - margin)), max(0, int(y - margin))
    part = image[top : max(0, int(np.ceil(y + height + margin))), left : max(0, int(np.ceil(x + width + margin)))]
    if not part.size:
        raise RefusedError('The box is not in the picture.')
    return part


def shown_crop(image: np.ndarray, box: Box) -> bytes:
    """Returns a person as the page shows it: a JPEG of ``CROP_HEIGHT`` pixels."""
    part = crop(image, box)
    scale = CROP_HEIGHT / part.shape[0]
    width = max(1, round(part.shape[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return to_jpeg(cv2.resize(part, (min(width, 4 * CROP_HEIGHT), CROP_HEIGHT), interpolation=method))


def to_jpeg(image: np.ndarray, quality: int = 88) -> bytes:
    done, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RefusedError('This picture cannot be shown.')
    return data.tobytes()


def read_box(text: str) -> Box:
    """Reads ``x,y,width,height``.

    Raises:
        RefusedError: It is something else.
    """
    try:
        x, y, width, height = (float(value) for value in text.split(','))
    except ValueError as error:
        raise RefusedError('Expected a box: x,y,width,height.') from error
    if not all(abs(value) < 1e6 for value in (x, y, width, height)):  # nor NaN
        raise RefusedError('The box is not in the picture.')
    return x, y, width, height


def file_name(name: str, suffix: str) -> str:
    """Returns a safe file name that resembles an uploaded file's."""
    stem = re.sub(r'[^\w-]+', '_', Path(name).stem).strip('_-')[:60]
    return f'{stem or "photograph"}-{secrets.token_hex(4)}{suffix}'
