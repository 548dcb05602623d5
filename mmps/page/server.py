"""The server of the page: its routes, and how it starts and stops."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException, Response
from nicegui import ui

from .adding_area import AddingArea
from .guard import Guard
from .matches_area import MatchesArea
from .pictures import MAX_BYTES, RefusedError, read_box, shown_crop, shown_scene
from .scene_area import SceneArea
from .service import SearchService

LOOPBACK = ('127.0.0.1', 'localhost', '::1')
STYLE = Path(__file__).with_name('page.css')
FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="14" cy="14" r="9" fill="none" stroke="#0f766e" '
    'stroke-width="4"/><path d="M21 21l8 8" stroke="#0f766e" stroke-width="5" stroke-linecap="round"/></svg>'
)


def build_page(service: SearchService) -> FastAPI:
    """Returns the application: the page at ``/`` and the pictures that it shows."""

    @asynccontextmanager
    async def close_at_the_end(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(lifespan=close_at_the_end, openapi_url=None)

    async def send(make: Callable[[], bytes]) -> Response:
        try:
            return Response(
                await service.read(make), media_type='image/jpeg', headers={'Cache-Control': 'private, max-age=300'}
            )
        except RefusedError as error:
            raise HTTPException(404, str(error)) from error

    @app.get('/scene/{key}/{frame}.jpg')
    async def scene(key: str, frame: int) -> Response:
        return await send(lambda: shown_scene(service.pictures.read(key, frame)))

    @app.get('/crop/{key}/{frame}.jpg')
    async def crop(key: str, frame: int, box: str) -> Response:
        return await send(lambda: shown_crop(service.pictures.read(key, frame), read_box(box)))

    @ui.page('/', title='mmps: person search')
    async def page() -> None:
        ui.add_css(STYLE)
        ui.colors(primary='#0f766e')
        with ui.header().classes('header'):
            ui.html('Person search', tag='h1').classes('grow')
            about = ui.label()
            button = ui.button('Add pictures', icon='add_photo_alternate').props(
                'no-caps unelevated color=white text-color=primary'
            )
        with ui.element('main').classes('areas'):
            scene = SceneArea(service, lambda person: matches.choose(person))
            matches = MatchesArea(service, scene.open_source)

        def say_size() -> None:
            name = Path(service.gallery.uri).name
            about.text = f'{name} · persons: {service.persons} · pictures and videos: {len(service.sources)}'

        async def refresh() -> None:
            say_size()
            was_empty = not scene.select.options
            scene.list_scenes()
            if was_empty:
                await scene.open_first()
            await matches.run()

        button.on_click(AddingArea(service, refresh).dialog.open)
        say_size()
        await ui.context.client.connected()
        await scene.open_first()

    ui.run_with(app, favicon=FAVICON, language='en-GB', dark=None, tailwind=False, show_welcome_message=False)
    return app


def serve(service: SearchService, host: str, port: int, auth: tuple[str, str] | None) -> None:
    """Serves the page until Ctrl-C, and prints its URL.

    Args:
        service: The model and the gallery; closed at the end.
        host: Address to listen on.
        port: 0 = any that is free.
        auth: User and password, or None.

    Raises:
        OSError: The address cannot be used.
    """
    is_local = host in LOOPBACK
    app = Guard(build_page(service), LOOPBACK if is_local else (), auth, max_bytes=MAX_BYTES + 2**20)
    config = uvicorn.Config(app, log_level='warning', ws_max_size=2**20, timeout_graceful_shutdown=3)
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
    name = f'[{host}]' if ':' in host else host
    print(f'http://{name}:{listening.getsockname()[1]}  (Ctrl-C stops it)', flush=True)
    if not is_local and auth is None:
        print('warning: whoever reaches this address sees the gallery; --auth asks for a password', flush=True)
    try:
        uvicorn.Server(config).run([listening])
    except KeyboardInterrupt:  # uvicorn stops, and then raises it again
        print('stopped')
