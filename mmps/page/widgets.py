"""Parts of the page that several of its areas use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from nicegui import events, ui

from .pictures import MAX_BYTES, Box


class Stage(ui.element, component='stage.js'):
    """A picture with outlined persons.

    Args:
        on_choose: Called with ``start`` and ``end``, corners in pixels of the picture: a click if they are the same.
    """

    def __init__(self, on_choose: Callable[[tuple[float, float], tuple[float, float]], Any] | None = None) -> None:
        super().__init__()
        if on_choose is not None:
            self.on('choose', lambda event: on_choose(event.args['start'], event.args['end']))

    def show(self, src: str, alt: str, size: tuple[int, int]) -> None:
        """Shows a picture of ``size`` (width, height), with nobody outlined."""
        self.props.update(src=src, alt=alt, width=size[0], height=size[1])
        self.outline([])

    def outline(self, persons: list[tuple[Box, str, str]]) -> None:
        """Outlines persons: box, words, and kind: 'person', 'chosen' or 'match'."""
        self.props['outlines'] = [dict(box=list(box), label=label, kind=kind) for box, label, kind in persons]
        self.update()

    def draw(self, on: bool) -> None:
        """Lets a finger draw a box instead of scrolling the page."""
        self.props['drawing'] = on
        self.update()


class Range(ui.element):
    """A browser's own slider, which keyboards and screen readers know.

    Args:
        label: What it sets.
        step: Least change.
        on_input: Called with each value while it moves.
        on_change: Called with the value where it stops.
    """

    def __init__(
        self, label: str, step: float, on_input: Callable[[float], Any], on_change: Callable[[float], Any], maximum: float = 1
    ) -> None:
        super().__init__('input')
        self.props.update({'type': 'range', 'aria-label': label, 'min': 0, 'max': maximum, 'step': step, 'value': 0})
        value = '(event) => emit(Number(event.target.value))'
        self.on('input', lambda event: on_input(event.args), js_handler=value, throttle=0.05)
        self.on('change', lambda event: on_change(event.args), js_handler=value)

    def set(self, value: float, maximum: float) -> None:
        """Sets its value and its greatest value."""
        self.props.update(max=maximum, value=value)
        self.update()


def scene_url(key: str, frame: int) -> str:
    return f'/scene/{key}/{frame}.jpg'


def crop_url(key: str, frame: int, box: Box) -> str:
    return f'/crop/{key}/{frame}.jpg?' + urlencode({'box': ','.join(f'{value:.1f}' for value in box)})


def picture(src: str, alt: str) -> ui.element:
    """Adds an image."""
    image = ui.element('img')
    image.props.update(src=src, alt=alt, loading='lazy')
    return image


def upload_button(label: str, on_upload: Callable[[events.UploadEventArguments], Any], multiple: bool = False) -> ui.button:
    """Adds a button with which photographs are uploaded."""

    def refuse() -> None:
        ui.notify(f'Photographs are JPEG, PNG or WebP of at most {MAX_BYTES // 2**20} MB.', type='negative')

    upload = ui.upload(on_upload=on_upload, on_rejected=refuse, multiple=multiple, auto_upload=True, max_file_size=MAX_BYTES)
    upload.props('accept=".jpg,.jpeg,.png,.webp" no-thumbnails').classes('hidden-upload')
    button = ui.button(label, icon='photo_camera').props('outline no-caps')
    # In the browser itself: it opens its file dialog only in answer to a click.
    button.on('click', js_handler=f'() => getElement({upload.id}).$refs.qRef.pickFiles()')
    return button


@contextmanager
def telling() -> Iterator[None]:
    """Tells the user what was wrong with what they did."""
    try:
        yield
    except (ValueError, OSError) as error:
        ui.notify(str(error), type='negative', multi_line=True)
