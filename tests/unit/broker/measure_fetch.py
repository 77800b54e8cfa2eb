"""`python -m tests.unit.broker.measure_fetch [PARTITIONS ...]`: the broker's CPU for one waiting fetch of a consumer.

A broker with everything in memory, connections without sockets. Every consumer names all its partitions in each request
(librdkafka knows no fetch sessions) and waits; one partition gets a batch, they are answered, and ask again
with the one offset changed. Printed: microseconds of CPU for a fetch request from its parsing to its answer, best of
several rounds; what the produce costs without consumers is taken off.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import uvloop

from broker.app import Broker
from broker.cluster.creation import TopicRequest
from broker.embedded import SMALL
from broker.net.connection import Connection
from broker.net.dispatch import Dispatcher
from broker.partitions.log import PartitionLog
from broker.services import Services
from protocol.messages import encode_request
from protocol.record_codec import Record, encode_batch

_CONSUMERS = 20
_ROUNDS = 5
_TOPIC = "measured"
_OFFSET = struct.Struct(">q")


class Sink:
    """The transport of a connection that nobody reads."""

    def __init__(self) -> None:
        self.writes = 0

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def write(self, data: object) -> None:
        self.writes += 1

    def writelines(self, data: object) -> None:
        self.writes += 1

    def close(self) -> None: ...

    def abort(self) -> None:
        raise RuntimeError("the broker refused the connection")


class Consumer:
    """One connection and the request it sends again and again, its offsets changed in place."""

    def __init__(self, services: Services, version: int, count: int) -> None:
        listener = SimpleNamespace(
            loop=asyncio.get_running_loop(), opened=lambda connection: None, lost=lambda connection: None
        )
        self.connection = Connection(cast("Any", listener))
        self.sink = Sink()
        self.connection.connection_made(cast("Any", self.sink))
        self.dispatch = Dispatcher(services)
        topic = services.partitions.by_key[_TOPIC]
        rows = [
            {"partition": index, "fetch_offset": _marker(index), "partition_max_bytes": 1 << 20}
            for index in range(count)
        ]
        body = {
            "max_wait": 60_000,
            "min_bytes": 1,
            "max_bytes": 50 << 20,
            "session_epoch": -1,
            "topics": [{"topic": _TOPIC, "topic_id": topic.topic_id, "partitions": rows}],
            "forgotten_topics_data": [],
        }
        self.frame = bytearray(encode_request(1, version, 1, "measure", body)[4:])
        self.places = [self.frame.index(_OFFSET.pack(_marker(index))) for index in range(count)]
        for index, place in enumerate(self.places):
            _OFFSET.pack_into(self.frame, place, topic.logs[index].high_watermark)  # type: ignore[union-attr]

    def ask(self) -> None:
        self.dispatch(self.connection, bytes(self.frame))


def _marker(index: int) -> int:
    return 0x5EED_0000_0000_0000 + index


async def turns(log_of: Callable[[int], PartitionLog], consumers: list[Consumer], cycles: int, count: int) -> float:
    """Microseconds of CPU for a cycle: every consumer asks, one partition gets a batch, all are answered."""
    loop = asyncio.get_running_loop()
    batch = bytes(encode_batch([Record(b"k", b"v" * 100, timestamp_ms=0)], 0))
    writes = [consumer.sink.writes for consumer in consumers]
    began = time.process_time()
    for cycle in range(cycles):
        for consumer in consumers:
            consumer.ask()
        index = cycle * 7 % count
        log = log_of(index)
        durable = loop.create_future()
        log.append(memoryview(bytearray(batch)), durable.set_result, 0)
        await durable
        while any(consumer.connection.waiting is not None for consumer in consumers):  # noqa: ASYNC110 - turns, not time
            await asyncio.sleep(0)
        for consumer in consumers:
            _OFFSET.pack_into(consumer.frame, consumer.places[index], log.high_watermark)
    spent = time.process_time() - began
    await asyncio.sleep(0)
    for consumer, before in zip(consumers, writes, strict=True):
        if consumer.sink.writes - before != cycles:
            raise RuntimeError(f"{consumer.sink.writes - before} answers to {cycles} requests")
    return spent / cycles * 1e6


async def measure(version: int, count: int) -> float:
    """Microseconds for a fetch request that names `count` partitions."""
    async with Broker({**SMALL, "cache.tail.bytes": 256 << 20}) as broker:
        services = broker.services
        assert services is not None
        await services.cluster.create_topics([TopicRequest(_TOPIC, count, 1)])
        topic = services.partitions.by_key[_TOPIC]

        def log_of(index: int) -> PartitionLog:
            log = topic.logs[index]
            assert log is not None
            return log

        cycles = max(20, min(400, 4_000 // count))
        alone = min([await turns(log_of, [], cycles, count) for _ in range(_ROUNDS)])
        consumers = [Consumer(services, version, count) for _ in range(_CONSUMERS)]
        asked = min([await turns(log_of, consumers, cycles, count) for _ in range(_ROUNDS)])
        for consumer in consumers:
            consumer.connection.connection_lost(None)
        return (asked - alone) / _CONSUMERS


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [1, 10, 100, 1000]
    for version in (11, 16):
        for count in counts:
            print(f"Fetch v{version}, {count:5} partitions: {uvloop.run(measure(version, count)):9.1f} us", flush=True)


if __name__ == "__main__":
    main()
