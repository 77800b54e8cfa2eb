"""Static members (KIP-345) and the skipped assignment (KIP-814)."""

from __future__ import annotations

import pytest

from broker.groups.messages import JoinReply, SyncReply
from protocol.errors import ErrorCode
from s3stream.errors import Retry
from tests.unit.groups.driver import Driver, subscription


def static_pair(driver: Driver, **options: object) -> tuple[str, str]:
    """A Stable group of static members "l" (the leader) and "f"; assignments b"L" and b"F"."""
    calls = [driver.join(instance="l", **options), driver.join(instance="f", **options)]  # type: ignore[arg-type]
    driver.until_answered(*calls)
    leader, follower = (call.reply.member_id for call in calls)
    assert calls[0].reply.leader == leader
    waiting = driver.sync(follower, 1, instance="f")
    driver.sync(leader, 1, [(leader, b"L"), (follower, b"F")], instance="l")
    assert waiting.reply.assignment == b"F"
    return leader, follower


def test_static_members_get_their_id_at_once(driver: Driver) -> None:
    call = driver.join(instance="l")
    driver.advance(3_000)
    assert call.reply.error is ErrorCode.NONE
    assert call.reply.member_id.startswith("l-")
    assert call.reply.members == ((call.reply.member_id, "l", subscription("topic")),)


@pytest.mark.parametrize("version", [8, 9])
def test_restarted_leader_keeps_the_generation(driver: Driver, version: int) -> None:
    leader, follower = static_pair(driver)
    reply = driver.join(instance="l", version=version).reply
    assert reply.error is ErrorCode.NONE
    assert reply.member_id not in (leader, follower)
    assert reply.generation == 1
    assert reply.protocol_name == "range"
    assert driver.state() == "Stable"
    if version >= 9:
        assert reply.leader == reply.member_id
        assert reply.skip_assignment
        assert {member for member, _, _ in reply.members} == {reply.member_id, follower}
    else:
        assert reply.leader == leader  # it must not think that it leads
        assert not reply.skip_assignment
        assert reply.members == ()
    assert driver.sync(reply.member_id, 1, instance="l").reply.assignment == b"L"
    assert driver.crash().sync(reply.member_id, 1, instance="l").reply.assignment == b"L"


def test_restarted_follower_keeps_its_assignment(driver: Driver) -> None:
    leader, _ = static_pair(driver)
    reply = driver.join(instance="f").reply
    assert (reply.leader, reply.members, reply.skip_assignment) == (leader, (), False)
    assert driver.sync(reply.member_id, 1, instance="f").reply.assignment == b"F"


def test_the_former_id_is_fenced(driver: Driver) -> None:
    _, follower = static_pair(driver)
    driver.join(instance="f")
    assert driver.heartbeat(follower, 1, instance="f") is ErrorCode.FENCED_INSTANCE_ID
    assert driver.sync(follower, 1, instance="f").reply.error is ErrorCode.FENCED_INSTANCE_ID
    assert driver.commit_error(1, member_id=follower, generation=1, instance="f") is ErrorCode.FENCED_INSTANCE_ID
    assert driver.join(follower, instance="f").reply == JoinReply(ErrorCode.FENCED_INSTANCE_ID, member_id=follower)
    assert driver.leave((follower, "f")).members[0][2] is ErrorCode.FENCED_INSTANCE_ID
    assert driver.heartbeat(follower, 1) is ErrorCode.UNKNOWN_MEMBER_ID


def test_waiting_requests_of_the_former_id_are_fenced(driver: Driver) -> None:
    first = driver.join(instance="l")
    second = driver.join(instance="l")
    assert first.reply.error is ErrorCode.FENCED_INSTANCE_ID
    driver.advance(3_000)
    waiting = second.reply.member_id
    assert second.reply.error is ErrorCode.NONE
    other = driver.join(instance="f")
    assert other.reply is None
    assert driver.heartbeat(waiting, 1, instance="l") is ErrorCode.REBALANCE_IN_PROGRESS


def test_changed_protocol_choice_forces_a_rebalance(driver: Driver) -> None:
    both = (("range", b""), ("roundrobin", b""))
    static_pair(driver, protocols=both)
    call = driver.join(instance="f", protocols=(("roundrobin", b""),))
    assert call.reply is None
    assert driver.state() == "PreparingRebalance"


def test_restart_between_join_and_sync_forces_a_rebalance(driver: Driver) -> None:
    calls = [driver.join(instance="l"), driver.join(instance="f")]
    driver.until_answered(*calls)
    leader = calls[0].reply.member_id
    waiting = driver.sync(leader, 1, instance="l")
    assert waiting.reply is not None  # the leader stores at once
    static = driver.join(instance="f", protocols=(("range", b"x"),))
    assert static.reply.error is ErrorCode.NONE
    driver.join(leader, instance="l")
    replaced = driver.join(instance="f")
    assert driver.state() in ("PreparingRebalance", "CompletingRebalance")
    again = driver.join(instance="f")
    assert replaced.reply is not None
    assert again.reply is None or again.reply.error is ErrorCode.NONE


def test_restart_while_completing_restarts_the_round(driver: Driver) -> None:
    calls = [driver.join(instance="l"), driver.join(instance="f")]
    driver.until_answered(*calls)
    follower = calls[1].reply.member_id
    waiting = driver.sync(follower, 1, instance="f")
    assert driver.state() == "CompletingRebalance"
    call = driver.join(instance="l")
    assert waiting.reply == SyncReply(ErrorCode.REBALANCE_IN_PROGRESS)
    assert call.reply is None
    rejoin = driver.join(follower, instance="f")
    assert call.reply.generation == rejoin.reply.generation == 2


def test_static_members_stay_through_a_rebalance_they_missed(driver: Driver) -> None:
    leader, follower = static_pair(driver, session_ms=300_000, rebalance_ms=20_000)
    rejoin = driver.join(leader, instance="l", session_ms=300_000, rebalance_ms=20_000)
    driver.advance(20_000)
    assert rejoin.reply.generation == 2
    assert {instance for _, instance, _ in rejoin.reply.members} == {"l", "f"}
    assert follower in driver.group().members


def test_no_generation_while_only_absent_static_members_are_left(driver: Driver) -> None:
    leader, _ = static_pair(driver, session_ms=300_000, rebalance_ms=20_000)
    _, joining = driver.join_with_id(session_ms=300_000, rebalance_ms=20_000)
    driver.leave((next(m for m in driver.group().members if m.startswith("client")), None))
    assert joining.reply.error is ErrorCode.UNKNOWN_MEMBER_ID
    driver.advance(50_000)
    assert driver.state() == "PreparingRebalance"
    assert driver.group().generation == 1
    assert driver.join(leader, instance="l", session_ms=300_000, rebalance_ms=20_000).reply is None


def test_administrator_removes_by_instance_id(driver: Driver) -> None:
    static_pair(driver)
    reply = driver.leave(("", "f"), ("", "unknown"))
    assert [(instance, error) for _, instance, error in reply.members] == [
        ("f", ErrorCode.NONE),
        ("unknown", ErrorCode.UNKNOWN_MEMBER_ID),
    ]
    assert driver.state() == "PreparingRebalance"


def test_refused_record_reverts_the_new_id(driver: Driver) -> None:
    _, follower = static_pair(driver)
    driver.log.refuse = Retry("full")
    reply = driver.join(instance="f").reply
    assert reply.error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    driver.log.refuse = None
    assert driver.heartbeat(follower, 1, instance="f") is ErrorCode.NONE
    assert driver.sync(follower, 1, instance="f").reply.assignment == b"F"
    assert driver.crash().heartbeat(follower, 1, instance="f") is ErrorCode.NONE
