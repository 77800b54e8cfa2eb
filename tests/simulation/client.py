"""A small deterministic client: one connection on the wire protocol; `requests.py` has what is sent over it.

Uses only the running loop and the codecs of `protocol`. Tells apart what was surely not sent, what was answered, and
what is unknown.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

from protocol.messages import decode_response, encode_request
from tests.simulation.requests import VERSIONS


class NotSent(ConnectionError):
    """The request never left: surely without effect."""


class AnswerLost(ConnectionError):
    """The request was sent and no answer came: the effect is unknown."""


class _Wire(asyncio.Protocol):
    """Splits the answers off the stream and gives each to its waiter."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.pending: dict[int, asyncio.Future[bytes]] = {}
        self._unread = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"expected a stream transport, got {type(transport).__qualname__}")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while len(self._unread) >= 4:
            (size,) = struct.unpack_from(">i", self._unread)
            if len(self._unread) < 4 + size:
                return
            frame = bytes(self._unread[4 : 4 + size])
            del self._unread[: 4 + size]
            (correlation_id,) = struct.unpack_from(">i", frame)
            waiter = self.pending.pop(correlation_id)
            if not waiter.done():
                waiter.set_result(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        pending, self.pending = self.pending, {}
        for waiter in pending.values():
            if not waiter.done():
                waiter.set_exception(AnswerLost(f"connection lost: {exc!r}"))


class Client:
    """One connection to a broker, made again on demand. Answers are awaited as long as `timeout_s`."""

    def __init__(self, name: str, host: str, port: int, timeout_s: float = 10.0) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.timeout_s = timeout_s
        self._wire: _Wire | None = None
        self._correlation_id = 0

    async def connect(self) -> None:
        """Raises NotSent when the broker cannot be reached."""
        if self._usable() is not None:
            return
        try:
            _, self._wire = await asyncio.get_running_loop().create_connection(_Wire, self.host, self.port)
        except OSError as error:
            raise NotSent(f"connect to {self.host}:{self.port}: {error}") from error

    def _usable(self) -> _Wire | None:
        wire = self._wire
        if wire is None or wire.transport is None or wire.transport.is_closing():
            return None
        return wire

    def send(self, api_key: int, body: Mapping[str, Any], version: int | None = None) -> asyncio.Future[Any]:
        """Write one request now, on the open connection; await the future for the answer. NotSent if there is none."""
        version = VERSIONS[api_key] if version is None else version
        wire = self._write(api_key, body, version)
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        wire.pending[self._correlation_id] = waiter
        return asyncio.get_running_loop().create_task(self._answer(api_key, version, waiter))

    def send_blind(self, api_key: int, body: Mapping[str, Any]) -> None:
        """Write one request that is never answered: Produce with acks=0. NotSent without a connection."""
        self._write(api_key, body, VERSIONS[api_key])

    def _write(self, api_key: int, body: Mapping[str, Any], version: int) -> _Wire:
        wire = self._usable()
        if wire is None or wire.transport is None:
            raise NotSent("not connected")
        self._correlation_id += 1
        wire.transport.write(encode_request(api_key, version, self._correlation_id, self.name, body))
        return wire

    async def _answer(self, api_key: int, version: int, waiter: asyncio.Future[bytes]) -> Any:
        try:
            async with asyncio.timeout(self.timeout_s):
                frame = await waiter
        except TimeoutError as error:
            self.abort()  # a late answer would be taken for the next one's by a client that reuses the connection
            raise AnswerLost("timed out") from error
        _, entity = decode_response(api_key, version, frame)
        return entity

    async def request(self, api_key: int, body: Mapping[str, Any], version: int | None = None) -> Any:
        await self.connect()
        return await self.send(api_key, body, version)

    def abort(self) -> None:
        if self._wire is not None and self._wire.transport is not None:
            self._wire.transport.abort()
        self._wire = None
