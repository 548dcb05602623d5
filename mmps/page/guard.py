"""What stands between the network and the page: hosts, password, the size of a request, and what a browser may load."""

import asyncio
import base64
import binascii
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = 'mmps-page'
WRONG_PASSWORD_DELAY = 1.0  # seconds
RESPONSE_HEADERS = {
    # Whatever the page contains, the browser asks nobody but this server.
    'Content-Security-Policy': "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
}


class Guard:
    """Lets through what the rules allow, for pages, files and web sockets alike.

    - The ``Host`` must be one of ``hosts``: another site's name that leads to this address gets nothing.
    - A request that another site's page sends is refused (its ``Origin`` is not this host).
    - With ``auth``, a request needs the password by HTTP's basic authentication, or the cookie that it gets with it: some
      browsers do not send a password with a web socket.
    - A request has at most ``max_bytes``.

    Args:
        app: The page.
        hosts: Names under which the page may be called; empty = any.
        auth: User and password.
        max_bytes: Largest request body.
    """

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str] = (), auth: tuple[str, str] | None = None, max_bytes: int = 32 * 2**20
    ) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.auth = None if auth is None else ':'.join(auth).encode()
        self.max_bytes = max_bytes
        self.token = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] not in ('http', 'websocket'):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get('host', '')
        origin = headers.get('origin')
        if self.hosts and urlsplit(f'//{host}').hostname not in self.hosts:
            await _refuse(scope, receive, send, 421, f'This page is not called {host}.')
        elif origin is not None and urlsplit(origin).netloc != host:
            await _refuse(scope, receive, send, 403, 'This request comes from a page of another site.')
        elif not self._knows(headers):
            if 'authorization' in headers:
                await asyncio.sleep(WRONG_PASSWORD_DELAY)
            realm = {'WWW-Authenticate': 'Basic realm="mmps", charset="UTF-8"'}
            await _refuse(scope, receive, send, 401, 'A password is needed.', realm)
        elif int(headers.get('content-length', '0')) > self.max_bytes:
            await _refuse(scope, receive, send, 413, f'A request has at most {self.max_bytes} bytes.')
        else:
            await self._forward(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        """Tells whether a request has the password or the cookie."""
        if self.auth is None:
            return True
        scheme, _, code = headers.get('authorization', '').partition(' ')
        try:
            given = base64.b64decode(code, validate=True) if scheme.lower() == 'basic' else b''
            cookies = SimpleCookie(headers.get('cookie', ''))
        except (binascii.Error, CookieError):
            return False
        token = cookies[COOKIE].value if COOKIE in cookies else ''
        return secrets.compare_digest(given, self.auth) or secrets.compare_digest(token.encode(), self.token.encode())

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get('body', b'')) if message['type'] == 'http.request' else 0
            if received > self.max_bytes:
                raise HTTPException(413, f'A request has at most {self.max_bytes} bytes.')
            return message

        async def add_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                headers.update(RESPONSE_HEADERS)
                if self.auth is not None and scope['path'] == '/':
                    headers.append('Set-Cookie', f'{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/')
            await send(message)

        await self.app(scope, count, add_headers)


async def _refuse(
    scope: Scope, receive: Receive, send: Send, status: int, reason: str, headers: dict[str, str] | None = None
) -> None:
    if scope['type'] == 'websocket':
        await receive()  # the handshake, which a close answers with 403
        await send({'type': 'websocket.close', 'code': 1008})
    else:
        await PlainTextResponse(reason, status, headers)(scope, receive, send)


def read_auth(text: str) -> tuple[str, str]:
    """Reads ``USER:PASSWORD_FILE``: the password is the file's first line.

    Raises:
        ValueError: A part is missing, or the file's first line is empty.
        OSError: The file cannot be read.
    """
    user, colon, path = text.partition(':')
    if not user or not colon or not path:
        raise ValueError(f'--auth: expected USER:PASSWORD_FILE, got {text!r}')
    password = Path(path).read_text(encoding='utf-8').partition('\n')[0].strip()
    if not password:
        raise ValueError(f'--auth: {path}: expected a password in the first line')
    return user, password
