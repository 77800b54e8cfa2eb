"""FindCoordinator, DescribeGroups, ListGroups, DeleteGroups."""

from __future__ import annotations

from typing import Any

from tests.parity import apis
from tests.parity.cases import case, ends
from tests.parity.target import Target
from tests.parity.wire import Plain

FIND = apis.FIND_COORDINATOR
DESCRIBE = apis.DESCRIBE_GROUPS
LIST = apis.LIST_GROUPS
DELETE = apis.DELETE_GROUPS


def find(b: Target, v: int, key_type: int, *keys: str) -> Plain:
    return b.call(FIND, v, key=keys[0] if keys else "", key_type=key_type, coordinator_keys=list(keys))


@case(FIND)
def find_group(b: Target, v: int) -> Plain:
    return find(b, v, 0, b.group())


@case(FIND)
def find_empty(b: Target, v: int) -> Plain:
    return find(b, v, 0, "")


@case(FIND, range(1, 7))
def find_unknown_type(b: Target, v: int) -> Plain:
    return [find(b, v, kind, b.name()) for kind in (9, -1)]


@case(FIND, range(1, 7))
def find_share_key_badly(b: Target, v: int) -> Plain:
    """Key type 2 is for shares and from version 6; this is not a share's key."""
    return find(b, v, 2, b.name())


@case(FIND, (4, 5, 6))
def find_several(b: Target, v: int) -> Plain:
    one, two = b.group(), b.group()
    return [find(b, v, 0, one, two), find(b, v, 0, one, one, ""), find(b, v, 0)]


def with_offsets(b: Target) -> str:
    """A group that has only committed offsets."""
    group, topic = b.group(), b.topic()
    part = {
        "partition_index": 0,
        "committed_offset": 1,
        "committed_leader_epoch": -1,
        "committed_metadata": "",
    }
    b.call(
        apis.OFFSET_COMMIT,
        7,
        group_id=group,
        generation_id_or_member_epoch=-1,
        member_id="",
        topics=[{"name": topic.name, "partitions": [part]}],
    )
    return group


def emptied(b: Target) -> str:
    """A group whose only member has left."""
    group = b.group()
    member, _ = b.member(group)
    b.call(apis.LEAVE_GROUP, 1, group_id=group, member_id=member)
    return group


def describe(b: Target, v: int, *groups: str, **values: Any) -> Plain:
    return b.call(DESCRIBE, v, groups=list(groups), **values)


@case(DESCRIBE)
def describe_unknown(b: Target, v: int) -> Plain:
    return describe(b, v, b.group())


@case(DESCRIBE)
def describe_stable(b: Target, v: int) -> Plain:
    group = b.group()
    b.member(group)
    return describe(b, v, group)


@case(DESCRIBE)
def describe_static(b: Target, v: int) -> Plain:
    group = b.group()
    b.member(group, group_instance_id="one")
    return describe(b, v, group)


@case(DESCRIBE)
def describe_empty_groups(b: Target, v: int) -> Plain:
    return [describe(b, v, emptied(b)), describe(b, v, with_offsets(b))]


@case(DESCRIBE)
def describe_rebalancing(b: Target, v: int) -> Plain:
    group = b.group()
    b.call(apis.JOIN_GROUP, 3, **b.join_values(group))
    return describe(b, v, group)


@case(DESCRIBE)
def describe_nothing(b: Target, v: int) -> Plain:
    return describe(b, v)


@case(DESCRIBE)
def describe_twice_in_one(b: Target, v: int) -> Plain:
    group = with_offsets(b)
    return describe(b, v, group, group)


@case(DESCRIBE, range(3, 7))
def describe_authorized_operations(b: Target, v: int) -> Plain:
    group = b.group()
    b.member(group)
    return describe(b, v, group, include_authorized_operations=True)


def listed(b: Target, v: int, mine: list[str], **values: Any) -> Plain:
    """The answer, its groups cut down to those of this case."""
    answer = b.call(LIST, v, **values)
    answer["groups"] = [g for g in answer.get("groups", []) if g["group_id"] in mine]
    return answer


@case(LIST)
def list_all(b: Target, v: int) -> Plain:
    stable = b.group()
    b.member(stable)
    return listed(b, v, [stable, emptied(b), with_offsets(b)])


@case(LIST, (4, 5))
def list_by_state(b: Target, v: int) -> Plain:
    stable = b.group()
    b.member(stable)
    mine = [stable, emptied(b)]
    filters = (["Stable"], ["Empty"], ["stable"], ["Stable", "Empty"], ["NoSuchState"], ["Dead"])
    return [listed(b, v, mine, states_filter=f) for f in filters]


@case(LIST, (5,))
def list_by_type(b: Target, v: int) -> Plain:
    mine = [with_offsets(b)]
    filters = (["classic"], ["Classic"], ["consumer"], ["nosuchtype"], ["classic", "consumer"])
    return [listed(b, v, mine, types_filter=f) for f in filters]


def delete(b: Target, v: int, *groups: str) -> Plain:
    return b.call(DELETE, v, groups_names=list(groups))


@case(DELETE)
def delete_empty(b: Target, v: int) -> Plain:
    one, two = emptied(b), with_offsets(b)
    return {"answer": delete(b, v, one, two), "after": [describe(b, 5, one), describe(b, 5, two)]}


@case(DELETE)
def delete_stable(b: Target, v: int) -> Plain:
    group = b.group()
    b.member(group)
    return delete(b, v, group)


@case(DELETE)
def delete_unknown(b: Target, v: int) -> Plain:
    return [delete(b, v, b.group()), delete(b, v)]


@case(DELETE)
def delete_twice_in_one(b: Target, v: int) -> Plain:
    group = with_offsets(b)
    return delete(b, v, group, group)


@case(DELETE, ends(DELETE))
def delete_forgets_offsets(b: Target, v: int) -> Plain:
    group = with_offsets(b)
    answer = delete(b, v, group)
    return {"answer": answer, "found": b.call(apis.OFFSET_FETCH, 5, group_id=group, topics=None)}
