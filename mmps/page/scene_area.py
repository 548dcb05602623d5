"""The left of the page: a scene in which a person is chosen."""

from collections.abc import Awaitable, Callable

import numpy as np
from nicegui import events, ui

from .results import Person, drawn_box, find_person, short_name
from .service import SearchService, is_upload
from .widgets import Range, Stage, crop_url, picture, scene_url, telling, upload_button


class SceneArea:
    """Shows a scene of the gallery, a frame of a video or an uploaded photograph; a person in it can be chosen.

    Args:
        service: The model and the gallery.
        on_person: Called with the person that was chosen.
    """

    def __init__(self, service: SearchService, on_person: Callable[[Person], Awaitable[None]]) -> None:
        self.service, self.on_person = service, on_person
        self.key, self.name, self.frame = '', '', 0
        self.image: np.ndarray | None = None
        self.persons: list[Person] = []
        self.chosen: Person | None = None
        self.frames: list[int] = []
        self.buttons: list[tuple[Person, ui.button]] = []
        with ui.element('section').classes('area').props('aria-labelledby=scene-heading'):
            ui.html('Choose a person', tag='h2').props('id=scene-heading')
            with ui.element('div').classes('bar'):
                self.select = ui.select({}, label='Photograph or video', with_input=True).classes('grow')
                self.select.on_value_change(self._select).props('outlined dense options-dense')
                upload_button('Upload a photograph', self._upload)
            self.stage = Stage(self._point)
            with ui.element('div').classes('bar frames') as self.frame_bar:
                ui.button(icon='skip_previous', on_click=lambda: self._step(-1)).props(
                    'flat round aria-label="Previous frame with people"'
                )
                self.slider = Range('Frame of the video', 1, self._say_frame, self._go_to).classes('grow')
                self.number = ui.label().classes('hint')
                ui.button(icon='skip_next', on_click=lambda: self._step(1)).props(
                    'flat round aria-label="Next frame with people"'
                )
            with ui.element('div').classes('bar'):
                self.status = ui.label('').classes('grow hint').props('aria-live=polite')
                drawing = ui.switch('Draw a box', on_change=lambda event: self.stage.draw(event.value))
                drawing.tooltip('For a finger. With a mouse just drag.').props('dense')
            self.people = ui.element('div').classes('people').props('role=group aria-label="Persons in this picture"')
        self.list_scenes()

    def list_scenes(self) -> None:
        """Lists the gallery's sources."""
        names = self.service.pictures.sources
        sources = {self.service.pictures.key(each['source']): each for each in self.service.sources}
        self.select.set_options({key: short_name(each['source'], names) for key, each in sources.items()})

    async def open_first(self) -> None:
        """Opens the first scene, if there is one."""
        if self.select.options:
            self.select.value = next(iter(self.select.options))
        else:
            self.status.text = 'The gallery is empty. Add photographs or videos, or upload a photograph.'
            self.stage.set_visibility(False)
            self.frame_bar.set_visibility(False)

    async def _select(self, event: events.ValueChangeEventArguments) -> None:
        if event.value is not None and event.value != self.key:
            await self.open_source(self.service.pictures.sources[int(event.value)])

    async def open_source(self, source: str, frame: int | None = None) -> None:
        """Opens a source of the gallery: at a frame, else at the first with people."""
        key = self.service.pictures.key(source)
        self.frames = await self.service.frames(source)
        await self.open(key, source, frame if frame is not None else self.frames[0] if self.frames else 0)
        self.select.value = key

    async def _upload(self, event: events.UploadEventArguments) -> None:
        with telling():
            key = self.service.pictures.upload(await event.file.read())
            self.frames = []
            await self.open(key, event.file.name, 0)
            if self.key == key:
                self.select.value = None

    async def open(self, key: str, name: str, frame: int) -> None:
        """Shows a scene and outlines who is in it."""
        with telling():
            self.status.text = 'Looking for people …'
            asked = self.key, self.name, self.frame = key, name, frame
            image = await self.service.read(self.service.pictures.read, key, frame)
            if asked != (self.key, self.name, self.frame):
                return  # the user has gone on to another scene
            self.image, self.persons, self.chosen = image, [], None
            height, width = image.shape[:2]
            self.stage.set_visibility(True)
            self.stage.show(
                scene_url(key, frame), f'{short_name(name)}, frame {frame}' if frame else short_name(name), (width, height)
            )
            self._show_frames()
            persons = await self.service.find_persons(key, name, frame, image)
            if asked == (self.key, self.name, self.frame):
                self.persons = persons
                self._show_persons()

    def _show_frames(self) -> None:
        about = next((each for each in self.service.sources if each['source'] == self.name), None)
        count = 0 if about is None or is_upload(self.key) else about['next_frame']
        self.frame_bar.set_visibility(count > 1)
        self.slider.set(self.frame, max(1, count - 1))
        self._say_frame(self.frame)

    def _say_frame(self, number: float) -> None:
        self.number.text = f'frame {int(number)}'

    async def _go_to(self, number: float) -> None:
        await self.open(self.key, self.name, int(number))

    def _show_persons(self) -> None:
        count = len(self.persons)
        self.status.text = (
            f'{count or "No"} {"person" if count == 1 else "persons"} found. Click one, or draw a box around somebody.'
        )
        words = [
            f'Person {number}' + ('' if each.score is None else f', confidence {each.score:.0%}')
            for number, each in enumerate(self.persons, 1)
        ]
        self.stage.outline(
            [
                (each.bbox, label, 'chosen' if each is self.chosen else 'person')
                for each, label in zip(self.persons, words, strict=True)
            ]
        )
        if [person for person, _ in self.buttons] != self.persons:  # else the keyboard's focus stays on its button
            self._list_persons(words)
        for person, button in self.buttons:
            button.classes(remove='chosen', add='chosen' if person is self.chosen else '')
            button.props.update({'aria-pressed': str(person is self.chosen).lower()})
            button.update()

    def _list_persons(self, words: list[str]) -> None:
        self.people.clear()
        self.buttons = []
        with self.people:
            for number, (each, label) in enumerate(zip(self.persons, words, strict=True), 1):
                button = ui.button(on_click=lambda each=each: self._choose(each)).props('flat no-caps').classes('person')
                button.props.update({'aria-label': f'Search for {label}'})
                with button:
                    picture(crop_url(each.picture, each.frame, each.bbox), '')
                    ui.label(str(number))
                self.buttons.append((each, button))

    async def _point(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        if self.image is None:
            return
        height, width = self.image.shape[:2]
        box = drawn_box(start, end, (width, height), least=max(width, height) / 100)
        if box is None:
            number = find_person([each.bbox for each in self.persons], *start)
            if number is not None:
                await self._choose(self.persons[number])
            return
        with telling():
            person = await self.service.embed(self.key, self.name, self.frame, self.image, box)
            self.persons.append(person)
            await self._choose(person)

    async def _choose(self, person: Person) -> None:
        self.chosen = person
        self._show_persons()
        await self.on_person(person)

    async def _step(self, direction: int) -> None:
        """Goes to the next or previous frame in which somebody was found."""
        others = [frame for frame in self.frames if (frame - self.frame) * direction > 0]
        if others:
            await self.open(self.key, self.name, min(others) if direction > 0 else max(others))
