"""The coordinator service behind its handlers, over memory logs: requests and answers go through the real codecs."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from broker.groups.coordinator import GroupCoordinator
from broker.groups.log import MemoryCoordinatorLog
from broker.groups.settings import GroupSettings
from broker.handlers import (
    delete_groups,
    describe_groups,
    find_coordinator,
    heartbeat,
    join_group,
    leave_group,
    list_groups,
    offset_commit,
    offset_delete,
    offset_fetch,
    sync_group,
)
from protocol.headers import parse_request_header
from protocol.messages import decode_request, decode_response, encode_request, encode_response
from s3stream.supervisor import Supervisor

HANDLERS: dict[int, Any] = {
    8: offset_commit,
    9: offset_fetch,
    10: find_coordinator,
    11: join_group,
    12: heartbeat,
    13: leave_group,
    14: sync_group,
    15: describe_groups,
    16: list_groups,
    42: delete_groups,
    47: offset_delete,
}
TOPIC_ID = UUID(int=77)


class Topic(SimpleNamespace):
    name: str
    topic_id: UUID
    partition_count: int

    def partition(self, index: int) -> Any:
        return SimpleNamespace(leader_id=1, leader_epoch=0, stream_id=index)


class Image:
    """Topics and brokers as the handlers look at them."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.brokers = [SimpleNamespace(node_id=1, host="h", port=9)]
        self.add("topic", TOPIC_ID, 3)

    def add(self, name: str, topic_id: UUID, partitions: int) -> None:
        self.topics[name] = Topic(name=name, topic_id=topic_id, partition_count=partitions)

    def topic(self, name: str) -> Topic | None:
        return self.topics.get(name)

    def topic_by_id(self, topic_id: UUID) -> Topic | None:
        return next((topic for topic in self.topics.values() if topic.topic_id == topic_id), None)


class Bench:
    """`ask(key, version, **body)` is one request through codec, handler, codec."""

    def __init__(self, settings: GroupSettings | None = None) -> None:
        self.wall_ms = 1_000_000
        self.logs: dict[int, MemoryCoordinatorLog] = {}
        self.crashes: list[BaseException] = []
        self.supervisor = Supervisor(lambda name, error: self.crashes.append(error))
        self.image = Image()
        self.settings = settings or GroupSettings(offsets_topic_num_partitions=4, initial_rebalance_delay_ms=0)
        self.groups = GroupCoordinator(
            settings=self.settings,
            clock=self,
            rng=random.Random(5),
            supervisor=self.supervisor,
            open_log=self.open_log,
        )
        self.cluster = SimpleNamespace(ensure_internal=self._ensure_internal)

    def now_ms(self) -> int:
        return self.wall_ms

    def open_log(self, partition: int) -> MemoryCoordinatorLog:
        return self.logs.setdefault(partition, MemoryCoordinatorLog())

    async def _ensure_internal(self, name: str) -> Topic:
        if name not in self.image.topics:
            self.image.add(name, UUID(int=1), self.settings.offsets_topic_num_partitions)
        return self.image.topics[name]

    async def ask(self, key: int, version: int, /, **body: Any) -> Any:
        frame = memoryview(encode_request(key, version, 1, "cli", body))[4:]
        header = parse_request_header(frame)
        entity = decode_request(key, version, frame, header.body_offset)
        request = SimpleNamespace(
            api_key=key, api_version=version, correlation_id=1, client_id="cli", client_host="127.0.0.1", body=entity
        )
        answer = await HANDLERS[key].handle(self, request)
        return decode_response(key, version, encode_response(key, version, 1, answer)[4:])[1]

    async def close(self) -> None:
        await self.groups.close()
        await self.supervisor.close()
        assert self.crashes == []
