"""The HTTP server: what it answers, what it refuses, and that a busy port costs pages and not the broker."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable
from http import HTTPStatus

import pytest

from broker.health import LoopLag, Readiness, health_page, readiness_page
from broker.http import MAX_CONNECTIONS, MAX_REQUEST_BYTES, HttpServer, Page, respond, serve_http

PAGES = {"/ok": lambda: Page(HTTPStatus.OK, b"fine\n")}


@pytest.mark.parametrize(
    ("head", "status", "keep", "body"),
    [
        (b"GET /ok HTTP/1.1\r\nHost: x", 200, True, True),
        (b"GET /ok?a=b HTTP/1.1", 200, True, True),
        (b"HEAD /ok HTTP/1.1", 200, True, False),
        (b"GET /ok HTTP/1.0", 200, False, True),
        (b"GET /ok HTTP/1.0\r\nConnection: keep-alive", 200, True, True),
        (b"GET /ok HTTP/1.1\r\nConnection: close", 200, False, True),
        (b"GET /none HTTP/1.1", 404, True, True),
        (b"POST /ok HTTP/1.1\r\nContent-Length: 3", 405, False, True),
        (b"GET /ok HTTP/1.1\r\nContent-Length: 3", 400, False, True),
        (b"GET /ok HTTP/1.1\r\nTransfer-Encoding: chunked", 400, False, True),
        (b"GET /ok", 400, False, True),
        (b"GET /ok HTTP/2", 400, False, True),
        (b"GET /ok HTTP/1.1\r\nno colon", 400, False, True),
        (b"\x16\x03\x01\xff", 400, False, True),
        (b"", 400, False, True),
    ],
)
def test_answers(head: bytes, status: int, keep: bool, body: bool) -> None:
    page, kept, with_body = respond(head, PAGES)
    assert (page.status, kept, with_body) == (status, keep, body)


@pytest.fixture
async def server() -> AsyncIterator[tuple[HttpServer, int]]:
    found = await serve_http("127.0.0.1", 0, PAGES)
    assert found is not None
    yield found
    await found[0].close()


async def closed(answer: Awaitable[bytes]) -> bool:
    """True if the peer closed the connection without a word."""
    try:
        return await answer == b""
    except ConnectionError:
        return True


async def ask(port: int, *requests: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        writer.write(request)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_requests_in_pieces_and_several_on_one_connection(server: tuple[HttpServer, int]) -> None:
    pieces = [b"GET /ok HT", b"TP/1.1\r\n\r\nGET /none HTTP/1.1\r\n\r\nHEAD /ok HTTP/1.1\r\nConnection: close\r\n\r\n"]
    answer = await ask(server[1], *pieces)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"404", b"200"]
    assert answer.count(b"fine\n") == 1
    assert answer.endswith(b"Connection: close\r\n\r\n")


async def test_a_head_without_end_is_cut_off(server: tuple[HttpServer, int]) -> None:
    answer = await ask(server[1], b"GET /" + b"x" * (MAX_REQUEST_BYTES + 1))
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_connections_are_bounded_and_dropped_at_the_end(server: tuple[HttpServer, int]) -> None:
    http, port = server
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
    await asyncio.sleep(0.05)
    assert len(http.connections) == MAX_CONNECTIONS
    assert await closed(ask(port, b"GET /ok HTTP/1.1\r\n\r\n"))
    await http.close()
    for reader, writer in held:
        assert await closed(reader.read())
        writer.close()
    await asyncio.sleep(0.05)
    assert not http.connections


async def test_a_busy_port_is_said_and_survived(
    server: tuple[HttpServer, int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "weir.http"):
        assert await serve_http("127.0.0.1", server[1], PAGES) is None
    assert caplog.records[0].message == "no metrics and no health pages"
    assert vars(caplog.records[0])["port"] == server[1]


async def test_loop_lag_is_seen() -> None:
    lag = LoopLag()
    lag.start()
    assert health_page(lag, 100).status == 200
    lag.last_s = 0.2
    assert health_page(lag, 100) == (503, b"event loop is 200 ms late\n", "text/plain; charset=utf-8")
    lag.close()


async def test_loop_lag_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.health.INTERVAL_S", 0.01)
    lag = LoopLag()
    lag.start()
    end = asyncio.get_running_loop().time() + 0.08
    while asyncio.get_running_loop().time() < end:
        pass  # the loop cannot run its timers
    await asyncio.sleep(0.03)
    lag.close()
    assert lag.max_s > 0.05


def test_readiness_gives_every_reason() -> None:
    readiness = Readiness()
    reasons: dict[str, str | None] = {"logs": "12 not open", "store": None, "wal": "full"}
    for name in reasons:
        readiness.add(name, lambda name=name: reasons[name])  # type: ignore[misc]
    page = readiness_page(readiness)
    assert (page.status, page.body) == (503, b"logs: 12 not open\nwal: full\n")
    reasons.update(logs=None, wal=None)
    assert readiness_page(readiness).status == 200
