"""A tiny HTTP/1.1 server for metrics and health: GET and HEAD of a few pages, on the broker's own event loop.

Bounded: 8 KiB of request, MAX_CONNECTIONS at one time, closed after IDLE_TIMEOUT_S. A page is a plain function; it
runs on the loop, so it must be quick. No bodies are read: a request that announces one is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, cast

_log = logging.getLogger("weir.http")

MAX_REQUEST_BYTES = 8192
MAX_CONNECTIONS = 64
IDLE_TIMEOUT_S = 60.0

TEXT = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """An answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT


Pages = Mapping[str, Callable[[], Page]]
"""By path, without query."""


class HttpServer:
    """Owns the listening socket and its connections."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.connections: dict[_Connection, None] = {}
        self._server: asyncio.AbstractServer | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port (of use when asked for port 0). OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self, loop), host, port, backlog=64)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop what is connected."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.drop()
        await self._server.wait_closed()
        self._server = None


async def serve_http(host: str, port: int, pages: Pages) -> tuple[HttpServer, int] | None:
    """The running server and its port. A port that is taken costs the pages, not the broker: it is said, once."""
    server = HttpServer(pages)
    try:
        bound = await server.start(host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        _log.error("no metrics and no health pages", extra={"host": host, "port": port, "reason": reason})
        return None
    return server, bound


class _Connection(asyncio.Protocol):
    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        if len(self._server.connections) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self._server.connections[self] = None
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.pop(self, None)
        if self._idle is not None:
            self._idle.cancel()

    def drop(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _watch(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(IDLE_TIMEOUT_S, self.drop)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        self._received += data
        while transport is not None and not transport.is_closing():
            head, end, rest = bytes(self._received).partition(b"\r\n\r\n")
            if not end:
                if len(self._received) > MAX_REQUEST_BYTES:
                    self._answer(transport, _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), keep=False, body=True)
                return
            self._received = bytearray(rest)
            self._watch()
            page, keep, body = respond(head, self._server.pages)
            self._answer(transport, page, keep=keep, body=body)

    def _answer(self, transport: asyncio.Transport, page: Page, *, keep: bool, body: bool) -> None:
        lines = [
            f"HTTP/1.1 {page.status.value} {page.status.phrase}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(page.body)}",
            "Cache-Control: no-store",
            "Connection: " + ("keep-alive" if keep else "close"),
        ]
        if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append("Allow: GET, HEAD")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        transport.write(head + page.body if body else head)
        if not keep:
            transport.close()


def respond(head: bytes, pages: Pages) -> tuple[Page, bool, bool]:
    """The answer to one request head (without its empty line): page, keep the connection, send the body (pure but for
    the page itself)."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return _plain(HTTPStatus.BAD_REQUEST), False, True
    method, target, version = parts
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            return _plain(HTTPStatus.BAD_REQUEST), False, True
        headers[name.strip().lower()] = value.strip().lower()
    if method not in ("GET", "HEAD"):
        return _plain(HTTPStatus.METHOD_NOT_ALLOWED), False, True
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return _plain(HTTPStatus.BAD_REQUEST), False, True
    wish = headers.get("connection", "")
    keep = wish == "keep-alive" if version == "HTTP/1.0" else wish != "close"
    page = pages.get(target.partition("?")[0])
    return (page() if page is not None else _plain(HTTPStatus.NOT_FOUND)), keep, method == "GET"


def _plain(status: HTTPStatus) -> Page:
    return Page(status, f"{status.phrase}\n".encode())
