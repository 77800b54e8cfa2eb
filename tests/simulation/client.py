"""A small deterministic client: one connection on the wire protocol, and the requests that the workloads need.

Uses only the running loop and the codecs of `protocol`. Tells apart what was surely not sent, what was answered, and
what is unknown.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from protocol.messages import decode_response, encode_request

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 19, 22

VERSIONS = {
    PRODUCE: 9,
    FETCH: 12,
    LIST_OFFSETS: 7,
    METADATA: 12,
    API_VERSIONS: 3,
    CREATE_TOPICS: 7,
    INIT_PRODUCER_ID: 4,
}

EARLIEST, LATEST = -2, -1


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
        """Write one request now, on the open connection; await the result with `answer()`. NotSent if there is none."""
        wire = self._usable()
        if wire is None or wire.transport is None:
            raise NotSent("not connected")
        version = VERSIONS[api_key] if version is None else version
        self._correlation_id += 1
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        wire.pending[self._correlation_id] = waiter
        wire.transport.write(encode_request(api_key, version, self._correlation_id, self.name, body))
        return asyncio.get_running_loop().create_task(self._answer(api_key, version, waiter))

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


def produce_body(topic: str, partition: int, records: bytes, acks: int) -> Mapping[str, Any]:
    data = {"name": topic, "partition_data": [{"index": partition, "records": records}]}
    return {"transactional_id": None, "acks": acks, "timeout": 30_000, "topic_data": [data]}


def fetch_body(
    topic: str, offsets: Sequence[tuple[int, int]], *, max_wait_ms: int, max_bytes: int
) -> Mapping[str, Any]:
    """`offsets`: (partition, offset) pairs."""
    partitions = [
        {
            "partition": partition,
            "current_leader_epoch": -1,
            "fetch_offset": offset,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
            "partition_max_bytes": max_bytes,
        }
        for partition, offset in offsets
    ]
    return {
        "replica_id": -1,
        "max_wait": max_wait_ms,
        "min_bytes": 1,
        "max_bytes": max_bytes,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "topics": [{"topic": topic, "partitions": partitions}],
        "forgotten_topics_data": [],
        "rack_id": "",
    }


def list_offsets_body(topic: str, partition: int, timestamp: int) -> Mapping[str, Any]:
    wanted = {"partition_index": partition, "current_leader_epoch": -1, "timestamp": timestamp}
    return {"replica_id": -1, "isolation_level": 0, "topics": [{"name": topic, "partitions": [wanted]}]}


def create_topic_body(topic: str, partitions: int, configs: Mapping[str, str]) -> Mapping[str, Any]:
    wanted = {
        "name": topic,
        "num_partitions": partitions,
        "replication_factor": 1,
        "assignments": [],
        "configs": [{"name": name, "value": value} for name, value in configs.items()],
    }
    return {"topics": [wanted], "timeout": 30_000, "validate_only": False}


def init_producer_id_body() -> Mapping[str, Any]:
    return {"transactional_id": None, "transaction_timeout": 60_000, "producer_id": -1, "producer_epoch": -1}
