"""The right of the page: who was asked for, and the matches."""

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from mmps.apis.sightings import Match

from .export import to_csv, to_json, to_zip
from .results import Person, Search, read_time, say_place, short_name
from .service import SearchService
from .timeline import draw_timeline
from .widgets import Range, Stage, crop_url, picture, scene_url, telling

BEST_OF = {None: 'every sighting', 'source': 'best of each photograph or video', 'camera': 'best of each camera'}
SORTS = {'similarity': 'most similar first', 'time': 'earliest first'}


class MatchesArea:
    """Searches for a person and shows the matches, which can be filtered, marked and exported.

    Args:
        service: The model and the gallery.
        on_scene: Called with a match's source and frame, to open it on the left.
    """

    def __init__(self, service: SearchService, on_scene: Callable[[str, int], Awaitable[None]]) -> None:
        self.service, self.on_scene = service, on_scene
        self.search = Search()
        self.asked = 0  # searches so far
        self.opened: Match | None = None
        with ui.element('section').classes('area').props('aria-labelledby=matches-heading'):
            with ui.element('div').classes('bar'):
                ui.html('Matches', tag='h2').props('id=matches-heading').classes('grow')
                self.together = ui.switch('Add the next person to the search').props('dense')
                self.together.tooltip('Several photographs of one person find it better than one.')
            self.people = ui.element('div').classes('people').props('role=group aria-label="Searched person"')
            with ui.element('div').classes('filters') as self.filters:
                self._build_filters()
            self.status = ui.label('Choose a person to search for.').classes('hint').props('aria-live=polite role=status')
            self.timeline = ui.html('', sanitize=False).classes('timeline')
            self.grid = ui.element('ol').classes('matches').props('aria-label=Matches')
            with ui.element('div').classes('bar') as self.exports:
                self.only_right = ui.switch('Only those marked right').props('dense')
                for name in ('CSV', 'JSON', 'ZIP'):
                    button = ui.button(name, icon='download', on_click=lambda name=name: self._export(name)).props(
                        'outline no-caps'
                    )
                    button.props.update({'aria-label': f'Download {name}'})
        with ui.dialog() as self.dialog, ui.card().classes('scene-dialog'):
            self.stage = Stage()
            self.words = ui.label()
            with ui.element('div').classes('bar'):
                ui.button('Open this scene', icon='image_search', on_click=self._open_scene).props('outline no-caps')
                ui.button('Close', on_click=self.dialog.close).props('flat no-caps')
        self._show()

    def _build_filters(self) -> None:
        filters = self.search.filters

        def select(options: Any, label: str, name: str, multiple: bool = False) -> ui.select:
            value = list(filters.cameras) if multiple else getattr(filters, name)
            element = ui.select(options, label=label, value=value, multiple=multiple)
            element.props('outlined dense options-dense')
            element.on_value_change(lambda event: self._filter(name, event.value))
            return element

        self.cameras = select([], 'Cameras', 'cameras', multiple=True).props('use-chips clearable')
        for label, name in (('From', 'since'), ('Until', 'until')):
            field = ui.input(label, placeholder='1:30').props('outlined dense debounce=500 clearable')
            field.on_value_change(lambda event, name=name: self._filter_time(name, event.value))
        select(BEST_OF, 'Show', 'best_of')
        select(SORTS, 'Order', 'sort')
        select([20, 50, 100, 200], 'At most', 'topk')
        with ui.element('div').classes('similarity'):
            self.least = ui.label('Similarity from 0.00')
            Range(
                'Least similarity',
                0.01,
                lambda value: self.least.set_text(f'Similarity from {value:.2f}'),
                lambda value: self._filter('min_similarity', float(value)),
            )

    async def choose(self, person: Person) -> None:
        """Searches for a person, or adds it to the search."""
        self.search.choose(person, together=self.together.value)
        await self.run()
        if not self.together.value:  # where the matches are below the scene, as on a phone, they come into view
            ui.run_javascript("if (innerWidth <= 900) document.getElementById('matches-heading').scrollIntoView()")

    async def run(self) -> None:
        """Searches again."""
        self.cameras.set_options({name: name or 'no camera' for name in self.service.cameras})
        self.asked += 1
        asked = self.asked
        if self.search.persons:
            self.status.text = 'Searching …'
            matches = await self.service.search(self.search.embedding(), self.search.filters)
            if asked != self.asked:
                return  # a later search has begun
            self.search.show(matches)
        else:
            self.search.show([])
        self._show()

    async def _filter(self, name: str, value: Any) -> None:
        setattr(self.search.filters, name, value or [] if name == 'cameras' else value)
        await self.run()

    async def _filter_time(self, name: str, text: str | None) -> None:
        with telling():
            await self._filter(name, read_time(text))

    async def _drop(self, person: Person) -> None:
        self.search.persons.remove(person)
        await self.run()

    def _show(self) -> None:
        matches, persons = self.search.matches, self.search.persons
        self.people.clear()
        with self.people:
            for each in persons:
                button = ui.button(on_click=lambda each=each: self._drop(each)).props('flat no-caps').classes('person asked')
                button.props.update({'aria-label': 'Remove this photograph from the search'})
                with button:
                    picture(crop_url(each.picture, each.frame, each.bbox), 'The person that is searched for')
                    ui.icon('close')
        self.exports.set_visibility(bool(matches))
        self.timeline.set_visibility(len({match.sighting.time for match in matches}) > 1)
        self.filters.set_visibility(bool(persons))
        self.timeline.set_content(draw_timeline(matches))
        if persons:
            self.status.text = f'{len(matches) or "No"} {"match" if len(matches) == 1 else "matches"}'
            self.status.text += '. A similarity is not a proof: look at each.' if matches else ' with these filters.'
        else:
            self.status.text = 'Choose a person to search for.'
        self.grid.clear()
        with self.grid:
            for number, match in enumerate(matches):
                self._show_match(number, match)

    def _show_match(self, number: int, match: Match) -> None:
        seen = match.sighting
        names = self.service.pictures.sources
        words = f'similarity {match.similarity:.2f}, {say_place(seen)}'
        key = self.service.pictures.key(seen.source)
        with ui.element('li').classes('match') as card:
            card.props['id'] = f'match-{number}'
            button = ui.button(on_click=lambda: self._open(match)).props('flat no-caps').classes('look')
            button.props.update({'aria-label': f'Show the whole scene of match {number + 1}: {words}'})
            with button:
                picture(crop_url(key, seen.frame, seen.bbox), f'Match {number + 1}')
            ui.label(f'{match.similarity:.2f}').classes('value')
            ui.linear_progress(max(0.0, match.similarity), show_value=False).props('aria-hidden=true size=4px')
            ui.label(say_place(seen)).classes('words')
            ui.label(short_name(seen.source, names)).classes('hint file').tooltip(seen.source)
            with ui.element('div').classes('marks'):
                buttons = {
                    right: ui.button(icon=icon, color=None).props('flat dense')
                    for right, icon in ((True, 'check'), (False, 'close'))
                }

        def show_mark() -> None:
            mark = self.search.marked(seen)
            card.classes(remove='is-right is-wrong', add={True: 'is-right', False: 'is-wrong', None: ''}[mark])
            for right, button in buttons.items():
                word = 'right' if right else 'wrong'
                button.props.update({'aria-label': f'Match {number + 1} is {word}', 'aria-pressed': str(mark is right).lower()})

        def set_mark(right: bool) -> None:
            self.search.mark(seen, None if self.search.marked(seen) is right else right)
            show_mark()

        for right, button in buttons.items():
            button.on_click(lambda right=right: set_mark(right))
        show_mark()

    async def _open(self, match: Match) -> None:
        """Shows the whole scene of a match."""
        seen = match.sighting
        key = self.service.pictures.key(seen.source)
        with telling():
            image = await self.service.read(self.service.pictures.read, key, seen.frame)
            self.stage.show(scene_url(key, seen.frame), f'The scene of the match: {seen.source}', image.shape[1::-1])
            self.stage.outline([(seen.bbox, f'similarity {match.similarity:.2f}', 'match')])
            frame = f', frame {seen.frame}' if seen.frame else ''
            self.words.text = f'{seen.source}{frame} · {say_place(seen)} · similarity {match.similarity:.2f}'
            self.opened = match
            self.dialog.open()

    async def _open_scene(self) -> None:
        """Opens the scene of the dialog on the left."""
        self.dialog.close()
        if self.opened is not None:
            await self.on_scene(self.opened.sighting.source, self.opened.sighting.frame)

    async def _export(self, name: str) -> None:
        found = self.search.found(self.only_right.value)
        if not found['matches']:
            ui.notify('Nothing to export: no match is marked right.', type='warning')
            return
        writers: dict[str, Callable[[], bytes]] = {
            'CSV': lambda: to_csv(found),
            'JSON': lambda: to_json(found),
            'ZIP': lambda: to_zip(found, self.service.pictures),
        }
        ui.download(await self.service.read(writers[name]), f'matches.{name.lower()}')
