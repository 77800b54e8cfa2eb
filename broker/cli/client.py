"""A small Kafka client for administration: one connection per broker, versions negotiated, one request at a time each.

Works against any broker of Kafka 2.1 or newer. `call` sends to the bootstrap broker, `call_on` to a given one.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from broker.settings.keys import BadValue, parse_listener
from protocol.apis import API_VERSIONS, SERVED
from protocol.errors import ErrorCode, MalformedRequest
from protocol.messages import decode_response, encode_request

CLIENT_ID = "weir-cli"
MAX_RESPONSE_BYTES = 256 << 20


class ClientError(Exception):
    """What a user of the command is told: nobody answers, the answer makes no sense, or the broker refused."""


class Refusal(ClientError):
    """The broker answered with an error code."""

    def __init__(self, code: ErrorCode, what: str, message: str | None = None) -> None:
        super().__init__(f"{what}: {message or code.name} ({code.name})" if message else f"{what}: {code.name}")
        self.code = code


def check(code: ErrorCode | int, what: str, message: str | None = None) -> None:
    """Raise Refusal unless the code is NONE."""
    if code != ErrorCode.NONE:
        raise Refusal(ErrorCode(code), what, message)


def parse_bootstrap(text: str) -> list[tuple[str, int]]:
    """`host:port,host:port`; ClientError for anything else."""
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        try:
            _, host, port = parse_listener(item if "://" in item else f"PLAINTEXT://{item}")
        except BadValue:
            raise ClientError(f"expected host:port as the address of a broker, got {item!r}") from None
        found.append((host or "127.0.0.1", port))
    if not found:
        raise ClientError("no broker address: give --bootstrap host:port")
    return found


class Connection:
    """One connection to one broker."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.address = f"{host}:{port}"
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._ranges: dict[int, tuple[int, int]] = {}
        self._number = 0
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Connect and learn the versions. ClientError when nobody, or nobody who speaks Kafka, answers."""
        try:
            async with asyncio.timeout(self._timeout_s):
                self._streams = await asyncio.open_connection(self._host, self._port)
        except TimeoutError:
            raise ClientError(f"no answer from {self.address} within {self._timeout_s:g} s") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise ClientError(f"cannot reach {self.address}: {reason}") from None
        answer = await self._exchange(API_VERSIONS, 0, {})
        check(answer.error_code, f"versions of {self.address}")
        self._ranges = {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys}

    def version(self, api_key: int, cap: int | None = None) -> int:
        """The highest version that both sides know and that is at most `cap`. ClientError when there is none."""
        ours = SERVED[api_key]
        low, high = self._ranges.get(api_key, (0, -1))
        chosen = min(high, ours.max_version if cap is None else min(cap, ours.max_version))
        if chosen < max(low, ours.served_from):
            raise ClientError(f"{self.address} does not serve {ours.name} in a version known here")
        return chosen

    async def call(self, api_key: int, body: Mapping[str, Any], cap: int | None = None) -> Any:
        """The response entity. ClientError when the connection fails."""
        return await self._exchange(api_key, self.version(api_key, cap), body)

    async def _exchange(self, api_key: int, version: int, body: Mapping[str, Any]) -> Any:
        name = SERVED[api_key].name
        async with self._turn:
            if self._streams is None:
                raise ClientError(f"the connection to {self.address} is closed")
            reader, writer = self._streams
            self._number += 1
            writer.write(encode_request(api_key, version, self._number, CLIENT_ID, body))
            try:
                async with asyncio.timeout(self._timeout_s):
                    await writer.drain()
                    (size,) = struct.unpack(">i", await reader.readexactly(4))
                    if not 4 <= size <= MAX_RESPONSE_BYTES:
                        raise ClientError(f"{self.address} does not speak Kafka: answer of {size} bytes")
                    data = await reader.readexactly(size)
            except TimeoutError:
                raise ClientError(f"no answer to {name} from {self.address} within {self._timeout_s:g} s") from None
            except (OSError, EOFError):
                raise ClientError(f"{self.address} closed the connection at {name}") from None
        try:
            number, entity = decode_response(api_key, version, data)
        except MalformedRequest as error:
            raise ClientError(f"{self.address} does not speak Kafka: {error}") from None
        if number != self._number:
            raise ClientError(f"{self.address} answered request {number} instead of {self._number}")
        return entity

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass  # the other side hung up first


class Client:
    """Connections to the brokers of one cluster. `async with Client("host:port") as client`."""

    def __init__(self, bootstrap: str, timeout_s: float = 10.0) -> None:
        self._addresses = parse_bootstrap(bootstrap)
        self._timeout_s = timeout_s
        self._first: Connection | None = None
        self._nodes: dict[int, Connection] = {}
        self._endpoints: dict[int, tuple[str, int]] = {}

    async def __aenter__(self) -> Self:
        problems = []
        for host, port in self._addresses:
            connection = Connection(host, port, self._timeout_s)
            try:
                await connection.open()
            except ClientError as error:
                await connection.close()
                problems.append(str(error))
                continue
            self._first = connection
            return self
        raise ClientError("; ".join(problems))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in (*self._nodes.values(), *((self._first,) if self._first is not None else ())):
            await connection.close()

    async def call(self, api_key: int, body: Mapping[str, Any], cap: int | None = None) -> Any:
        """Ask the bootstrap broker."""
        if self._first is None:
            raise ClientError("the client is not connected")
        return await self._first.call(api_key, body, cap)

    async def call_on(self, node_id: int, api_key: int, body: Mapping[str, Any], cap: int | None = None) -> Any:
        """Ask broker `node_id`, as the last `metadata` located it."""
        connection = self._nodes.get(node_id)
        if connection is None:
            if node_id not in self._endpoints:
                raise ClientError(f"broker {node_id} is not in the cluster")
            connection = Connection(*self._endpoints[node_id], self._timeout_s)
            await connection.open()
            self._nodes[node_id] = connection
        return await connection.call(api_key, body, cap)

    async def metadata(self, topics: Sequence[str] | None = None) -> Any:
        """Metadata of these topics, of all of them for None; never creates one."""
        asked = None if topics is None else [{"name": name, "topic_id": None} for name in topics]
        body = {
            "topics": asked,
            "allow_auto_topic_creation": False,
            "include_cluster_authorized_operations": False,
            "include_topic_authorized_operations": False,
        }
        answer = await self.call(3, body, 12)
        self._endpoints = {each.node_id: (each.host, each.port) for each in answer.brokers}
        return answer

    @property
    def node_ids(self) -> list[int]:
        """The brokers of the last `metadata`."""
        return sorted(self._endpoints)
