"""Join, sync, heartbeat and leave of dynamic members, in the manner of Kafka's GroupMetadataManagerTest."""

from __future__ import annotations

import pytest

from broker.groups.messages import HeartbeatCommand, JoinReply, SyncReply
from broker.groups.records import GroupKey, decode_group_value, decode_key
from broker.groups.settings import GroupSettings
from protocol.errors import ErrorCode
from s3stream.errors import Fenced, Invalid, Retry
from tests.unit.groups.driver import GROUP, SUBSCRIPTION, Driver, subscription


def last_group(driver: Driver):  # type: ignore[no-untyped-def]
    """(key, value) of the last group record."""
    for key, value in reversed(driver.log.records):
        if isinstance(decode_key(key), GroupKey):
            return decode_key(key), None if value is None else decode_group_value(value)
    raise LookupError("no group record")


def test_new_member_must_come_back_with_its_id(driver: Driver) -> None:
    first = driver.join().reply
    assert (first.error, first.generation) == (ErrorCode.MEMBER_ID_REQUIRED, -1)
    assert first.member_id.startswith("client-")
    assert driver.state() == "Empty"
    second = driver.join(first.member_id)
    assert second.reply is None
    assert driver.state() == "PreparingRebalance"


def test_old_clients_join_at_once(driver: Driver) -> None:
    call = driver.join(version=3)
    assert call.reply is None
    driver.advance(3_000)
    assert call.reply.error is ErrorCode.NONE
    assert (call.reply.generation, call.reply.leader) == (1, call.reply.member_id)
    assert call.reply.members == ((call.reply.member_id, None, SUBSCRIPTION),)
    assert (call.reply.protocol_type, call.reply.protocol_name) == ("consumer", "range")


def test_pending_member_expires_with_its_session(driver: Driver) -> None:
    member = driver.join(session_ms=10_000).reply.member_id
    driver.advance(9_999)
    assert member in driver.group().pending_join
    driver.advance(1)
    assert member not in driver.group().pending_join
    assert driver.join(member).reply.error is ErrorCode.UNKNOWN_MEMBER_ID


def test_initial_rebalance_waits_for_latecomers_up_to_the_rebalance_timeout(driver: Driver) -> None:
    first = driver.join(version=3, rebalance_ms=7_000)
    driver.advance(2_000)
    second = driver.join(version=3, rebalance_ms=7_000)
    driver.advance(1_000)
    assert first.reply is None  # extended by the newcomer
    driver.advance(2_000)
    third = driver.join(version=3, rebalance_ms=7_000)
    driver.advance(1_000)
    assert first.reply is None
    driver.advance(1_000)  # 7 s in all
    replies = [call.reply for call in (first, second, third)]
    assert {reply.generation for reply in replies} == {1}
    assert len(replies[0].members) == 3
    assert replies[1].members == ()


def test_initial_rebalance_ends_after_its_delay_without_latecomers(driver: Driver) -> None:
    _, call = driver.join_with_id()
    driver.advance(2_999)
    assert call.reply is None
    driver.advance(1)
    assert call.reply.error is ErrorCode.NONE


def test_sync_gives_everyone_the_leaders_assignment(driver: Driver) -> None:
    leader, follower = driver.stable(2)
    assert driver.state() == "Stable"
    _, value = last_group(driver)
    assert (value.generation, value.leader, value.protocol, value.protocol_type) == (1, leader, "range", "consumer")
    assert {member.member_id: member.assignment for member in value.members} == {leader: b"a0", follower: b"a1"}
    assert {member.subscription for member in value.members} == {SUBSCRIPTION}
    again = driver.sync(follower, 1).reply
    assert again == SyncReply(ErrorCode.NONE, "consumer", "range", b"a1")


def test_member_that_the_leader_forgot_gets_nothing(driver: Driver) -> None:
    calls = [driver.join(version=3), driver.join(version=3)]
    driver.until_answered(*calls)
    leader = calls[0].reply.leader
    other = next(call.reply.member_id for call in calls if call.reply.member_id != leader)
    waiting = driver.sync(other, 1)
    driver.sync(leader, 1, [(leader, b"all")])
    assert waiting.reply.assignment == b""
    assert driver.state() == "Stable"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"group": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"session_ms": 5_999}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_ms": 1_800_001}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"protocols": ()}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_type": ""}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"member_id": "ghost"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_refused_joins(driver: Driver, options: dict[str, object], error: ErrorCode) -> None:
    assert driver.join(**options).reply.error is error  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"protocols": (("roundrobin", b""),)}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_type": "connect"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"member_id": "ghost"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member_id": "ghost", "instance": "unknown"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_refused_joins_of_a_living_group(driver: Driver, options: dict[str, object], error: ErrorCode) -> None:
    driver.stable()
    assert driver.join(**options).reply.error is error  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("member", "generation", "options", "error"),
    [
        ("ghost", 1, {}, ErrorCode.UNKNOWN_MEMBER_ID),
        (None, 0, {}, ErrorCode.ILLEGAL_GENERATION),
        (None, 2, {}, ErrorCode.ILLEGAL_GENERATION),
        (None, 1, {"protocol": "roundrobin"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        (None, 1, {"protocol_type": "connect"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        (None, 1, {"protocol": None, "protocol_type": None}, ErrorCode.NONE),
        (None, 1, {"instance": "i"}, ErrorCode.UNKNOWN_MEMBER_ID),
        (None, 1, {"group": "other"}, ErrorCode.UNKNOWN_MEMBER_ID),
        (None, 1, {"group": ""}, ErrorCode.INVALID_GROUP_ID),
    ],
)
def test_sync_errors(
    driver: Driver, member: str | None, generation: int, options: dict[str, object], error: ErrorCode
) -> None:
    (leader,) = driver.stable()
    assert driver.sync(member or leader, generation, **options).reply.error is error  # type: ignore[arg-type]


def test_heartbeat_errors(driver: Driver) -> None:
    assert driver.heartbeat("ghost", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.heartbeat("ghost", 1, group="") is ErrorCode.INVALID_GROUP_ID
    (leader,) = driver.stable()
    assert driver.heartbeat(leader, 1) is ErrorCode.NONE
    assert driver.heartbeat(leader, 0) is ErrorCode.ILLEGAL_GENERATION
    assert driver.heartbeat("ghost", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    driver.join_with_id()
    assert driver.heartbeat(leader, 1) is ErrorCode.REBALANCE_IN_PROGRESS


def test_new_member_makes_the_others_rejoin(driver: Driver) -> None:
    (leader,) = driver.stable()
    newcomer, joining = driver.join_with_id()
    assert driver.state() == "PreparingRebalance"
    assert joining.reply is None
    rejoining = driver.join(leader)
    assert rejoining.reply.generation == 2
    assert joining.reply.generation == 2
    assert rejoining.reply.leader == leader
    assert {member for member, _, _ in rejoining.reply.members} == {leader, newcomer}


def test_a_pending_member_holds_the_rebalance_up(driver: Driver) -> None:
    """KIP-394: the handed out id counts until it is used or expires."""
    (leader,) = driver.stable()
    pending = driver.join().reply.member_id
    rejoin = driver.join(leader)
    assert rejoin.reply is None
    joined = driver.join(pending)
    assert joined.reply.generation == rejoin.reply.generation == 2


def test_member_that_does_not_rejoin_is_dropped_after_the_rebalance_timeout(driver: Driver) -> None:
    leader, follower = driver.stable(2, rebalance_ms=20_000, session_ms=300_000)
    rejoin = driver.join(leader, rebalance_ms=20_000, session_ms=300_000)
    driver.advance(19_999)
    assert rejoin.reply is None
    driver.advance(1)
    assert [member for member, _, _ in rejoin.reply.members] == [leader]
    assert driver.heartbeat(follower, 2) is ErrorCode.UNKNOWN_MEMBER_ID


def test_another_member_leads_when_the_leader_is_late(driver: Driver) -> None:
    leader, follower = driver.stable(2, rebalance_ms=20_000, session_ms=300_000)
    newcomer, joining = driver.join_with_id(rebalance_ms=20_000, session_ms=300_000)
    rejoin = driver.join(follower, rebalance_ms=20_000, session_ms=300_000)
    driver.advance(20_000)
    assert rejoin.reply.leader in (follower, newcomer)
    assert joining.reply.leader == rejoin.reply.leader
    assert driver.heartbeat(leader, 2) is ErrorCode.UNKNOWN_MEMBER_ID


def test_session_timeout_removes_the_member(driver: Driver) -> None:
    leader, follower = driver.stable(2)
    driver.advance(6_000)
    assert driver.heartbeat(leader, 1) is ErrorCode.NONE
    driver.advance(4_000)
    assert follower not in driver.group().members
    assert driver.state() == "PreparingRebalance"
    assert driver.heartbeat(leader, 1) is ErrorCode.REBALANCE_IN_PROGRESS


def test_session_runs_from_the_end_of_the_join_phase(driver: Driver) -> None:
    """Not from the five minutes that a new member gets while it waits."""
    call = driver.join(version=3)
    driver.until_answered(call)
    driver.advance(9_499)
    assert driver.state() == "CompletingRebalance"
    driver.advance(501)
    assert driver.state() == "Empty"


def test_last_member_gone_writes_an_empty_group(driver: Driver) -> None:
    driver.stable()
    driver.advance(10_000)
    assert driver.state() == "Empty"
    _, value = last_group(driver)
    assert (value.generation, value.members, value.protocol, value.leader) == (2, (), None, None)
    assert value.protocol_type == "consumer"


def test_waiting_members_need_no_heartbeat_but_new_ones_expire(driver: Driver) -> None:
    (leader,) = driver.stable(rebalance_ms=3_000_000, session_ms=1_800_000)
    _, joining = driver.join_with_id(rebalance_ms=3_000_000)
    driver.advance(299_999)
    assert joining.reply is None
    driver.advance(1)
    assert joining.reply == JoinReply(ErrorCode.UNKNOWN_MEMBER_ID)
    rejoin = driver.join(leader, rebalance_ms=3_000_000, session_ms=1_800_000)
    assert rejoin.reply.generation == 2


def test_members_that_never_sync_are_removed(driver: Driver) -> None:
    calls = [driver.join(version=3, rebalance_ms=30_000, session_ms=300_000) for _ in range(2)]
    driver.until_answered(*calls)
    leader = calls[0].reply.leader
    other = next(call.reply.member_id for call in calls if call.reply.member_id != leader)
    waiting = driver.sync(other, 1)
    driver.advance(30_000)
    assert waiting.reply.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert list(driver.group().members) == [other]
    assert driver.state() == "PreparingRebalance"


def test_pending_sync_also_ends_in_a_stable_group(driver: Driver) -> None:
    calls = [driver.join(version=3, rebalance_ms=30_000, session_ms=300_000) for _ in range(2)]
    driver.until_answered(*calls)
    leader = calls[0].reply.leader
    driver.sync(leader, 1, [(leader, b"x")])
    assert driver.state() == "Stable"
    driver.advance(30_000)
    assert list(driver.group().members) == [leader]
    assert driver.state() == "PreparingRebalance"


def test_rejoin_of_a_follower_without_change_is_answered_from_the_generation(driver: Driver) -> None:
    leader, follower = driver.stable(2)
    reply = driver.join(follower).reply
    assert (reply.generation, reply.leader, reply.members) == (1, leader, ())
    assert driver.state() == "Stable"


@pytest.mark.parametrize("who", [0, 1])
def test_changed_metadata_or_the_leader_force_a_rebalance(driver: Driver, who: int) -> None:
    members = driver.stable(2)
    protocols = (("range", SUBSCRIPTION if who == 0 else subscription("topic", "more")),)
    driver.join(members[who], protocols=protocols)
    assert driver.state() == "PreparingRebalance"


def test_lost_join_answer_is_given_again_before_sync(driver: Driver) -> None:
    member, call = driver.join_with_id()
    driver.advance(3_000)
    assert driver.join(member).reply == call.reply
    assert driver.state() == "CompletingRebalance"


def test_changed_metadata_before_sync_restarts(driver: Driver) -> None:
    leader_call, other_call = driver.join(version=3), driver.join(version=3)
    driver.until_answered(leader_call, other_call)
    leader = leader_call.reply.leader
    other = next(c.reply.member_id for c in (leader_call, other_call) if c.reply.member_id != leader)
    waiting = driver.sync(other, 1)
    rejoin = driver.join(leader, protocols=(("range", b"changed"),))
    assert waiting.reply.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.state() == "PreparingRebalance"
    driver.join(other)
    assert rejoin.reply.generation == 2


def test_protocol_with_most_votes_among_the_common_ones_wins(driver: Driver) -> None:
    a, b, c = b"a", b"b", b"c"
    calls = [
        driver.join(version=3, protocols=(("x", a), ("y", b), ("z", c))),
        driver.join(version=3, protocols=(("y", b), ("x", a))),
        driver.join(version=3, protocols=(("y", b), ("x", a))),
    ]
    driver.until_answered(*calls)
    assert {call.reply.protocol_name for call in calls} == {"y"}
    leader_reply = next(call.reply for call in calls if call.reply.members)
    assert {metadata for _, _, metadata in leader_reply.members} == {b}


def test_group_max_size() -> None:
    driver = Driver(GroupSettings(max_size=2))
    members = driver.stable(2)
    assert driver.join(version=3).reply.error is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert driver.join(members[1]).reply.error is ErrorCode.NONE
    driver.close()


def test_lowered_max_size_sheds_the_last_to_rejoin() -> None:
    before = Driver()
    members = before.stable(3)
    after = Driver(GroupSettings(max_size=2), records=before.log.records, loop=before.loop, now_ms=before.wall_ms)
    assert after.state() == "PreparingRebalance"
    calls = [after.join(member) for member in members]
    assert calls[2].reply.error is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert calls[0].reply.generation == 2
    assert len(after.group().members) == 2
    before.close()


def test_pending_ids_are_bounded() -> None:
    driver = Driver(GroupSettings(max_pending_members=2))
    assert [driver.join().reply.error for _ in range(3)] == [
        ErrorCode.MEMBER_ID_REQUIRED,
        ErrorCode.MEMBER_ID_REQUIRED,
        ErrorCode.GROUP_MAX_SIZE_REACHED,
    ]
    driver.close()


def test_retried_join_supersedes_the_waiting_one(driver: Driver) -> None:
    leader, _ = driver.stable(2)
    first = driver.join(leader)
    second = driver.join(leader)
    assert first.reply.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert second.reply is None
    assert driver.group().awaiting_join_count == 1


# -- leave


def test_leave(driver: Driver) -> None:
    leader, follower = driver.stable(2)
    pending = driver.join().reply.member_id
    reply = driver.leave((follower, None), ("ghost", None), (pending, None), ("", None))
    assert [error for _, _, error in reply.members] == [
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_MEMBER_ID,
    ]
    assert driver.state() == "PreparingRebalance"
    assert driver.join(leader).reply.generation == 2


def test_leave_of_an_unknown_group_fails_each_member(driver: Driver) -> None:
    reply = driver.leave(("m", None), ("", "i"))
    assert reply.error is ErrorCode.NONE
    assert [error for _, _, error in reply.members] == [ErrorCode.UNKNOWN_MEMBER_ID] * 2
    assert driver.leave(("m", None), group="").error is ErrorCode.INVALID_GROUP_ID


def test_last_member_leaves(driver: Driver) -> None:
    (leader,) = driver.stable()
    assert driver.leave((leader, None)).members[0][2] is ErrorCode.NONE
    assert driver.state() == "Empty"
    assert last_group(driver)[1].generation == 2
    # A member that comes later starts over with the initial delay.
    _, call = driver.join_with_id()
    driver.advance(3_000)
    assert call.reply.generation == 3


def test_leave_while_joining_completes_the_phase(driver: Driver) -> None:
    leader, follower = driver.stable(2)
    rejoin = driver.join(leader)
    assert rejoin.reply is None
    driver.leave((follower, None))
    assert rejoin.reply.generation == 2


# -- refused writes and durability


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Retry("full"), ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (Fenced("gone"), ErrorCode.NOT_COORDINATOR),
        (Invalid("too large"), ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_refused_first_record_leaves_no_group(driver: Driver, refusal: Exception, error: ErrorCode) -> None:
    driver.log.refuse = refusal
    assert driver.join().reply.error is error
    assert driver.state() == "None"
    assert not [key for key in driver.timers if key[0] == "heartbeat"]


def test_refused_assignment_makes_everyone_rejoin(driver: Driver) -> None:
    calls = [driver.join(version=3), driver.join(version=3)]
    driver.until_answered(*calls)
    leader = calls[0].reply.leader
    other = next(call.reply.member_id for call in calls if call.reply.member_id != leader)
    waiting = driver.sync(other, 1)
    driver.log.refuse = Retry("full")
    refused = driver.sync(leader, 1, [(leader, b"x"), (other, b"y")])
    assert refused.reply == waiting.reply == SyncReply(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert driver.state() == "PreparingRebalance"
    assert driver.group().members[other].assignment == b""
    driver.log.refuse = None
    rejoins = [driver.join(leader), driver.join(other)]
    assert [call.reply.generation for call in rejoins] == [2, 2]


def test_refused_empty_record_is_offered_again(driver: Driver) -> None:
    (leader,) = driver.stable()
    driver.log.refuse = Retry("full")
    driver.leave((leader, None))
    assert last_group(driver)[1].members
    driver.advance(5_000)
    driver.log.refuse = None
    driver.advance(1_000)
    assert last_group(driver)[1].members == ()


def test_assignment_is_answered_only_when_durable(driver: Driver) -> None:
    member, call = driver.join_with_id()
    driver.advance(3_000)
    driver.log.auto = False
    synced = driver.sync(member, call.reply.generation, [(member, b"x")])
    beating = driver.submit(HeartbeatCommand(GROUP, 1, member, None))
    assert driver.state() == "Stable"
    assert synced.reply is None
    assert beating.reply is None  # it would tell of a state that a crash takes back
    driver.log.settle()
    assert synced.reply.assignment == b"x"
    assert beating.reply.error is ErrorCode.NONE


def test_broken_log_answers_not_coordinator_and_stops(driver: Driver) -> None:
    member, call = driver.join_with_id()
    driver.advance(3_000)
    driver.log.auto = False
    synced = driver.sync(member, call.reply.generation, [(member, b"x")])
    newcomer, joining = driver.join(version=3), driver.join(version=3)
    driver.log.fail(Fenced("another broker leads"))
    for each in (synced, newcomer, joining):
        assert each.reply.error is ErrorCode.NOT_COORDINATOR
    assert len(driver.failures) == 1
    assert driver.heartbeat(member, 1) is ErrorCode.NOT_COORDINATOR


def test_restart_keeps_the_group_and_its_sessions(driver: Driver) -> None:
    leader, follower = driver.stable(2)
    again = driver.crash()
    assert again.state() == "Stable"
    assert again.heartbeat(leader, 1) is ErrorCode.NONE
    assert again.sync(follower, 1).reply.assignment == b"a1"
    again.advance(10_000)
    assert again.state() == "Empty"


def test_dropped_shard_answers_those_who_wait(driver: Driver) -> None:
    leader, _ = driver.stable(2)
    rejoin = driver.join(leader)
    driver.shard.close()
    assert rejoin.reply.error is ErrorCode.NOT_COORDINATOR
    assert driver.join().reply.error is ErrorCode.NOT_COORDINATOR
