"""JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the classic group protocol, dynamic and static members."""

from __future__ import annotations

import time
from typing import Any

from tests.parity import apis
from tests.parity.cases import case, ends
from tests.parity.target import SUBSCRIPTION, Target
from tests.parity.wire import Connection, Plain

JOIN = apis.JOIN_GROUP
SYNC = apis.SYNC_GROUP
BEAT = apis.HEARTBEAT
LEAVE = apis.LEAVE_GROUP
SOME = ends(JOIN, 3, 5)


def join(b: Target, v: int, group: str, member: str = "", **values: Any) -> Plain:
    return b.call(JOIN, v, **b.join_values(group, member, **values))


def joined(b: Target, v: int, group: str, **values: Any) -> Plain:
    """Join, with the second step that version 4 and later ask for."""
    answer = join(b, v, group, **values)
    if answer["error_code"] == "member_id_required":
        answer = join(b, v, group, answer["member_id"], **values)
    return answer


def sync(b: Target, v: int, group: str, member: str, generation: int, **values: Any) -> Plain:
    request = {
        "group_id": group,
        "generation_id": generation,
        "member_id": member,
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": [{"member_id": member, "assignment": b"mine"}],
        **values,
    }
    return b.call(SYNC, v, **request)


def beat(b: Target, v: int, group: str, member: str, generation: int, instance: str | None = None) -> Plain:
    return b.call(BEAT, v, group_id=group, generation_id=generation, member_id=member, group_instance_id=instance)


def leave(b: Target, v: int, group: str, *members: tuple[str, str | None]) -> Plain:
    entries = [{"member_id": m, "group_instance_id": i} for m, i in members]
    return b.call(LEAVE, v, group_id=group, member_id=members[0][0] if members else "", members=entries)


# -------------------- JoinGroup


@case(JOIN)
def first_join(b: Target, v: int) -> Plain:
    """From version 4 on a new member is given an id and told to come again with it."""
    return join(b, v, b.group())


@case(JOIN)
def join_sync_beat_leave(b: Target, v: int) -> Plain:
    group = b.group()
    answer = joined(b, v, group)
    member, generation = answer["member_id"], answer["generation_id"]
    return {
        "join": answer,
        "leads": answer["leader"] == member,
        "sync": sync(b, min(v, 5), group, member, generation),
        "beat": beat(b, min(v, 4), group, member, generation),
        "leave": leave(b, min(v, 5), group, (member, None)),
        "beat_after": beat(b, min(v, 4), group, member, generation),
    }


@case(JOIN, SOME)
def join_empty_group_id(b: Target, v: int) -> Plain:
    return join(b, v, "")


@case(JOIN, SOME)
def join_session_timeouts(b: Target, v: int) -> Plain:
    """Below the minimum (1 s here) and above the maximum (30 min)."""
    return [join(b, v, b.group(), session_timeout=t) for t in (0, 10, 2_000_000, -1)]


@case(JOIN, SOME)
def join_unknown_member(b: Target, v: int) -> Plain:
    empty, used = b.group(), b.group()
    b.member(used)
    return [join(b, v, empty, "nobody"), join(b, v, used, "nobody")]


@case(JOIN, SOME)
def join_no_protocols(b: Target, v: int) -> Plain:
    return join(b, v, b.group(), protocols=[])


@case(JOIN, SOME)
def join_empty_protocol_type(b: Target, v: int) -> Plain:
    return join(b, v, b.group(), protocol_type="")


@case(JOIN, SOME)
def join_other_protocol_type(b: Target, v: int) -> Plain:
    group = b.group()
    b.member(group)
    return join(b, v, group, protocol_type="connect")


@case(JOIN, SOME)
def join_no_common_protocol(b: Target, v: int) -> Plain:
    group = b.group()
    b.member(group)
    return join(b, v, group, protocols=[{"name": "sticky", "metadata": SUBSCRIPTION}])


@case(JOIN, SOME)
def join_again_unchanged(b: Target, v: int) -> Plain:
    """The leader joins again: a new generation; its heartbeat with the old one is refused."""
    group = b.group()
    member, generation = b.member(group)
    answer = join(b, v, group, member)
    return {
        "answer": answer,
        "rises": answer["generation_id"] - generation,
        "old": beat(b, 3, group, member, 1),
    }


def second_member(b: Target, v: int, group: str, first: str) -> tuple[Connection, Plain, Plain]:
    """A second member arrives: the first one's heartbeat, then both joins' answers."""
    arriving = b.connect()
    arriving.send(JOIN, v, **b.join_values(group))
    if v >= 4:
        told = arriving.recv()
        arriving.send(JOIN, v, **b.join_values(group, told["member_id"]))
    for _ in range(40):
        told = beat(b, 0, group, first, 1)
        if told["error_code"] != "none":
            break
        time.sleep(0.05)
    again = join(b, v, group, first)
    return arriving, told, again


@case(JOIN)
def second_member_joins(b: Target, v: int) -> Plain:
    group = b.group()
    first, _ = b.member(group)
    arriving, told, again = second_member(b, v, group, first)
    other = arriving.recv()
    count = len(again["members"]) + len(other["members"])
    for answer in (again, other):
        answer["members"] = sorted(m["metadata"].hex() for m in answer["members"])
    leads = again["leader"] == first and other["leader"] == first
    return {"beat": told, "first": again, "second": other, "members": count, "first_leads": leads}


@case(JOIN, SOME)
def sync_of_two(b: Target, v: int) -> Plain:
    """The follower's sync waits for the leader's and gets its own assignment."""
    group = b.group()
    first, _ = b.member(group)
    arriving, _, again = second_member(b, v, group, first)
    other = arriving.recv()
    second, generation = other["member_id"], other["generation_id"]
    waiting = b.connect()
    waiting.send(
        SYNC,
        3,
        group_id=group,
        generation_id=generation,
        member_id=second,
        group_instance_id=None,
        assignments=[],
    )
    assignments = [{"member_id": first, "assignment": b"one"}, {"member_id": second, "assignment": b"two"}]
    leader = sync(b, 3, group, first, again["generation_id"], assignments=assignments)
    return {"leader": leader, "follower": waiting.recv(), "beat": beat(b, 3, group, second, generation)}


@case(JOIN, SOME)
def beat_before_sync(b: Target, v: int) -> Plain:
    group = b.group()
    answer = joined(b, v, group)
    return beat(b, 3, group, answer["member_id"], answer["generation_id"])


@case(JOIN, SOME)
def member_expires(b: Target, v: int) -> Plain:
    """A member that sends no heartbeat is removed after its session timeout."""
    group = b.group()
    answer = joined(b, v, group, session_timeout=1000)
    time.sleep(2.2)
    return beat(b, 3, group, answer["member_id"], answer["generation_id"])


@case(JOIN, ends(JOIN, 5))
def protocol_choice(b: Target, v: int) -> Plain:
    """Two protocols in common: the one most members prefer."""
    group = b.group()
    both = [{"name": "roundrobin", "metadata": SUBSCRIPTION}, {"name": "range", "metadata": SUBSCRIPTION}]
    return joined(b, v, group, protocols=both)


# -------------------- static


@case(JOIN, range(5, 10))
def static_member(b: Target, v: int) -> Plain:
    group = b.group()
    answer = join(b, v, group, group_instance_id="one")
    return {"join": answer, "sync": sync(b, 5, group, answer["member_id"], 1, group_instance_id="one")}


@case(JOIN, range(5, 10))
def static_member_returns(b: Target, v: int) -> Plain:
    """A restarted static member takes its place without a rebalance; its old self is fenced."""
    group = b.group()
    old, generation = b.member(group, group_instance_id="one")
    answer = join(b, v, group, group_instance_id="one")
    return {
        "join": answer,
        "another_id": answer["member_id"] != old,
        "old_beats": beat(b, 3, group, old, generation, "one"),
        "new_beats": beat(b, 3, group, answer["member_id"], answer["generation_id"], "one"),
        "old_joins": join(b, v, group, old, group_instance_id="one"),
    }


@case(JOIN, (5, 9))
def static_unknown_instance(b: Target, v: int) -> Plain:
    group = b.group()
    member, generation = b.member(group, group_instance_id="one")
    return [
        beat(b, 3, group, member, generation, "two"),
        join(b, v, group, member, group_instance_id="two"),
        join(b, v, group, "nobody", group_instance_id="one"),
    ]


@case(JOIN, (5, 9))
def static_member_removed_by_instance(b: Target, v: int) -> Plain:
    """What `remove members from group` of an admin client sends."""
    group = b.group()
    member, generation = b.member(group, group_instance_id="one")
    return [
        leave(b, 3, group, ("", "none-such")),
        leave(b, 3, group, ("", "one")),
        beat(b, 3, group, member, generation, "one"),
    ]


# -------------------- SyncGroup


@case(SYNC)
def sync_valid(b: Target, v: int) -> Plain:
    group = b.group()
    answer = joined(b, 5, group)
    first = sync(b, v, group, answer["member_id"], answer["generation_id"])
    return {"first": first, "again": sync(b, v, group, answer["member_id"], answer["generation_id"])}


@case(SYNC)
def sync_unknown(b: Target, v: int) -> Plain:
    group, empty = b.group(), b.group()
    member, generation = b.member(group)
    return [
        sync(b, v, group, "nobody", generation),
        sync(b, v, group, member, generation + 5),
        sync(b, v, empty, "nobody", 1),
        sync(b, v, "", member, generation),
    ]


@case(SYNC, (5,))
def sync_other_protocol(b: Target, v: int) -> Plain:
    group = b.group()
    answer = joined(b, 5, group)
    member = answer["member_id"]
    return [
        sync(b, v, group, member, 1, protocol_type="connect"),
        sync(b, v, group, member, 1, protocol_name="sticky"),
        sync(b, v, group, member, 1, protocol_type=None, protocol_name=None),
    ]


@case(SYNC)
def sync_without_own_assignment(b: Target, v: int) -> Plain:
    group = b.group()
    answer = joined(b, 5, group)
    return sync(b, v, group, answer["member_id"], 1, assignments=[])


# -------------------- Heartbeat


@case(BEAT)
def beat_valid(b: Target, v: int) -> Plain:
    group = b.group()
    member, generation = b.member(group)
    return beat(b, v, group, member, generation)


@case(BEAT)
def beat_refused(b: Target, v: int) -> Plain:
    group, empty = b.group(), b.group()
    member, generation = b.member(group)
    return [
        beat(b, v, group, "nobody", generation),
        beat(b, v, group, "", generation),
        beat(b, v, group, member, generation + 1),
        beat(b, v, group, member, -1),
        beat(b, v, empty, member, generation),
        beat(b, v, "", member, generation),
    ]


# -------------------- LeaveGroup


@case(LEAVE)
def leave_valid(b: Target, v: int) -> Plain:
    group = b.group()
    member, _ = b.member(group)
    return [leave(b, v, group, (member, None)), leave(b, v, group, (member, None))]


@case(LEAVE)
def leave_refused(b: Target, v: int) -> Plain:
    group, empty = b.group(), b.group()
    member, _ = b.member(group)
    return [
        leave(b, v, group, ("nobody", None)),
        leave(b, v, empty, (member, None)),
        leave(b, v, "", (member, None)),
        leave(b, v, group, ("", None)),
    ]


@case(LEAVE, (3, 5))
def leave_many(b: Target, v: int) -> Plain:
    group = b.group()
    member, _ = b.member(group)
    return [leave(b, v, group), leave(b, v, group, (member, None), ("nobody", None), (member, None))]
