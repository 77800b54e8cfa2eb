"""Fetches that wait: what wakes them, what they then say, and that what is remembered between them is never stale.

A broker with everything in memory, connections without sockets. Each rule is tried with full requests by topic name,
by topic id, and in a session.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.app import Broker
from broker.cluster.creation import TopicRequest
from broker.embedded import SMALL
from broker.net.connection import Connection
from broker.net.dispatch import Dispatcher
from broker.partitions.log import PartitionLog
from broker.services import Services
from protocol.errors import ErrorCode
from protocol.messages import decode_response, encode_request
from protocol.record_codec import Record, encode_batch

BATCH = bytes(encode_batch([Record(b"k", b"v" * 50, timestamp_ms=0)], 0))
LONG_MS = 60_000
FULL, BY_ID, SESSION = (11, -1), (16, -1), (16, 0)
ALL = pytest.mark.parametrize("kind", [FULL, BY_ID, SESSION], ids=["full", "by id", "session"])


class Transport:
    def __init__(self) -> None:
        self.sent = bytearray()

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def write(self, data: Any) -> None:
        self.sent += data

    def writelines(self, buffers: Any) -> None:
        for data in buffers:
            self.sent += data

    def close(self) -> None: ...


class Consumer:
    """One connection; remembers the session that it was given."""

    def __init__(self, services: Services, kind: tuple[int, int]) -> None:
        listener: Any = SimpleNamespace(
            loop=asyncio.get_running_loop(), opened=lambda connection: None, lost=lambda connection: None, working={}
        )
        self.services = services
        self.version, self.session_epoch = kind
        self.session_id = 0
        self.connection = Connection(listener)
        self.transport = Transport()
        self.connection.connection_made(cast("Any", self.transport))
        self.dispatch = Dispatcher(services)

    def ask(
        self, topic: str, rows: list[Any], *, max_wait: int = LONG_MS, min_bytes: int = 1, isolation: int = 0
    ) -> None:
        """`rows`: (partition, offset) or whole rows."""
        found = self.services.partitions.by_key.get(topic)
        topic_id = bytes(16) if found is None else found.topic_id
        whole = [
            row if isinstance(row, dict) else {"partition": row[0], "fetch_offset": row[1], "partition_max_bytes": 9999}
            for row in rows
        ]
        body = {
            "max_wait": max_wait,
            "min_bytes": min_bytes,
            "max_bytes": 1 << 20,
            "isolation_level": isolation,
            "session_id": self.session_id,
            "session_epoch": self.session_epoch,
            "topics": [{"topic": topic, "topic_id": topic_id, "partitions": whole}] if rows else [],
            "forgotten_topics_data": [],
        }
        self.transport.sent.clear()
        self.dispatch(self.connection, encode_request(1, self.version, 1, "test", body)[4:])

    async def answer(self, turns: int = 50) -> dict[int, Any] | None:
        """Partition by index; None: it still waits. Kafka's order of answers in a full fetch is that of the request."""
        for _ in range(turns):
            if self.transport.sent:
                break
            await asyncio.sleep(0)
        else:
            return None
        response = decode_response(1, self.version, bytes(self.transport.sent[4:]))[1]
        assert getattr(response, "error_code", 0) == ErrorCode.NONE  # from version 7
        if self.session_epoch >= 0:
            assert response.session_id
            self.session_id = response.session_id
            self.session_epoch += 1
        rows = [row for topic in response.responses for row in topic.partitions]
        assert len({row.partition_index for row in rows}) == len(rows)
        return {row.partition_index: row for row in rows}

    async def caught_up(self, topic: str, offsets: list[int], **more: Any) -> None:
        """Wait with these offsets, after one request that said what there is."""
        rows = list(enumerate(offsets))
        self.ask(topic, rows, max_wait=0)
        assert set(await self.answer() or ()) == set(range(len(offsets)))
        self.ask(topic, [] if self.session_id else rows, **more)
        assert await self.answer(5) is None


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    async with Broker(SMALL) as broker:
        assert broker.services is not None
        yield broker.services


async def create(services: Services, topic: str, partitions: int = 3) -> list[PartitionLog]:
    await services.cluster.create_topics([TopicRequest(topic, partitions, 1)])
    return [log for log in services.partitions.by_key[topic].logs if log is not None]


async def delete(services: Services, topic: str) -> None:
    found = services.image.topic(topic)
    assert found is not None
    await services.cluster.delete_topics([found])


async def append(*logs: PartitionLog) -> None:
    """Appended in one turn; returns when all is durable."""
    loop = asyncio.get_running_loop()
    durable = []
    for log in logs:
        durable.append(loop.create_future())
        assert log.append(memoryview(bytearray(BATCH)), durable[-1].set_result, 0)[0] == ErrorCode.NONE
    await asyncio.gather(*durable)


@ALL
async def test_data_wakes_and_the_others_are_told_as_they_were(services: Services, kind: tuple[int, int]) -> None:
    logs = await create(services, "t")
    await append(logs[0])
    consumer = Consumer(services, kind)
    for round_ in range(3):
        await consumer.caught_up("t", [1, round_, 0]) if round_ == 0 else consumer.ask(
            "t", [(1, round_)] if kind is SESSION else [(0, 1), (1, round_), (2, 0)]
        )
        assert await consumer.answer(5) is None
        await append(logs[1])
        answer = await consumer.answer()
        assert answer is not None
        assert list(answer) == ([1] if kind is SESSION else [0, 1, 2])
        assert answer[1].records
        assert answer[1].high_watermark == round_ + 1
        if kind is not SESSION:
            assert [answer[0].high_watermark, answer[2].high_watermark] == [1, 0]
            assert not answer[0].records
            assert not answer[2].records


@ALL
async def test_what_is_durable_within_one_turn_is_answered_together(
    services: Services, kind: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = await create(services, "t")
    consumer = Consumer(services, kind)
    await consumer.caught_up("t", [0, 0, 0])
    await append(logs[0], logs[2])
    first = await consumer.answer()
    assert first is not None
    assert [index for index, row in first.items() if row.records] == [0, 2]
    # Two groups of the WAL, one turn of the loop.
    consumer.ask("t", [(0, 1), (2, 1)] if kind is SESSION else [(0, 1), (1, 0), (2, 1)])
    assert await consumer.answer(5) is None
    for log in (logs[0], logs[1]):
        await_none = log.append(memoryview(bytearray(BATCH)), None, 0)
        assert await_none[0] == ErrorCode.NONE
    told = [logs[0].stream, logs[1].stream]
    for stream in told:
        stream.durable_end = stream.next_offset
        logs[told.index(stream)].on_durable(stream)
        assert not consumer.transport.sent
    second = await consumer.answer(3)
    assert second is not None
    assert [index for index, row in second.items() if row.records] == [0, 1]


@ALL
async def test_min_bytes_counts_over_partitions_and_over_time(services: Services, kind: tuple[int, int]) -> None:
    logs = await create(services, "t")
    consumer = Consumer(services, kind)
    await consumer.caught_up("t", [0, 0, 0], min_bytes=len(BATCH) * 3)
    await append(logs[0])
    assert await consumer.answer(5) is None
    await append(logs[0])
    assert await consumer.answer(5) is None
    await append(logs[2])
    answer = await consumer.answer()
    assert answer is not None
    assert {index: len(row.records) for index, row in answer.items() if row.records} == {
        0: 2 * len(BATCH),
        2: len(BATCH),
    }
    rows = [(0, 2), (1, 0), (2, 1)]
    consumer.ask("t", rows[::2] if kind is SESSION else rows, min_bytes=len(BATCH) * 2)
    for more in (False, True):
        assert await consumer.answer(5) is None
        await append(logs[1])
        assert more == ((await consumer.answer(5)) is not None)


@ALL
async def test_too_little_at_the_first_look_counts_and_goes_out_at_the_time_out(
    services: Services, kind: tuple[int, int]
) -> None:
    logs = await create(services, "t")
    await append(logs[1])
    consumer = Consumer(services, kind)
    consumer.ask("t", [(0, 0), (1, 0), (2, 0)], min_bytes=2 * len(BATCH))
    assert await consumer.answer(5) is None
    await append(logs[1])
    answer = await consumer.answer()
    assert answer is not None
    assert len(answer) == 3
    assert len(answer[1].records) == 2 * len(BATCH)
    consumer.ask("t", [(1, 1)] if kind is SESSION else [(0, 0), (1, 1), (2, 0)], min_bytes=2 * len(BATCH), max_wait=20)
    assert await consumer.answer(5) is None
    await asyncio.sleep(0.05)
    late = await consumer.answer()
    assert late is not None
    assert len(late[1].records) == len(BATCH)


@ALL
async def test_a_start_that_moved_wakes_nobody_and_is_told_with_the_next_answer(
    services: Services, kind: tuple[int, int]
) -> None:
    logs = await create(services, "t")
    await append(logs[1])
    await append(logs[1])
    consumer = Consumer(services, kind)
    await consumer.caught_up("t", [0, 2, 0])
    await logs[1].stream.trim(1)
    assert await consumer.answer(5) is None
    await append(logs[0])
    answer = await consumer.answer()
    assert answer is not None
    assert (answer[1].error_code, answer[1].log_start_offset, answer[1].high_watermark) == (0, 1, 2)
    assert not answer[1].records
    # Between two requests.
    await logs[1].stream.trim(2)
    consumer.ask("t", [(0, 1)] if kind is SESSION else [(0, 1), (1, 2), (2, 0)])
    assert await consumer.answer(5) is None
    await append(logs[0])
    answer = await consumer.answer()
    assert answer is not None
    assert answer[1].log_start_offset == 2


@ALL
async def test_a_topic_that_is_deleted_ends_the_wait_and_a_new_one_of_its_name_is_another(
    services: Services, kind: tuple[int, int]
) -> None:
    await create(services, "t")
    consumer = Consumer(services, kind)
    await consumer.caught_up("t", [0, 0, 0], min_bytes=1000)
    await delete(services, "t")
    answer = await consumer.answer()
    assert answer is not None
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if kind is FULL else ErrorCode.UNKNOWN_TOPIC_ID
    assert {row.error_code for row in answer.values()} == {unknown}
    assert len(answer) == 3
    logs = await create(services, "t")
    fresh = Consumer(services, kind)
    for each in (fresh, consumer) if kind is not SESSION else (fresh,):
        each.ask("t", [(0, 0), (1, 0), (2, 0)])
        assert await each.answer(5) is None
    await append(logs[1])
    for each in (fresh, consumer) if kind is not SESSION else (fresh,):
        answer = await each.answer()
        assert answer is not None
        assert answer[1].records


@ALL
async def test_epochs_are_checked_though_the_partition_is_remembered(services: Services, kind: tuple[int, int]) -> None:
    logs = await create(services, "t")
    epoch = logs[1].leader_epoch
    consumer = Consumer(services, kind)
    await consumer.caught_up("t", [0, 0, 0])
    await append(logs[0])
    assert await consumer.answer() is not None
    for wrong, error in (
        (epoch + 1, ErrorCode.UNKNOWN_LEADER_EPOCH),
        (epoch - 1, ErrorCode.FENCED_LEADER_EPOCH),
    ):
        row = {"partition": 1, "fetch_offset": 0, "partition_max_bytes": 9, "current_leader_epoch": wrong}
        consumer.ask("t", [row] if kind is SESSION else [(0, 1), row, (2, 0)])
        answer = await consumer.answer()
        if wrong < 0:
            continue
        assert answer is not None
        assert answer[1].error_code == error
        assert answer[1].high_watermark == -1
    right = {"partition": 1, "fetch_offset": 0, "partition_max_bytes": 9, "current_leader_epoch": epoch}
    consumer.ask("t", [(0, 1), right] if kind is SESSION else [(0, 1), right, (2, 0)])
    assert await consumer.answer(5) is None
    await append(logs[1])
    answer = await consumer.answer()
    assert answer is not None
    assert answer[1].error_code == 0
    assert answer[1].records


async def test_what_a_full_fetch_no_longer_names_does_not_wake_it(services: Services) -> None:
    logs = await create(services, "t")
    consumer = Consumer(services, BY_ID)
    await consumer.caught_up("t", [0, 0, 0])
    await append(logs[0])
    assert await consumer.answer() is not None
    consumer.ask("t", [(0, 1), (2, 0)])
    assert await consumer.answer(5) is None
    assert logs[1].watchers is None
    await append(logs[1])
    assert await consumer.answer(5) is None
    await append(logs[2])
    answer = await consumer.answer()
    assert answer is not None
    assert list(answer) == [0, 2]


async def test_of_a_partition_named_twice_the_last_counts(services: Services) -> None:
    logs = await create(services, "t")
    await append(logs[0])
    consumer = Consumer(services, FULL)
    for rows in ([(0, 0), (1, 0), (0, 1)], [(0, 1), (1, 0), (0, 1)], [(1, 0), (0, 0), (0, 1)]):
        consumer.ask("t", rows)
        assert await consumer.answer(5) is None
        await append(logs[1])
        answer = await consumer.answer()
        assert answer is not None
        assert not answer[0].records
        await logs[1].stream.trim(logs[1].high_watermark)
        await delete(services, "t")
        logs = await create(services, "t")
        await append(logs[0])
    consumer.ask("t", [(0, 1), (1, 0)], max_wait=0)
    assert await consumer.answer()
    consumer.ask("t", [(0, 0), (0, 1)], max_wait=0)  # as many as are remembered
    answer = await consumer.answer()
    assert answer is not None
    assert not answer[0].records
    consumer.ask("t", [(0, 1), (1, 0), (0, 0)])
    answer = await consumer.answer()
    assert answer is not None
    assert answer[0].records


@ALL
async def test_who_is_gone_watches_nothing(services: Services, kind: tuple[int, int]) -> None:
    logs = await create(services, "t")
    consumer = Consumer(services, kind)
    await consumer.caught_up("t", [0, 0, 0])
    assert all(log.watchers for log in logs)
    consumer.connection.connection_lost(None)
    if kind is SESSION:
        # The session outlives its connection; the next one takes it up, until it is ended.
        again = Consumer(services, kind)
        again.session_id, again.session_epoch = consumer.session_id, 2
        again.ask("t", [])
        assert await again.answer(5) is None
        await append(logs[0])
        assert set(await again.answer() or ()) == {0}
        again.session_epoch = -1
        again.ask("t", [(0, 1)], max_wait=0)
        again.connection.connection_lost(None)
    assert [log.watchers for log in logs] == [None] * 3
    await append(*logs)


async def test_a_session_taken_up_elsewhere_ends_the_wait_of_the_first(services: Services) -> None:
    await create(services, "t")
    first = Consumer(services, SESSION)
    await first.caught_up("t", [0, 0, 0])
    second = Consumer(services, SESSION)
    second.session_id, second.session_epoch = first.session_id, first.session_epoch + 1
    second.ask("t", [])
    assert await first.answer() == {}
    assert await second.answer(5) is None


async def test_another_version_or_isolation_level_is_answered_in_its_own_shape(services: Services) -> None:
    await create(services, "t")
    consumer = Consumer(services, FULL)
    rows = [(0, 0), (1, 0), (2, 0)]
    for version, isolation in ((11, 0), (11, 1), (12, 1), (12, 0), (4, 0), (16, 1), (16, 0)):
        consumer.version = version
        for _ in range(2):
            consumer.ask("t", rows, max_wait=0, isolation=isolation)
            answer = await consumer.answer()
            assert answer is not None
            assert {row.aborted_transactions for row in answer.values()} == {() if isolation else None}


@pytest.mark.parametrize("seed", range(6))
async def test_a_connection_with_a_past_hears_what_one_without_hears(services: Services, seed: int) -> None:
    """Whatever happens to the logs between the requests, and however the consumer jumps about."""
    rng = random.Random(seed)
    logs = await create(services, "t", 6)
    version = rng.choice((4, 9, 11, 12, 16))
    old = Consumer(services, (version, -1))
    offsets = [0] * len(logs)
    for _ in range(150):
        log = rng.choice(logs)
        event = rng.random()
        if event < 0.4:
            await append(*rng.sample(logs, rng.randint(1, 3)))
        elif event < 0.5:
            await log.stream.trim(rng.randint(0, log.high_watermark))
        elif event < 0.52:
            await delete(services, "t")
            logs = await create(services, "t", 6)
            offsets = [0] * len(logs)
        named = rng.sample(range(-1, 7), rng.randint(1, 8)) if rng.random() < 0.2 else list(range(6))
        rows = []
        for index in named:
            inside = 0 <= index < len(logs)
            offset = offsets[index] if inside and rng.random() < 0.9 else rng.randint(-1, 9)
            epoch = rng.choice((0, 1, 2)) if rng.random() < 0.1 else -1
            rows.append(
                {
                    "partition": index,
                    "fetch_offset": offset,
                    "current_leader_epoch": epoch,
                    "partition_max_bytes": rng.choice((1, 9999)),
                }
            )
        fresh = Consumer(services, (version, -1))
        for consumer in (old, fresh):
            consumer.ask("t", rows, max_wait=0)
            assert await consumer.answer() is not None
        assert old.transport.sent == fresh.transport.sent
        fresh.connection.connection_lost(None)
        for index, row in (await old.answer() or {}).items():
            if row.error_code == ErrorCode.NONE and row.records and rng.random() < 0.8:
                offsets[index] = row.high_watermark
