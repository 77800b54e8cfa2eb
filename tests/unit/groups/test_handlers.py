"""Handlers through the codecs: what differs by version. The expectations were checked against Apache Kafka 4.3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from broker.refusal import Refused
from protocol.errors import ErrorCode
from s3stream.errors import Retry
from tests.unit.groups.service_bench import TOPIC_ID, Bench

UNKNOWN_ID = UUID(int=99)
SUBSCRIPTION = b"\x00\x01\x00\x00\x00\x01\x00\x05topic\xff\xff\xff\xff"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    made.groups.on_partitions_led(range(4))
    await made.groups.wait_loaded()
    yield made
    await made.close()


def join_body(version: int, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "group_id": "g",
        "session_timeout": 10_000,
        "rebalance_timeout": 20_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": SUBSCRIPTION}],
    }
    body.update(changes)
    if version == 0:
        del body["rebalance_timeout"]
    return body


async def stable(bench: Bench, group: str = "g", **changes: Any) -> str:
    """A Stable group with one member, by an old client: its member id."""
    joined = await bench.ask(11, 3, **join_body(3, group_id=group, **changes))
    assert joined.error_code is ErrorCode.NONE
    assigned = [{"member_id": joined.member_id, "assignment": b"mine"}]
    synced = await bench.ask(14, 0, group_id=group, generation_id=1, member_id=joined.member_id, assignments=assigned)
    assert synced.assignment == b"mine"
    return str(joined.member_id)


# -- FindCoordinator


@pytest.mark.parametrize("version", range(7))
async def test_find_coordinator(bench: Bench, version: int) -> None:
    body: dict[str, Any] = {"key": "g"} if version < 4 else {"coordinator_keys": ["g", ""]}
    found = await bench.ask(10, version, **body)
    for row in [found] if version < 4 else found.coordinators:
        assert (row.error_code, row.node_id, row.host, row.port) == (ErrorCode.NONE, 1, "h", 9)
    if 1 <= version < 4:
        assert found.error_message == "NONE"
    assert "__consumer_offsets" in bench.image.topics


@pytest.mark.parametrize(
    ("key_type", "error"),
    [(1, ErrorCode.COORDINATOR_NOT_AVAILABLE), (2, ErrorCode.INVALID_REQUEST), (7, ErrorCode.INVALID_REQUEST)],
)
async def test_find_other_coordinators(bench: Bench, key_type: int, error: ErrorCode) -> None:
    for version in (1, 6):
        body: dict[str, Any] = {"key": "t"} if version < 4 else {"coordinator_keys": ["t"]}
        found = await bench.ask(10, version, key_type=key_type, **body)
        row = found if version < 4 else found.coordinators[0]
        assert (row.error_code, row.node_id, row.host, row.port) == (error, -1, "", -1)
        assert "not" in row.error_message


@pytest.mark.parametrize("trouble", [Retry("store is busy"), Refused(ErrorCode.INVALID_REPLICATION_FACTOR, "no")])
async def test_find_without_the_topic(bench: Bench, trouble: Exception) -> None:
    async def fail(name: str) -> Any:
        raise trouble

    bench.cluster = SimpleNamespace(ensure_internal=fail)
    found = await bench.ask(10, 3, key="g", key_type=0)
    assert found.error_code is ErrorCode.COORDINATOR_NOT_AVAILABLE


async def test_find_without_a_leader(bench: Bench) -> None:
    bench.image.brokers = []
    found = await bench.ask(10, 3, key="g", key_type=0)
    assert found.error_code is ErrorCode.COORDINATOR_NOT_AVAILABLE


# -- membership


@pytest.mark.parametrize("version", range(10))
async def test_join_and_sync_in_every_version(bench: Bench, version: int) -> None:
    joined = await bench.ask(11, version, **join_body(version))
    if version >= 4:
        assert joined.error_code is ErrorCode.MEMBER_ID_REQUIRED
        joined = await bench.ask(11, version, **join_body(version, member_id=joined.member_id))
    assert (joined.error_code, joined.generation_id, joined.protocol_name) == (ErrorCode.NONE, 1, "range")
    assert joined.leader == joined.member_id
    assert [member.metadata for member in joined.members] == [SUBSCRIPTION]
    if version >= 7:
        assert joined.protocol_type == "consumer"
    groups = {name: group for shard in bench.groups._shards.values() for name, group in shard.machine.groups.items()}
    member = groups["g"].members[joined.member_id]
    assert member.rebalance_timeout_ms == (10_000 if version == 0 else 20_000)
    assert (member.client_id, member.client_host) == ("cli", "/127.0.0.1")
    body: dict[str, Any] = {"group_id": "g", "generation_id": 1, "member_id": joined.member_id}
    sync_version = min(version, 5)
    if sync_version >= 5:
        body |= {"protocol_type": "consumer", "protocol_name": "range"}
    assigned = [{"member_id": joined.member_id, "assignment": b"mine"}]
    synced = await bench.ask(14, sync_version, assignments=assigned, **body)
    assert (synced.error_code, synced.assignment) == (ErrorCode.NONE, b"mine")
    beat = await bench.ask(12, min(version, 4), group_id="g", generation_id=1, member_id=joined.member_id)
    assert beat.error_code is ErrorCode.NONE


@pytest.mark.parametrize(("version", "name"), [(6, ""), (7, None)])
async def test_refused_join_names_no_protocol(bench: Bench, version: int, name: str | None) -> None:
    joined = await bench.ask(11, version, **join_body(version, session_timeout=1))
    assert (joined.error_code, joined.protocol_name, joined.generation_id, joined.leader) == (
        ErrorCode.INVALID_SESSION_TIMEOUT,
        name,
        -1,
        "",
    )


async def test_duplicate_protocols_count_once(bench: Bench) -> None:
    twice = [{"name": "range", "metadata": SUBSCRIPTION}, {"name": "range", "metadata": b"other"}]
    joined = await bench.ask(11, 3, **join_body(3, protocols=twice))
    assert joined.error_code is ErrorCode.NONE
    assert joined.members[0].metadata == SUBSCRIPTION


async def test_over_long_names_are_refused(bench: Bench) -> None:
    """Newer encodings carry them, the records do not; Kafka closes the connection."""
    long = "x" * 40_000
    assert (await bench.ask(12, 4, group_id=long, generation_id=1, member_id="")).error_code is (
        ErrorCode.INVALID_GROUP_ID
    )
    joined = await bench.ask(11, 9, **join_body(9, group_instance_id=long))
    assert joined.error_code is ErrorCode.INVALID_REQUEST
    joined = await bench.ask(11, 9, **join_body(9, protocols=[{"name": long, "metadata": b""}]))
    assert joined.error_code is ErrorCode.INVALID_REQUEST


async def test_sync_must_name_the_protocol_since_v5(bench: Bench) -> None:
    member = await stable(bench)
    synced = await bench.ask(14, 5, group_id="g", generation_id=1, member_id=member, assignments=[])
    assert synced.error_code is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


@pytest.mark.parametrize("version", range(6))
async def test_leave_in_every_version(bench: Bench, version: int) -> None:
    member = await stable(bench)

    def body(member_id: str) -> dict[str, Any]:
        if version < 3:
            return {"group_id": "g", "member_id": member_id}
        return {"group_id": "g", "members": [{"member_id": member_id, "group_instance_id": None}]}

    ghost = await bench.ask(13, version, **body("ghost"))
    left = await bench.ask(13, version, **body(member))
    if version < 3:
        assert (ghost.error_code, left.error_code) == (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NONE)
    else:
        assert ghost.error_code is ErrorCode.NONE
        assert ghost.members[0].error_code is ErrorCode.UNKNOWN_MEMBER_ID
        assert left.members[0].error_code is ErrorCode.NONE


# -- OffsetCommit


def commit_body(version: int, **changes: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "partitions": [
            {"partition_index": 0, "committed_offset": 5, "committed_metadata": "m"},
            {"partition_index": 9, "committed_offset": 5, "committed_metadata": None},
        ]
    }
    unknown: dict[str, Any] = {
        "partitions": [{"partition_index": 0, "committed_offset": 5, "committed_metadata": None}]
    }
    if version >= 10:
        known["topic_id"], unknown["topic_id"] = TOPIC_ID, UNKNOWN_ID
    else:
        known["name"], unknown["name"] = "topic", "nope"
    body = {"group_id": "g", "generation_id_or_member_epoch": -1, "member_id": "", "topics": [known, unknown]}
    return body | changes


@pytest.mark.parametrize("version", range(2, 11))
async def test_commit_in_every_version(bench: Bench, version: int) -> None:
    answer = await bench.ask(8, version, **commit_body(version))
    known, unknown = answer.topics
    assert [part.error_code for part in known.partitions] == [ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    missing = ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert unknown.partitions[0].error_code is missing
    assert [offset[:4] for offset in bench.groups.committed_offsets()] == [("g", "topic", 0, 5)]
    refused = await bench.ask(8, version, **commit_body(version, group_id="x", generation_id_or_member_epoch=3))
    no_group = ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION
    assert refused.topics[0].partitions[0].error_code is no_group
    assert refused.topics[0].partitions[1].error_code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_commit_of_nothing_is_answered_with_nothing(bench: Bench) -> None:
    answer = await bench.ask(8, 8, **commit_body(8, topics=[]))
    assert answer.topics == ()


async def test_commit_retention_of_old_versions(bench: Bench) -> None:
    await bench.ask(8, 4, **commit_body(4, retention_time=60_000))
    (shard,) = (shard for shard in bench.groups._shards.values() if shard.machine.state.offsets)
    value = shard.machine.state.offset("g", "topic", 0)
    assert value is not None
    assert value.expire_timestamp_ms == bench.wall_ms + 60_000


# -- OffsetFetch


def fetch_body(version: int, group: str, topics: Any) -> dict[str, Any]:
    if version >= 8:
        return {"groups": [{"group_id": group, "topics": topics}], "require_stable": True}
    return {"group_id": group, "topics": topics}


@pytest.mark.parametrize("version", range(1, 11))
async def test_fetch_in_every_version(bench: Bench, version: int) -> None:
    await bench.ask(8, 8, **commit_body(8))
    key = {"topic_id": TOPIC_ID} if version >= 10 else {"name": "topic"}
    other = {"topic_id": UNKNOWN_ID} if version >= 10 else {"name": "nope"}
    topics = [{**key, "partition_indexes": [0, 1]}, {**other, "partition_indexes": [0]}]
    answer = await bench.ask(9, version, **fetch_body(version, "g", topics))
    group = answer.groups[0] if version >= 8 else answer
    found, missing = group.topics
    assert [(part.committed_offset, part.metadata) for part in found.partitions] == [(5, "m"), (-1, "")]
    assert missing.partitions[0].error_code is (ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.NONE)
    if version >= 2:
        answer = await bench.ask(9, version, **fetch_body(version, "g", None))
        group = answer.groups[0] if version >= 8 else answer
        assert [part.committed_offset for topic in group.topics for part in topic.partitions] == [5]


async def test_fetch_all_leaves_out_topics_that_are_gone(bench: Bench) -> None:
    await bench.ask(8, 8, **commit_body(8))
    del bench.image.topics["topic"]
    by_id = await bench.ask(9, 10, **fetch_body(10, "g", None))
    assert [topic.topic_id for topic in by_id.groups[0].topics] == [TOPIC_ID]
    bench.image.add("topic", UUID(int=78), 3)
    for version in (8, 10):
        assert (await bench.ask(9, version, **fetch_body(version, "g", None))).groups[0].topics == ()
    named = await bench.ask(9, 8, **fetch_body(8, "g", [{"name": "topic", "partition_indexes": [0]}]))
    assert named.groups[0].topics[0].partitions[0].committed_offset == -1


@pytest.mark.parametrize("version", [1, 2, 8])
async def test_fetch_errors_stand_where_the_version_has_room(bench: Bench, version: int) -> None:
    bench.groups.on_partitions_led([])
    topics = [{"name": "topic", "partition_indexes": [0]}]
    answer = await bench.ask(9, version, **fetch_body(version, "g", topics))
    if version == 1:
        assert answer.topics[0].partitions[0].error_code is ErrorCode.NOT_COORDINATOR
    else:
        holder = answer.groups[0] if version >= 8 else answer
        assert holder.error_code is ErrorCode.NOT_COORDINATOR
        assert holder.topics == ()


# -- the rest


async def test_offset_delete(bench: Bench) -> None:
    def body(group: str, *topics: str) -> dict[str, Any]:
        parts = [{"partition_index": 0}, {"partition_index": 9}]
        return {"group_id": group, "topics": [{"name": name, "partitions": parts} for name in topics]}

    assert (await bench.ask(47, 0, **body("g", "nope"))).error_code is ErrorCode.GROUP_ID_NOT_FOUND
    assert (await bench.ask(47, 0, **body(""))).error_code is ErrorCode.INVALID_GROUP_ID
    await bench.ask(8, 8, **commit_body(8))
    answer = await bench.ask(47, 0, **body("g", "topic", "nope"))
    missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    errors = {topic.name: [part.error_code for part in topic.partitions] for topic in answer.topics}
    assert errors == {"topic": [ErrorCode.NONE, missing], "nope": [missing, missing]}
    assert list(bench.groups.committed_offsets()) == []


@pytest.mark.parametrize("version", range(7))
async def test_describe_in_every_version(bench: Bench, version: int) -> None:
    member = await stable(bench)
    options = {"include_authorized_operations": True} if version >= 3 else {}
    answer = await bench.ask(15, version, groups=["g", "x"], **options)
    known, unknown = answer.groups
    assert (known.group_state, known.protocol_type, known.protocol_data) == ("Stable", "consumer", "range")
    assert known.members[0].member_id == member
    assert known.members[0].member_assignment == b"mine"
    assert unknown.group_state == "Dead"
    assert unknown.error_code is (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else ErrorCode.NONE)
    if version >= 3:
        assert known.authorized_operations == 3400
    if version >= 6:
        assert (unknown.error_message, unknown.authorized_operations) == ("Group x not found.", -2147483648)


@pytest.mark.parametrize("version", range(6))
async def test_list_in_every_version(bench: Bench, version: int) -> None:
    await stable(bench)
    answer = await bench.ask(16, version, **({"states_filter": ["stable"]} if version >= 4 else {}))
    (group,) = answer.groups
    assert (group.group_id, group.protocol_type) == ("g", "consumer")
    if version >= 5:
        assert group.group_type == "classic"


@pytest.mark.parametrize("version", range(3))
async def test_delete_groups(bench: Bench, version: int) -> None:
    await bench.ask(8, 8, **commit_body(8))
    await stable(bench, "busy")
    answer = await bench.ask(42, version, groups_names=["g", "busy", "x", "g"])
    assert {row.group_id: row.error_code for row in answer.results} == {
        "g": ErrorCode.NONE,
        "busy": ErrorCode.NON_EMPTY_GROUP,
        "x": ErrorCode.GROUP_ID_NOT_FOUND,
    }
    assert bench.groups.group_states() == {"Stable": 1}
