"""Metadata: the writer against the generated one, what each version asks for and gets, auto-creation, kept answers."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.cluster.names import CONSUMER_OFFSETS
from protocol.errors import ErrorCode
from protocol.headers import frame_prefix
from protocol.messages import encode_response
from protocol.metadata import METADATA, BrokerPiece, PartitionPiece, encode_metadata_body, encode_topic
from tests.unit.admin.world import AdminWorld, admin_world

VERSIONS = range(14)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT16 = st.integers(-(2**15), 2**15 - 1)
TEXT = st.text(max_size=5) | st.text(max_size=3).map(lambda text: text * 70)
PARTITION = st.builds(PartitionPiece, INT16, INT32, INT32, st.lists(INT32, max_size=3).map(tuple))
TOPIC = st.fixed_dictionaries(
    {
        "error_code": INT16,
        "name": TEXT,
        "topic_id": st.uuids() | st.none(),
        "internal": st.booleans(),
        "operations": INT32,
        "partitions": st.lists(PARTITION, max_size=3) | st.lists(PARTITION, max_size=1).map(lambda one: one * 150),
    }
)
BROKER = st.builds(BrokerPiece, INT32, TEXT, INT32, st.none() | TEXT)


@settings(deadline=None, max_examples=100)
@given(topics=st.lists(TOPIC, max_size=3), brokers=st.lists(BROKER, max_size=2), cluster_id=TEXT, controller=INT32)
def test_the_writer_gives_the_bytes_of_the_generated_one(
    topics: list[Any], brokers: list[BrokerPiece], cluster_id: str, controller: int
) -> None:
    body = {
        "throttle_time": 0,
        "brokers": [each._asdict() for each in brokers],
        "cluster_id": cluster_id,
        "controller_id": controller,
        "topics": [
            {
                "error_code": topic["error_code"],
                "name": topic["name"],
                "topic_id": topic["topic_id"],
                "is_internal": topic["internal"],
                "topic_authorized_operations": topic["operations"],
                "partitions": [
                    {
                        "error_code": piece.error_code,
                        "partition_index": index,
                        "leader_id": piece.leader_id,
                        "leader_epoch": piece.leader_epoch,
                        "replica_nodes": piece.replicas,
                        "isr_nodes": piece.replicas,
                        "offline_replicas": [],
                    }
                    for index, piece in enumerate(topic["partitions"])
                ],
            }
            for topic in topics
        ],
        "error_code": 0,
        "cluster_authorized_operations": controller,
    }
    for version in VERSIONS:
        pieces = [encode_topic(version, **topic) for topic in topics]
        ours = encode_metadata_body(
            version,
            brokers=brokers,
            cluster_id=cluster_id,
            controller_id=controller,
            topics=pieces,
            operations=controller,
        )
        assert frame_prefix(METADATA, version, 7, len(ours)) + ours == encode_response(METADATA, version, 7, body)


async def names(world: AdminWorld, version: int, topics: list[str] | None, allow: bool = False) -> dict[str, int]:
    asked = None if topics is None else [{"name": name, "topic_id": None} for name in topics]
    answer = await world.ask(3, {"topics": asked, "allow_auto_topic_creation": allow}, version)
    return {topic.name: topic.error_code for topic in answer.topics}


@pytest.mark.parametrize("version", VERSIONS)
async def test_all_topics_none_and_some(version: int) -> None:
    async with admin_world() as world:
        await world.create("a", "b")
        if version == 0:
            assert list(await names(world, 0, [])) == ["a", "b"]
        else:
            assert list(await names(world, version, None)) == ["a", "b"]
            assert await names(world, version, []) == {}
        for _ in range(2):  # made, then kept
            assert list(await names(world, version, ["b"])) == ["b"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_a_topic_looks_like(version: int) -> None:
    async with admin_world() as world:
        await world.create("a", partitions=2, factor=3)
        asked = [{"name": "a", "topic_id": None}]
        answer = await world.ask(3, {"topics": asked}, version)
        (topic,) = answer.topics
        assert [each.partition_index for each in topic.partitions] == [0, 1]
        assert [each.leader_id for each in topic.partitions] == [1, 1]
        assert list(topic.partitions[0].replica_nodes) == [1, 1, 1]
        assert [(each.node_id, each.port) for each in answer.brokers] == [(1, 9092)]
        if version >= 1:
            assert answer.controller_id == 1
        if version >= 2:
            assert answer.cluster_id == world.image.cluster_id
        if version >= 7:
            assert topic.partitions[0].leader_epoch == 1
        if version >= 8:
            assert topic.topic_authorized_operations == -(2**31)
        if version >= 10:
            assert topic.topic_id == world.image.topics["a"].topic_id


@pytest.mark.parametrize("version", range(8, 14))
async def test_operations_are_told_when_asked_for(version: int) -> None:
    async with admin_world() as world:
        await world.create("a")
        for asked in (True, False, True):
            body = {"topics": None, "include_topic_authorized_operations": asked}
            answer = await world.ask(3, {**body, "include_cluster_authorized_operations": not asked}, version)
            assert answer.topics[0].topic_authorized_operations == (3576 if asked else -(2**31))
            if version <= 10:
                assert answer.cluster_authorized_operations == (-(2**31) if asked else 8096)


async def test_by_topic_id() -> None:
    async with admin_world() as world:
        await world.create("a")
        known, unknown = world.image.topics["a"].topic_id, uuid.UUID(int=77)
        asked = [{"name": None, "topic_id": known}, {"name": None, "topic_id": unknown}]
        for version in (12, 13):
            first, second = (await world.ask(3, {"topics": asked}, version)).topics
            assert (first.name, first.error_code, len(first.partitions)) == ("a", 0, 4)
            assert (second.name, second.error_code) == (None, ErrorCode.UNKNOWN_TOPIC_ID)
            assert second.topic_id == unknown


# Asked of Apache Kafka 4.3 on the wire.
async def test_unknown_and_invalid_names() -> None:
    async with admin_world() as world:
        found = await names(world, 12, ["a/b", "nope", "", "x" * 260])
        assert found == {
            "a/b": ErrorCode.INVALID_TOPIC_EXCEPTION,
            "nope": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "": ErrorCode.INVALID_TOPIC_EXCEPTION,
            "x" * 260: ErrorCode.INVALID_TOPIC_EXCEPTION,
        }
        assert not world.image.topics
        assert not world.image.encoded


@pytest.mark.parametrize("version", VERSIONS)
async def test_auto_creation(version: int) -> None:
    async with admin_world({"num.partitions": 3}) as world:
        refusing = await names(world, version, ["quiet"])
        assert refusing == {"quiet": 0 if version < 4 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        assert await names(world, version, ["a", "bad name", CONSUMER_OFFSETS], allow=True) == {
            "a": 0,
            "bad name": ErrorCode.INVALID_TOPIC_EXCEPTION,
            CONSUMER_OFFSETS: 0,
        }
        assert world.image.topics["a"].leader_ids == (1, 1, 1)
        assert world.image.topics[CONSUMER_OFFSETS].internal
        assert await names(world, version, ["a.b"], allow=True) == {"a.b": 0}
        assert await names(world, version, ["a_b"], allow=True) == {"a_b": ErrorCode.INVALID_TOPIC_EXCEPTION}


async def test_auto_creation_can_be_switched_off() -> None:
    async with admin_world({"auto.create.topics.enable": False}) as world:
        assert await names(world, 13, ["a"], allow=True) == {"a": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}


async def test_answers_are_kept_until_the_image_changes() -> None:
    async with admin_world() as world:
        await world.create("a")
        await names(world, 12, None)
        ((key, kept),) = world.image.encoded.items()
        await names(world, 12, None)
        assert world.image.encoded[key] is kept
        piece = world.image.topics["a"].encoded[12, False]
        await world.create("b")
        assert list(await names(world, 12, None)) == ["a", "b"]
        assert world.image.topics["a"].encoded[12, False] is piece
