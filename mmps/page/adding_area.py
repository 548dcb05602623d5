"""The dialog in which photographs and videos are added to the gallery."""

from collections.abc import Awaitable, Callable

from nicegui import events, ui

from .results import read_time
from .service import SearchService, say_progress
from .widgets import telling, upload_button


class AddingArea:
    """Adds folders that were named at the start, or uploaded photographs, and shows the progress, which all users share.

    Args:
        service: The model and the gallery.
        on_added: Called when an indexing has ended.
    """

    def __init__(self, service: SearchService, on_added: Callable[[], Awaitable[None]]) -> None:
        self.service, self.on_added = service, on_added
        self.uploaded: list[str] = []
        progress = service.progress
        self.shown = None if progress is None or progress.running else progress  # the last one whose end the page shows
        with ui.dialog() as self.dialog, ui.card().classes('adding').props('role=dialog aria-labelledby=adding-heading'):
            ui.html('Add to the gallery', tag='h2').props('id=adding-heading')
            self.folders = ui.select(
                {number: str(path) for number, path in enumerate(service.inputs)},
                label='Folders on this machine',
                multiple=True,
            ).props('outlined dense use-chips')
            self.folders.set_visibility(bool(service.inputs))
            with ui.element('div').classes('bar'):
                upload_button('Upload photographs', self._upload, multiple=True)
                self.count = ui.label('').classes('hint')
            with ui.element('div').classes('bar'):
                self.camera = ui.input('Camera', placeholder='north').props('outlined dense').classes('grow')
                self.start = ui.input('Time of the first frame', placeholder='0:00').props('outlined dense').classes('grow')
                self.stride = ui.number('Every n-th frame of a video', value=10, min=1, precision=0)
                self.stride.props('outlined dense').classes('grow')
            self.bar = ui.linear_progress(0, show_value=False).props('aria-label="Share that is done"')
            self.status = ui.label('').classes('hint').props('role=status aria-live=polite')
            with ui.element('div').classes('bar'):
                self.start_button = ui.button('Start', icon='play_arrow', on_click=self._start).props('no-caps')
                self.stop_button = ui.button('Stop', icon='stop', on_click=self._stop).props('outline no-caps')
                ui.button('Close', on_click=self.dialog.close).props('flat no-caps')
        ui.timer(0.5, self._watch)

    async def _upload(self, event: events.UploadEventArguments) -> None:
        with telling():
            self.uploaded.append(await self.service.read(self.service.keep, event.file.name, await event.file.read()))
            self.count.text = f'{len(self.uploaded)} uploaded'

    async def _start(self) -> None:
        with telling():
            sources = [*self.uploaded, *await self.service.read(self.service.list_inputs, self.folders.value)]
            start = read_time(self.start.value) or 0.0
            self.service.start_indexing(sources, self.camera.value.strip(), start, int(self.stride.value or 1))
            self.uploaded, self.count.text = [], ''
            await self._watch()

    def _stop(self) -> None:
        if self.service.progress is not None:
            self.service.progress.cancelled = True

    async def _watch(self) -> None:
        progress = self.service.progress
        running = progress is not None and progress.running
        self.start_button.set_enabled(not running)
        self.stop_button.set_enabled(running)
        self.bar.set_visibility(progress is not None)
        if progress is not None:
            self.bar.value = progress.share
            self.status.text = say_progress(progress)
        if progress is not None and not running and progress is not self.shown:
            self.shown = progress
            await self.on_added()
