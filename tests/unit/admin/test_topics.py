"""CreateTopics, DeleteTopics, CreatePartitions, DescribeCluster and the controller behind them."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from broker.cluster.names import CONSUMER_OFFSETS
from broker.cluster.rows import NO_LEADER
from broker.refusal import Refused
from protocol.errors import ErrorCode
from s3stream.errors import Invalid, Retry
from s3stream.meta.sqlite import InlineRunner, SqliteDatabase
from tests.unit.admin.world import AdminWorld, CountingHost, admin_world, new_topic


async def create(world: AdminWorld, *topics: dict[str, Any], validate_only: bool = False, version: int = 7) -> Any:
    return (await world.ask(19, {"topics": topics, "timeout": 1, "validate_only": validate_only}, version)).topics


async def delete(world: AdminWorld, *topics: tuple[str | None, uuid.UUID | None]) -> list[tuple[int, str | None]]:
    asked = [{"name": name, "topic_id": topic_id} for name, topic_id in topics]
    answer = await world.ask(20, {"topics": asked, "timeout": 1})
    return [(each.error_code, each.error_message) for each in answer.responses]


async def test_a_created_topic_is_led_by_an_open_log() -> None:
    async with admin_world({"num.partitions": 3}) as world:
        (answer,) = await create(world, new_topic("a", configs={"retention.ms": "5"}))
        assert (answer.error_code, answer.num_partitions, answer.replication_factor) == (0, 3, 1)
        topic = world.image.topics["a"]
        assert answer.topic_id == topic.topic_id
        assert topic.leader_ids == (1, 1, 1)
        assert topic.leader_epochs == (1, 1, 1)
        assert topic.config.retention_ms == 5
        assert [(log.topic, log.partition) for log in world.host.opened] == [("a", 0), ("a", 1), ("a", 2)]
        configs = {each.name: (each.value, each.config_source) for each in answer.configs}
        assert configs["retention.ms"] == ("5", 1)
        assert configs["max.message.bytes"][1] == 5
        # no image ever named a leader before its log was open
        led = [change for change in world.changes if any(1 in each.leader_ids for each in change.image.topics.values())]
        assert [topic.name for topic in led[0].created] == ["a"]


@pytest.mark.parametrize("version", range(2, 8))
async def test_every_version_of_create_topics(version: int) -> None:
    async with admin_world() as world:
        good, bad = await create(world, new_topic("good"), new_topic("bad/"), version=version)
        assert (good.error_code, bad.error_code) == (0, ErrorCode.INVALID_TOPIC_EXCEPTION)
        assert "contains one or more characters" in bad.error_message
        assert "good" in world.image.topics


async def test_refusals_of_one_request_do_not_touch_the_others() -> None:
    async with admin_world() as world:
        await world.create("a.b")
        answers = await create(
            world, new_topic("dup"), new_topic("dup"), new_topic("a_b"), new_topic("a.b"), new_topic("fine")
        )
        codes = {each.name: each.error_code for each in answers}
        assert codes == {
            "dup": ErrorCode.INVALID_REQUEST,
            "a_b": ErrorCode.INVALID_TOPIC_EXCEPTION,
            "a.b": ErrorCode.TOPIC_ALREADY_EXISTS,
            "fine": 0,
        }
        assert len(answers) == 4
        assert list(world.image.topics) == ["a.b", "fine"]


async def test_validate_only_leaves_nothing_behind() -> None:
    async with admin_world() as world:
        before = world.image
        (answer,) = await create(world, new_topic("a", 2, 3), validate_only=True)
        assert (answer.error_code, answer.num_partitions, answer.replication_factor) == (0, 2, 3)
        assert world.image is before
        assert not world.host.opened


async def test_too_many_partitions_at_once() -> None:
    async with admin_world() as world:
        answers = await create(world, new_topic("a", 9_000), new_topic("b", 1_001))
        assert [each.error_code for each in answers] == [ErrorCode.POLICY_VIOLATION] * 2
        assert not world.image.topics


async def test_a_restart_finds_everything_and_raises_the_leader_epochs() -> None:
    database, host = SqliteDatabase(":memory:", InlineRunner()), CountingHost()
    async with admin_world(database=database, host=host) as world:
        await world.create("a", "b", partitions=2, configs={"retention.ms": "5"})
        await world.cluster.alter_broker_configs("", lambda *_: {"message.max.bytes": "7"}, validate_only=False)
        cluster_id = world.image.cluster_id
        assert len(cluster_id) == 22
    async with admin_world(database=database, host=host) as world:
        image = world.image
        assert image.cluster_id == cluster_id
        assert list(image.topics) == ["a", "b"]
        assert image.topics["a"].leader_epochs == (2, 2)
        assert image.topics["a"].config.retention_ms == 5
        assert image.topics["a"].config.max_message_bytes == 7
        before_open = world.changes[0].image
        assert before_open.topics["a"].leader_ids == (NO_LEADER, NO_LEADER)
    with pytest.raises(Invalid, match="belongs to cluster"):
        async with admin_world({"cluster.id": "x" * 22}, database, host):
            pass
    await database.close()


async def test_logs_that_cannot_be_opened_at_once_are_opened_later() -> None:
    async with admin_world() as world:
        world.host.failures = [Retry("busy"), Retry("busy")]
        await world.create("a", partitions=1)
        assert world.image.topics["a"].leader_ids == (NO_LEADER,)
        (topic,) = (await world.ask(3, {"topics": None})).topics
        assert topic.partitions[0].error_code == ErrorCode.LEADER_NOT_AVAILABLE
        for _ in range(100):
            if world.image.topics["a"].leader_ids == (1,):
                break
            await asyncio.sleep(0.02)
        assert world.image.topics["a"].leader_ids == (1,)


async def test_deleted_by_name_and_by_id() -> None:
    async with admin_world() as world:
        await world.create("a", "b", "c", partitions=2)
        streams = [*world.image.topics["a"].stream_ids, *world.image.topics["b"].stream_ids]
        by_id = world.image.topics["b"].topic_id
        assert await delete(world, ("a", None), (None, by_id)) == [(0, None), (0, None)]
        assert list(world.image.topics) == ["c"]
        assert sorted(world.host.dropped) == sorted(streams)
        assert [topic.name for topic in world.changes[-1].deleted] == ["a", "b"]
        await world.create("a", partitions=1)
        assert not set(world.image.topics["a"].stream_ids) & set(streams)


# Asked of Apache Kafka 4.3 on the wire.
async def test_refused_deletions() -> None:
    async with admin_world() as world:
        await world.create("a")
        await world.cluster.ensure_internal(CONSUMER_OFFSETS)
        topic_id = world.image.topics["a"].topic_id
        assert await delete(world, ("nope", None)) == [
            (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
        ]
        assert await delete(world, (None, uuid.UUID(int=9))) == [
            (ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
        ]
        assert await delete(world, (None, None)) == [
            (ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
        ]
        assert await delete(world, ("a", None), ("a", None)) == [(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")]
        assert [code for code, _ in await delete(world, ("a", None), (None, topic_id))] == [42, 42]
        assert await delete(world, ("a", topic_id)) == [
            (ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id.")
        ]
        ((code, text),) = await delete(world, (CONSUMER_OFFSETS, None))
        assert code == ErrorCode.INVALID_REQUEST
        assert "cannot be deleted" in str(text)
        assert list(world.image.topics) == ["a", CONSUMER_OFFSETS]


@pytest.mark.parametrize("version", range(1, 7))
async def test_deletion_can_be_switched_off(version: int) -> None:
    async with admin_world({"delete.topic.enable": False}) as world:
        await world.create("a")
        body = {"topic_names": ["a"], "topics": [{"name": "a", "topic_id": None}], "timeout": 1}
        (answer,) = (await world.ask(20, body, version)).responses
        assert answer.error_code == (ErrorCode.INVALID_REQUEST if version < 3 else ErrorCode.TOPIC_DELETION_DISABLED)


@pytest.mark.parametrize(
    ("count", "assignments", "code", "text"),
    [
        (6, None, 0, None),
        (5, [[1]], 0, None),
        (4, None, ErrorCode.INVALID_PARTITIONS, "Topic already has 4 partition(s)."),
        (
            3,
            None,
            ErrorCode.INVALID_PARTITIONS,
            "The topic a currently has 4 partition(s); 3 would not be an increase.",
        ),
        (
            5,
            [[1], [1]],
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Attempted to add 1 additional partition(s), but only 2 assignment(s) were specified.",
        ),
        (
            5,
            [[9]],
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes broker 9, but no such broker is registered.",
        ),
        (
            5,
            [[]],
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes an empty replica list.",
        ),
    ],
)
async def test_more_partitions(count: int, assignments: Any, code: int, text: str | None) -> None:
    async with admin_world() as world:
        await world.create("a")
        asked = None if assignments is None else [{"broker_ids": ids} for ids in assignments]
        for validate_only in (True, False):
            body = {
                "topics": [{"name": "a", "count": count, "assignments": asked}],
                "timeout": 1,
                "validate_only": validate_only,
            }
            (result,) = (await world.ask(37, body)).results
            assert (result.error_code, result.error_message) == (code, text)
            changed = code == 0 and not validate_only
            assert world.image.topics["a"].leader_ids == (1,) * (count if changed else 4)


async def test_more_partitions_for_no_topic_twice_or_the_offsets_topic() -> None:
    async with admin_world({"offsets.topic.num.partitions": 2}) as world:
        await world.create("a")
        await world.cluster.ensure_internal(CONSUMER_OFFSETS)
        names = ["none", "a", "a", CONSUMER_OFFSETS]
        topics = [{"name": name, "count": 9, "assignments": None} for name in names]
        answer = await world.ask(37, {"topics": topics, "timeout": 1, "validate_only": False})
        assert {each.name: each.error_code for each in answer.results} == {
            "none": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "a": ErrorCode.INVALID_REQUEST,
            CONSUMER_OFFSETS: ErrorCode.INVALID_REQUEST,
        }


async def test_the_offsets_topic_is_made_once_as_kafka_makes_it() -> None:
    async with admin_world({"offsets.topic.num.partitions": 7}) as world:
        first = await world.cluster.ensure_internal(CONSUMER_OFFSETS)
        assert await world.cluster.ensure_internal(CONSUMER_OFFSETS) is first
        assert (first.internal, first.partition_count, first.config.compact) == (True, 7, True)
        assert not first.config.delete
        with pytest.raises(ValueError, match="no internal topic"):
            await world.cluster.ensure_internal("__other")


async def test_auto_creation_reports_each_refusal() -> None:
    async with admin_world() as world:
        await world.create("a.b")
        refused = await world.cluster.create_missing(["a_b", "c", "c", "a.b"])
        assert {name: refusal.code for name, refusal in refused.items()} == {"a_b": ErrorCode.INVALID_TOPIC_EXCEPTION}
        assert isinstance(refused["a_b"], Refused)
        assert list(world.image.topics) == ["a.b", "c"]


async def test_described_cluster() -> None:
    async with admin_world({"node.id": 5, "broker.rack": "r"}) as world:
        for version in range(3):
            answer = await world.ask(60, {"include_cluster_authorized_operations": True}, version)
            assert (answer.error_code, answer.cluster_id, answer.controller_id) == (0, world.image.cluster_id, 5)
            assert [(each.broker_id, each.host, each.port) for each in answer.brokers] == [(5, "127.0.0.1", 9092)]
        body = {"include_cluster_authorized_operations": False, "endpoint_type": 2}
        assert (await world.ask(60, body)).error_code == ErrorCode.MISMATCHED_ENDPOINT_TYPE
        body["endpoint_type"] = 3
        assert (await world.ask(60, body)).error_code == ErrorCode.UNSUPPORTED_ENDPOINT_TYPE


async def test_a_change_comes_to_its_end_when_its_client_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is cancelled after its transaction must not leave an image that never hears of it."""
    async with admin_world() as world:
        store = world.cluster._store
        written = store.create_topics
        committed, go_on = asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any) -> Any:
            result = await written(*arguments)
            committed.set()
            await go_on.wait()
            return result

        monkeypatch.setattr(store, "create_topics", slow)
        first = asyncio.create_task(world.cluster.ensure_internal(CONSUMER_OFFSETS))
        await committed.wait()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        go_on.set()
        topic = await world.cluster.ensure_internal(CONSUMER_OFFSETS)
        assert world.image.topics[CONSUMER_OFFSETS] == topic
        assert NO_LEADER not in topic.leader_ids
