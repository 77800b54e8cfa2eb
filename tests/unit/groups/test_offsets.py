"""Offsets: commit, fetch, delete, expiry, deleted topics; groups: delete, describe, list."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from broker.groups.messages import (
    DeleteGroupCommand,
    DeleteOffsetsCommand,
    DescribeCommand,
    FetchCommand,
    FetchedPartition,
    ListCommand,
)
from broker.groups.records import encode_offset_key
from broker.groups.settings import GroupSettings
from protocol.errors import ErrorCode
from s3stream.errors import Retry
from tests.unit.groups.driver import GROUP, SUBSCRIPTION, Driver, subscription

HOUR_MS = 3_600_000
ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.fixture
def brief() -> Iterator[Driver]:
    """Offsets kept one hour, looked at every minute."""
    bench = Driver(GroupSettings(offsets_retention_minutes=60, offsets_retention_check_interval_ms=60_000))
    yield bench
    bench.close()


# -- commit


def test_simple_group_commits_without_membership(driver: Driver) -> None:
    assert driver.commit_error(7) is ErrorCode.NONE
    assert driver.fetch() == 7
    assert driver.state() == "Empty"
    assert driver.commit_error(9) is ErrorCode.NONE
    assert driver.crash().fetch() == 9


@pytest.mark.parametrize(("version", "error"), [(8, ErrorCode.ILLEGAL_GENERATION), (9, ErrorCode.GROUP_ID_NOT_FOUND)])
def test_commit_with_a_generation_to_an_unknown_group(driver: Driver, version: int, error: ErrorCode) -> None:
    assert driver.commit_error(1, member_id="m", generation=1, version=version) is error
    assert driver.state() == "None"


def test_member_commits_under_its_generation_only(driver: Driver) -> None:
    (leader,) = driver.stable()
    assert driver.commit_error(1, member_id=leader, generation=1) is ErrorCode.NONE
    assert driver.commit_error(1, member_id=leader, generation=0) is ErrorCode.ILLEGAL_GENERATION
    assert driver.commit_error(1, member_id=leader, generation=-1) is ErrorCode.ILLEGAL_GENERATION
    assert driver.commit_error(1, member_id="ghost", generation=1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.commit_error(1) is ErrorCode.UNKNOWN_MEMBER_ID  # no simple commits while there are members
    assert driver.commit_error(1, member_id=leader, generation=1, instance="i") is ErrorCode.UNKNOWN_MEMBER_ID


def test_commit_during_the_phases(driver: Driver) -> None:
    (leader,) = driver.stable()
    driver.join_with_id()
    assert driver.commit_error(5, member_id=leader, generation=1) is ErrorCode.NONE  # PreparingRebalance
    driver.join(leader)
    assert driver.state() == "CompletingRebalance"
    assert driver.commit_error(6, member_id=leader, generation=2) is ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.fetch() == 5


def test_commit_is_a_heartbeat(driver: Driver) -> None:
    (leader,) = driver.stable()
    for _ in range(5):
        driver.advance(9_000)
        assert driver.commit_error(1, member_id=leader, generation=1) is ErrorCode.NONE


def test_metadata_limit_counts_utf16_units_and_spares_the_other_partitions(driver: Driver) -> None:
    assert driver.commit_error(1, metadata="x" * 4096) is ErrorCode.NONE
    assert driver.commit_error(2, metadata="x" * 4097) is ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert driver.commit_error(2, metadata="\U0001f600" * 2048) is ErrorCode.NONE
    assert driver.commit_error(3, metadata="\U0001f600" * 2049) is ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert driver.fetch() == 2


def test_null_metadata_reads_as_empty(driver: Driver) -> None:
    driver.commit(4, metadata=None)
    reply = driver.ask(FetchCommand(GROUP, [("topic", None, [0])]))
    assert reply.topics[0][2] == (FetchedPartition(0, 4, 3, ""),)


def test_refused_commit_changes_nothing(driver: Driver) -> None:
    driver.commit(1)
    driver.log.refuse = Retry("full")
    assert driver.commit_error(2) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert driver.commit_error(2, group="new") is ErrorCode.COORDINATOR_NOT_AVAILABLE
    driver.log.refuse = None
    assert driver.fetch() == 1
    assert driver.state("new") == "None"


def test_nothing_is_shown_before_it_is_durable(driver: Driver) -> None:
    driver.commit(1)
    driver.log.auto = False
    committing = driver.commit(2)
    reading = driver.submit(FetchCommand(GROUP, [("topic", None, [0])]))
    assert committing.reply is None
    assert reading.reply is None
    assert driver.crash().fetch() == 1
    driver.log.settle()
    assert committing.reply.topics == (("topic", ((0, ErrorCode.NONE),)),)
    assert reading.reply.topics[0][2][0].offset == 2


# -- fetch


def test_fetch_of_the_unknown_is_minus_one(driver: Driver) -> None:
    assert driver.fetch() == -1
    assert driver.ask(FetchCommand("unknown", None)).topics == ()
    driver.commit(1)
    assert driver.fetch(partition=1) == -1
    assert driver.fetch(topic="other") == -1


def test_fetch_all(driver: Driver) -> None:
    driver.commit(1, topic="a", partition=0)
    driver.commit(2, topic="a", partition=3, topic_id=ONE)
    driver.commit(3, topic="b")
    reply = driver.ask(FetchCommand(GROUP, None))
    found = {(name, part.partition): part.offset for name, _, parts in reply.topics for part in parts}
    assert found == {("a", 0): 1, ("a", 3): 2, ("b", 0): 3}


def test_offsets_of_a_former_topic_of_the_same_name_are_not_shown(driver: Driver) -> None:
    driver.commit(7, topic_id=ONE)
    assert driver.fetch(topic_id=ONE) == 7
    assert driver.fetch(topic_id=TWO) == -1
    assert driver.fetch() == 7  # no id: any
    driver.commit(1, topic_id=TWO)
    assert driver.fetch(topic_id=TWO) == 1


# -- delete


def test_delete_offsets_respects_subscriptions(driver: Driver) -> None:
    (leader,) = driver.stable(protocols=(("range", subscription("topic")),))
    for topic in ("topic", "old"):
        assert driver.commit_error(1, member_id=leader, generation=1, topic=topic) is ErrorCode.NONE
    reply = driver.ask(DeleteOffsetsCommand(GROUP, [("topic", [0]), ("old", [0, 5])]))
    assert reply.error is ErrorCode.NONE
    assert reply.topics == (
        ("topic", ((0, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC),)),
        ("old", ((0, ErrorCode.NONE), (5, ErrorCode.NONE))),
    )
    assert (driver.fetch(topic="topic"), driver.fetch(topic="old")) == (1, -1)
    assert driver.log.records[-1] == (encode_offset_key(GROUP, "old", 0), None)


def test_delete_offsets_of_unparsable_subscriptions_is_refused(driver: Driver) -> None:
    (leader,) = driver.stable(protocols=(("range", b"\x01"),))
    driver.commit(1, member_id=leader, generation=1)
    reply = driver.ask(DeleteOffsetsCommand(GROUP, [("topic", [0])]))
    assert reply.topics[0][1] == ((0, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC),)


def test_delete_offsets_errors(driver: Driver) -> None:
    assert driver.ask(DeleteOffsetsCommand(GROUP, [("topic", [0])])).error is ErrorCode.GROUP_ID_NOT_FOUND
    driver.stable(protocol_type="connect", protocols=(("range", b""),))
    assert driver.ask(DeleteOffsetsCommand(GROUP, [("topic", [0])])).error is ErrorCode.NON_EMPTY_GROUP


def test_delete_group(driver: Driver) -> None:
    assert driver.ask(DeleteGroupCommand(GROUP)).error is ErrorCode.GROUP_ID_NOT_FOUND
    (leader,) = driver.stable()
    driver.commit(1, member_id=leader, generation=1)
    assert driver.ask(DeleteGroupCommand(GROUP)).error is ErrorCode.NON_EMPTY_GROUP
    driver.leave((leader, None))
    driver.log.refuse = Retry("full")
    assert driver.ask(DeleteGroupCommand(GROUP)).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert driver.fetch() == 1
    driver.log.refuse = None
    assert driver.ask(DeleteGroupCommand(GROUP)).error is ErrorCode.NONE
    assert driver.state() == "None"
    assert driver.fetch() == -1
    assert driver.crash().state() == "None"


# -- expiry


def test_offsets_of_an_empty_group_expire_from_when_it_became_empty(brief: Driver) -> None:
    (leader,) = brief.stable()
    brief.commit(1, member_id=leader, generation=1)
    for _ in range(2 * HOUR_MS // 9_000):  # two hours of life
        brief.advance(9_000)
        brief.heartbeat(leader, 1)
    assert brief.fetch() == 1
    brief.leave((leader, None))
    brief.advance(HOUR_MS - 60_001)
    assert brief.fetch() == 1
    brief.advance(180_000)
    assert brief.fetch() == -1
    assert brief.state() == "None"
    assert brief.crash().state() == "None"


def test_offsets_of_a_simple_group_expire_from_the_commit(brief: Driver) -> None:
    brief.commit(1)
    brief.advance(HOUR_MS // 2)
    brief.commit(2, partition=1)
    brief.advance(HOUR_MS // 2 + 60_000)
    assert (brief.fetch(0), brief.fetch(1)) == (-1, 2)
    brief.advance(HOUR_MS // 2)
    assert brief.fetch(1) == -1
    assert brief.state() == "None"


def test_a_stable_group_only_loses_what_it_no_longer_subscribes_to(brief: Driver) -> None:
    (leader,) = brief.stable(protocols=(("range", subscription("topic")),))
    brief.commit(1, member_id=leader, generation=1)
    brief.commit(2, member_id=leader, generation=1, topic="old")
    for _ in range(2 * HOUR_MS // 9_000):
        brief.advance(9_000)
        brief.heartbeat(leader, 1)
    assert (brief.fetch(), brief.fetch(topic="old")) == (1, -1)
    assert brief.state() == "Stable"


def test_retention_per_commit_overrides(brief: Driver) -> None:
    brief.commit(1, retention_ms=3 * HOUR_MS, version=4)
    brief.commit(2, partition=1, retention_ms=60_000, version=4)
    brief.advance(2 * HOUR_MS)
    assert (brief.fetch(0), brief.fetch(1)) == (1, -1)
    brief.advance(HOUR_MS + 60_000)
    assert brief.fetch(0) == -1


def test_an_empty_group_with_a_handed_out_id_is_not_deleted(brief: Driver) -> None:
    member = brief.join(session_ms=300_000).reply.member_id
    brief.advance(120_000)
    assert brief.join(member).reply is None
    assert brief.state() == "PreparingRebalance"


def test_refused_expiry_is_tried_again_soon(brief: Driver) -> None:
    brief.commit(1)
    brief.log.refuse = Retry("full")
    brief.advance(HOUR_MS + 60_000)
    assert brief.fetch() == 1
    brief.log.refuse = None
    brief.advance(1_000)
    assert brief.fetch() == -1


def test_deleted_topics_lose_their_offsets(driver: Driver) -> None:
    for group in ("g", "h"):
        driver.commit(1, group=group, topic_id=ONE)
        driver.commit(2, group=group, partition=1, topic_id=TWO)
        driver.commit(3, group=group, topic="other", topic_id=ONE)
    driver.log.refuse = Retry("full")
    driver.shard.topic_deleted("topic", ONE)
    assert driver.fetch() == 1
    driver.log.refuse = None
    driver.advance(1_000)
    for group in ("g", "h"):
        assert driver.fetch(group=group) == -1
        assert driver.fetch(1, group=group) == 2  # of the topic that has the name now
        assert driver.fetch(group=group, topic="other") == 3
    assert driver.crash().fetch() == -1


# -- describe and list


def test_describe(driver: Driver) -> None:
    leader, follower = driver.stable(2)
    described = driver.ask(DescribeCommand(GROUP, 5))
    assert (described.state, described.protocol_type, described.protocol) == ("Stable", "consumer", "range")
    members = {member.member_id: member for member in described.members}
    assert set(members) == {leader, follower}
    assert members[leader].metadata == SUBSCRIPTION
    assert members[leader].assignment == b"a0"
    assert (members[leader].client_id, members[leader].client_host) == ("client", "/127.0.0.1")
    driver.join(leader)
    rebalancing = driver.ask(DescribeCommand(GROUP, 5))
    assert (rebalancing.state, rebalancing.protocol) == ("PreparingRebalance", "")
    assert {member.metadata for member in rebalancing.members} == {b""}


def test_describe_of_the_unknown(driver: Driver) -> None:
    old = driver.ask(DescribeCommand("x", 5))
    assert (old.error, old.state, old.error_message) == (ErrorCode.NONE, "Dead", None)
    new = driver.ask(DescribeCommand("x", 6))
    assert (new.error, new.state, new.error_message) == (ErrorCode.GROUP_ID_NOT_FOUND, "Dead", "Group x not found.")


@pytest.mark.parametrize(
    ("states", "types", "expected"),
    [
        ((), (), {"g", "simple"}),
        (("stable",), (), {"g"}),
        (("EMPTY", "Dead"), (), {"simple"}),
        (("nonsense",), (), set()),
        ((), ("CLASSIC",), {"g", "simple"}),
        ((), ("Consumer",), set()),
        (("Stable",), ("Classic", "Consumer"), {"g"}),
    ],
)
def test_list(driver: Driver, states: tuple[str, ...], types: tuple[str, ...], expected: set[str]) -> None:
    driver.stable()
    driver.commit(1, group="simple")
    reply = driver.ask(ListCommand(states, types))
    assert {group.group_id for group in reply.groups} == expected
    for group in reply.groups:
        assert group.group_type == "classic"
        assert group.protocol_type == ("" if group.group_id == "simple" else "consumer")
