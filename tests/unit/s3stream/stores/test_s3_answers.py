"""The S3 store before a server that answers badly: each kind as the libraries really raise it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from s3stream.errors import AlreadyExists, Invalid, NotFound, OutcomeUnknown, Retry, StreamError
from s3stream.stores.s3 import S3ObjectStore
from s3stream.stores.settings import Credentials, S3Location, StoreSettings

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def store_before(handler: Handler, timeout_ms: int = 5000) -> AsyncIterator[S3ObjectStore]:
    """An S3 store whose server hands each request to `handler`; counts must not matter: nothing is repeated."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    location = S3Location(
        bucket="bucket",
        prefix="p/",
        endpoint=f"http://127.0.0.1:{port}",
        region="r",
        path_style=True,
        create_bucket=False,
    )
    store = S3ObjectStore(location, Credentials("a", "b", None), StoreSettings(request_timeout_ms=timeout_ms))
    try:
        yield store
    finally:
        await store.close()
        server.close()


def answering(status: int, code: str = "", headers: str = "", seen: list[bytes] | None = None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        body = f"<Error><Code>{code}</Code></Error>" if code else ""
        writer.write(
            f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()

    return handler


async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def never_answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def half_a_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: x\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\nabc"
    )
    await writer.drain()


async def kinds(store: S3ObjectStore) -> list[type[BaseException]]:
    """What a put, a put-if-absent and a get raise."""
    calls = (store.put("k", [b"x"]), store.put("k", [b"x"], if_absent=True), store.get("k"))
    raised: list[type[BaseException]] = []
    for call in calls:
        with pytest.raises(StreamError) as info:
            await call
        raised.append(type(info.value))
    return raised


@pytest.mark.parametrize(("handler", "expected"), [
    (answering(503, "SlowDown"), [Retry, Retry, Retry]),
    (answering(500, "InternalError"), [OutcomeUnknown, OutcomeUnknown, Retry]),
    (answering(403, "AccessDenied"), [Invalid, Invalid, Invalid]),
    (answering(401), [Invalid, Invalid, Invalid]),
    (answering(409, "ConditionalRequestConflict"), [Retry, AlreadyExists, Retry]),
    (answering(412, "PreconditionFailed"), [Invalid, AlreadyExists, Invalid]),
    (answering(404, "NoSuchBucket"), [Invalid, Invalid, Invalid]),
    (answering(404, "NoSuchKey"), [NotFound, NotFound, NotFound]),
    (hang_up, [OutcomeUnknown, OutcomeUnknown, Retry]),
])  # fmt: skip
async def test_answers(handler: Handler, expected: list[type[BaseException]]) -> None:
    async with store_before(handler) as store:
        assert await kinds(store) == expected


async def test_no_answer_has_a_time_limit() -> None:
    async with store_before(never_answer, timeout_ms=200) as store:
        assert await kinds(store) == [OutcomeUnknown, OutcomeUnknown, Retry]


async def test_short_body_is_retry() -> None:
    async with store_before(half_a_body) as store:
        with pytest.raises(Retry):
            await store.get("k")


async def test_refused_connection_is_retry() -> None:
    location = S3Location(
        bucket="bucket", prefix="", endpoint="http://127.0.0.1:1", region="r", path_style=True, create_bucket=False
    )
    store = S3ObjectStore(location, Credentials("a", "b", None), StoreSettings(request_timeout_ms=2000))
    assert await kinds(store) == [Retry, Retry, Retry]
    with pytest.raises(Retry):
        await store.start()
    await store.close()


async def test_requests_are_sent_once_unsigned_and_conditional() -> None:
    seen: list[bytes] = []
    async with store_before(answering(500, "InternalError", seen=seen)) as store:
        await kinds(store)
    heads = [head.decode().lower() for head in seen]
    assert len(heads) == 3
    assert heads[0].startswith("put /bucket/p/k ")
    assert all("x-amz-content-sha256: unsigned-payload" in head for head in heads[:2])
    assert ["if-none-match: *" in head for head in heads] == [False, True, False]
