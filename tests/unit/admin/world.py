"""The administrative half of a broker, in memory: real controller, real SQLite, real handlers, logs that only count.

`AdminWorld.ask` runs a handler and returns what a client would decode; `serve` puts it behind a socket.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from broker.cluster.controller import Controller, ImageChange, LogToOpen, settle_cluster_id
from broker.cluster.image import BrokerEndpoint, ClusterImage
from broker.cluster.store import ClusterStore
from broker.handlers import (
    alter_configs,
    create_partitions,
    create_topics,
    delete_topics,
    describe_cluster,
    describe_configs,
    incremental_alter_configs,
    metadata,
)
from broker.settings import Settings, settings_of
from protocol.apis import SERVED, api_versions_response
from protocol.headers import frame_prefix, parse_request_header
from protocol.messages import decode_request, decode_response, encode_request, encode_response
from s3stream.meta.sqlite import InlineRunner, SqliteDatabase
from s3stream.meta.store import MetaStore
from s3stream.ports import Database
from s3stream.supervisor import Supervisor

Handler = Callable[[Any, Any], Awaitable[Mapping[str, Any] | bytes]]

HANDLERS: dict[int, Handler] = {
    3: metadata.handle,
    19: create_topics.handle,
    20: delete_topics.handle,
    32: describe_configs.handle,
    33: alter_configs.handle,
    37: create_partitions.handle,
    44: incremental_alter_configs.handle,
    60: describe_cluster.handle,
}


_UNASKED: dict[int, dict[str, Any]] = {
    3: {
        "allow_auto_topic_creation": False,
        "include_cluster_authorized_operations": False,
        "include_topic_authorized_operations": False,
    },
    60: {"include_cluster_authorized_operations": False, "include_fenced_brokers": False},
}
"""Fields that no test cares about."""


class CountingHost:
    """A `PartitionHost` that gives each stream a higher epoch at each opening; `failures` come first."""

    def __init__(self) -> None:
        self.epochs: dict[int, int] = {}
        self.dropped: list[int] = []
        self.failures: list[Exception] = []
        self.opened: list[LogToOpen] = []

    async def open_new(self, logs: Sequence[LogToOpen]) -> Mapping[int, int]:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.opened += logs
        for log in logs:
            self.epochs[log.stream_id] = self.epochs.get(log.stream_id, 0) + 1
        return {log.stream_id: self.epochs[log.stream_id] for log in logs}

    async def drop(self, stream_ids: Sequence[int]) -> None:
        self.dropped += stream_ids


class AdminWorld:
    """Also the `services` of the handlers."""

    def __init__(self, settings: Settings, database: Database, host: CountingHost) -> None:
        self.settings = settings
        self.host = host
        self.crashes: list[BaseException] = []
        self.supervisor = Supervisor(lambda _name, error: self.crashes.append(error))
        self.changes: list[ImageChange] = []
        self.handlers = dict(HANDLERS)
        self.store = ClusterStore(database, random.Random(1), pause_ms=0)
        self.cluster = Controller(
            store=self.store,
            settings=settings,
            host=host,
            endpoint=BrokerEndpoint(settings.broker.node_id, "127.0.0.1", 9092),
            clock=SimpleNamespace(now_ms=lambda: 1_700_000_000_000),
            rng=random.Random(2),
            supervisor=self.supervisor,
        )
        self.cluster.subscribe(self.changes.append)

    @property
    def image(self) -> ClusterImage:
        return self.cluster.image

    async def frame(self, request: bytes) -> bytes:
        """The answer to one request frame (without its size), as the dispatcher makes it."""
        header = parse_request_header(memoryview(request))
        key, version, number = header.api_key, header.api_version, header.correlation_id
        if key == 18:
            return api_versions_response(version, number)
        body = decode_request(key, version, memoryview(request), header.body_offset)
        answer = await self.handlers[key](self, SimpleNamespace(api_key=key, api_version=version, body=body))
        if isinstance(answer, bytes):
            return frame_prefix(key, version, number, len(answer)) + answer
        return encode_response(key, version, number, answer)

    async def ask(self, api_key: int, body: Mapping[str, Any], version: int | None = None) -> Any:
        """The decoded answer to one request, in the latest version unless told."""
        version = SERVED[api_key].max_version if version is None else version
        body = {**_UNASKED.get(api_key, {}), **body}
        answer = await self.frame(encode_request(api_key, version, 7, "test", body)[4:])
        return decode_response(api_key, version, answer[4:])[1]

    async def create(self, *names: str, **fields: Any) -> None:
        """Topics that must come into being."""
        topics = [new_topic(name, **fields) for name in names]
        answer = await self.ask(19, {"topics": topics, "timeout": 1000, "validate_only": False})
        assert [topic.error_code for topic in answer.topics] == [0] * len(names), answer

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Behind a socket; the bootstrap address."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    (size,) = struct.unpack(">i", await reader.readexactly(4))
                    writer.write(await self.frame(await reader.readexactly(size)))
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.cluster.advertise(BrokerEndpoint(self.settings.broker.node_id, "127.0.0.1", port))
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.close()
            await server.wait_closed()


def new_topic(
    name: str,
    partitions: int = -1,
    factor: int = -1,
    assignments: Sequence[tuple[int, Sequence[int]]] = (),
    configs: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """One topic of a CreateTopics request."""
    return {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": factor,
        "assignments": [{"partition_index": index, "broker_ids": list(ids)} for index, ids in assignments],
        "configs": [{"name": key, "value": value} for key, value in (configs or {}).items()],
    }


@asynccontextmanager
async def admin_world(
    values: Mapping[str, object] | None = None, database: SqliteDatabase | None = None, host: CountingHost | None = None
) -> AsyncIterator[AdminWorld]:
    """A started world; over `database` and `host` it continues what another one left."""
    own = database is None
    database = database or SqliteDatabase(":memory:", InlineRunner())
    await MetaStore(database).migrate()
    world = AdminWorld(settings_of(values or {}), database, host or CountingHost())
    try:
        await world.store.migrate()
        await settle_cluster_id(world.store, world.settings.broker.cluster_id, random.Random(3), 1)
        await world.cluster.start()
        await world.cluster.open_logs()
        yield world
    finally:
        await world.supervisor.close()
        if own:
            await database.close()
    assert not world.crashes
