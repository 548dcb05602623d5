"""Who gets through to the page: the right host, the right password, no other site's page, and no endless upload."""

import base64

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from mmps.page import guard
from mmps.page.guard import COOKIE, Guard, read_auth


@pytest.fixture
def client(monkeypatch):
    """client(**arguments of the guard) -> a client of a page that answers with the size of the request."""
    monkeypatch.setattr(guard, 'WRONG_PASSWORD_DELAY', 0.0)

    async def size(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    routes = [Route('/{path:path}', size, methods=['GET', 'POST']), WebSocketRoute('/socket', echo)]

    def make(**arguments):
        return TestClient(Guard(Starlette(routes=routes), **arguments), base_url='http://localhost:8080')

    return make


def basic(user_and_password: str) -> dict[str, str]:
    return {'Authorization': 'Basic ' + base64.b64encode(user_and_password.encode()).decode()}


def test_without_the_password_nothing_is_answered(client):
    page = client(auth=('me', 'sésame:1'))
    wrong = [
        {},
        basic('me:wrong'),
        basic('you:sésame:1'),
        basic(''),
        {'Authorization': 'Basic !'},
        {'Authorization': 'Bearer x'},
    ]
    for headers in [*wrong, {'Cookie': f'{COOKIE}=guess'}, {'Cookie': f'{COOKIE}='}]:
        for path in ('/', '/scene/0/0.jpg', '/_nicegui/static/x.js'):
            answer = page.get(path, headers=headers)
            assert answer.status_code == 401 and 'Basic' in answer.headers['WWW-Authenticate'] and COOKIE not in answer.cookies
        with pytest.raises(WebSocketDisconnect), page.websocket_connect('/socket', headers=headers):
            pass


def test_with_the_password_comes_a_cookie_that_opens_the_socket(client):
    page = client(auth=('me', 'sésame:1'))
    answer = page.get('/', headers=basic('me:sésame:1'))
    assert answer.status_code == 200
    cookie = answer.headers['Set-Cookie']
    assert 'HttpOnly' in cookie and 'SameSite=Strict' in cookie
    with page.websocket_connect('ws://localhost:8080/socket') as socket:  # the client keeps the cookie
        socket.send_text('hello')
        assert socket.receive_text() == 'hello'
    assert page.get('/scene/0/0.jpg').status_code == 200


def test_another_sites_page_and_another_name_are_refused(client):
    page = client(hosts=('localhost', '127.0.0.1', '::1'))
    assert page.get('/', headers={'Origin': 'http://localhost:8080'}).status_code == 200
    assert page.get('/', headers={'Host': '[::1]:8080'}).status_code == 200
    for headers in ({'Origin': 'http://evil.example'}, {'Origin': 'null'}, {'Origin': 'http://localhost:9090'}):
        assert page.post('/', headers=headers).status_code == 403
        with pytest.raises(WebSocketDisconnect), page.websocket_connect('/socket', headers=headers):
            pass
    for host in ('evil.example', 'localhost.evil.example:8080', ''):
        assert page.get('/', headers={'Host': host}).status_code == 421
    assert client().get('/', headers={'Host': 'pc.local'}).status_code == 200


def test_a_request_is_not_longer_than_it_may_be(client):
    page = client(max_bytes=1000)
    assert page.post('/', content=bytes(1000)).text == '1000'
    assert page.post('/', content=bytes(1001)).status_code == 413
    assert page.post('/', content=(bytes(300) for _ in range(4))).status_code == 413  # without a Content-Length


def test_the_browser_may_load_from_this_server_only(client):
    policy = client().get('/').headers['Content-Security-Policy']
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and 'http' not in policy


def test_the_password_is_the_first_line_of_a_file(tmp_path):
    (tmp_path / 'password').write_text('open: sesame\nnot this\n')
    (tmp_path / 'empty').write_text('\nsesame')
    assert read_auth(f'me:{tmp_path}/password') == ('me', 'open: sesame')
    for text in ('me', 'me:', f':{tmp_path}/password', f'me:{tmp_path}/empty'):
        with pytest.raises(ValueError, match='--auth'):
            read_auth(text)
    with pytest.raises(FileNotFoundError):
        read_auth(f'me:{tmp_path}/nothing')
