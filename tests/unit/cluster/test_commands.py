"""Cluster commands on a real SQLite in memory: what they leave behind, and that repeating them changes nothing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.cluster.rows import NO_LEADER, ConfigDelta, NewTopic, Resource
from broker.cluster.store import ClusterStore
from s3stream.errors import OutcomeUnknown, Retry
from s3stream.meta.sqlite import InlineRunner, SqliteDatabase
from s3stream.meta.store import MetaStore
from s3stream.ports import Database

A, B = "0" * 31 + "a", "0" * 31 + "b"


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(":memory:", InlineRunner())
    await MetaStore(database).migrate()
    yield database
    await database.close()


@pytest.fixture
async def store(database: SqliteDatabase) -> ClusterStore:
    store = ClusterStore(database, random.Random(1))
    await store.migrate()
    await store.ensure_cluster_id("c" * 22, 5)
    return store


def topic(topic_id: str = A, name: str = "a", partitions: int = 2, **configs: str) -> NewTopic:
    return NewTopic(topic_id, name, partitions, 3, configs)


async def test_identity_is_chosen_once(store: ClusterStore) -> None:
    assert await store.ensure_cluster_id("d" * 22, 6) == "c" * 22
    assert (await store.load_cluster()).cluster_id == "c" * 22


async def test_created_topics_have_streams_and_no_leader(store: ClusterStore, database: SqliteDatabase) -> None:
    revision, stored = await store.create_topics([topic(retention="5"), topic(B, "b", 1)], 10)
    assert revision > 0
    first, second = stored
    assert (first.name, first.replication_factor, first.configs) == ("a", 3, {"retention": "5"})
    assert first.leader_ids == [NO_LEADER, NO_LEADER]
    assert first.leader_epochs == [0, 0]
    streams = [*first.stream_ids, *second.stream_ids]
    assert len(set(streams)) == 3
    assert [row.stream_id for row in await MetaStore(database).stream_rows(streams)] == sorted(streams)
    rows = await store.load_cluster()
    assert rows.topics == stored
    assert rows.revision == revision


async def test_a_repeated_creation_finds_its_work_done(store: ClusterStore) -> None:
    once = await store.create_topics([topic(), topic(B, "b")], 10)
    assert await store.create_topics([topic(), topic(B, "b")], 99) == once


async def test_a_name_that_another_topic_has_is_left_out(store: ClusterStore) -> None:
    await store.create_topics([topic()], 10)
    _, stored = await store.create_topics([topic(B, "a"), topic("c" * 32, "new")], 11)
    assert [each.name for each in stored] == ["new"]
    assert len((await store.load_cluster()).topics) == 2


async def test_deleted_topics_take_streams_and_configs_along(store: ClusterStore, database: SqliteDatabase) -> None:
    _, stored = await store.create_topics([topic(x="1"), topic(B, "b")], 10)
    revision, streams = await store.delete_topics([A], 20)
    assert streams == sorted(stored[0].stream_ids)
    assert await MetaStore(database).stream_rows(streams) == []
    rows = await store.load_cluster()
    assert [each.name for each in rows.topics] == ["b"]
    assert await store.delete_topics([A], 21) == (revision, [])
    _, (again,) = await store.create_topics([topic("d" * 32, "a")], 30)
    assert again.configs == {}
    assert not set(again.stream_ids) & set(streams)


async def test_partitions_only_grow(store: ClusterStore) -> None:
    _, (before,) = await store.create_topics([topic()], 10)
    revision, grown = await store.create_partitions(A, 5)
    assert grown is not None
    assert list(grown.stream_ids[:2]) == list(before.stream_ids)
    assert len(set(grown.stream_ids)) == 5
    assert await store.create_partitions(A, 5) == (revision, grown)
    assert await store.create_partitions(A, 3) == (revision, grown)
    assert await store.create_partitions(B, 3) == (revision, None)


async def test_leaders_are_announced_with_rising_epochs_only(store: ClusterStore) -> None:
    _, (made,) = await store.create_topics([topic()], 10)
    first, second = made.stream_ids
    await store.announce_leaders(1, {first: 4})
    await store.announce_leaders(2, {first: 4, second: 1})
    (row,) = (await store.load_cluster()).topics
    assert (row.leader_ids, row.leader_epochs) == ([1, 2], [4, 1])


async def test_configs_are_put_and_dropped(store: ClusterStore) -> None:
    await store.create_topics([topic(x="1", y="2")], 10)
    deltas = [
        ConfigDelta(Resource.TOPIC, A, {"y": "3", "z": "4"}, ["x", "none"]),
        ConfigDelta(Resource.BROKER, "", {"k": "v"}, []),
        ConfigDelta(Resource.BROKER, "1", {"k": "w"}, []),
        ConfigDelta(Resource.TOPIC, B, {"y": "3"}, []),
    ]
    first = await store.alter_configs(deltas)
    assert await store.alter_configs(deltas) > first
    rows = await store.load_cluster()
    assert rows.topics[0].configs == {"y": "3", "z": "4"}
    assert rows.broker_configs == {"": {"k": "v"}, "1": {"k": "w"}}


async def test_producer_ids_never_repeat(store: ClusterStore) -> None:
    blocks = [await store.allocate_producer_ids(1000) for _ in range(3)]
    assert blocks == [(0, 1000), (1000, 2000), (2000, 3000)]


async def test_many_partitions_are_one_transaction(store: ClusterStore) -> None:
    _, (made,) = await store.create_topics([topic(partitions=3000)], 10)
    assert len(made.stream_ids) == 3000
    _, streams = await store.delete_topics([A], 20)
    assert len(streams) == 3000


class Flaky:
    """Fails the first `failures` transactions, having applied them or not."""

    def __init__(self, inner: Database, failures: int, *, applied: bool) -> None:
        self.inner, self.failures, self.applied = inner, failures, applied

    async def transact(self, command: Any, *args: Any) -> Any:
        self.failures -= 1
        if self.failures >= 0:
            if not self.applied:
                raise Retry("busy")
            await self.inner.transact(command, *args)
            raise OutcomeUnknown("reply lost")
        return await self.inner.transact(command, *args)


@pytest.mark.parametrize("applied", [True, False])
async def test_the_store_repeats_until_the_outcome_is_known(
    store: ClusterStore, database: SqliteDatabase, applied: bool
) -> None:
    flaky: Any = Flaky(database, 2, applied=applied)
    patient = ClusterStore(flaky, random.Random(1), pause_ms=0)
    _, stored = await patient.create_topics([topic()], 10)
    assert [each.name for each in stored] == ["a"]
    assert len((await store.load_cluster()).topics) == 1


async def test_the_store_gives_up_in_the_end(store: ClusterStore, database: SqliteDatabase) -> None:
    flaky: Any = Flaky(database, 100, applied=False)
    with pytest.raises(Retry):
        await ClusterStore(flaky, random.Random(1), attempts=3, pause_ms=0).create_topics([topic()], 10)
    assert flaky.failures == 97
