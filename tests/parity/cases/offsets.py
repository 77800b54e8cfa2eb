"""OffsetCommit and OffsetFetch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tests.parity import apis
from tests.parity.cases import case, ends
from tests.parity.target import Target, Topic
from tests.parity.wire import Plain

COMMIT = apis.OFFSET_COMMIT
READ = apis.OFFSET_FETCH
SOME = ends(COMMIT, 5, 8)

Part = tuple[int, int]  # partition, offset


def commit(
    b: Target,
    v: int,
    group: str,
    topic: Topic,
    parts: Sequence[Part],
    *,
    metadata: str | None = "",
    **values: Any,
) -> Plain:
    """Commit outside any membership unless `values` say otherwise."""
    partitions = [
        {
            "partition_index": p,
            "committed_offset": o,
            "committed_leader_epoch": -1,
            "committed_metadata": metadata,
        }
        for p, o in parts
    ]
    entry = {"name": topic.name, "topic_id": topic.id, "partitions": partitions}
    request = {"generation_id_or_member_epoch": -1, "member_id": "", "retention_time": -1, "topics": [entry]}
    return b.call(COMMIT, v, group_id=group, **{**request, **values})


def read(b: Target, v: int, group: str, topics: Sequence[tuple[Topic, Sequence[int]]] | None, **values: Any) -> Plain:
    """Fetch the offsets of one group (null `topics`: all it has)."""
    entries = None
    if topics is not None:
        entries = [{"name": t.name, "topic_id": t.id, "partition_indexes": list(p)} for t, p in topics]
    request = {"group_id": group, "topics": entries} if v < 8 else {"groups": [{"group_id": group, "topics": entries}]}
    return b.call(READ, v, **request, **values)


@case(COMMIT)
def commit_and_fetch(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic(2)
    answer = commit(b, v, group, topic, [(0, 5), (1, 7)], metadata="note")
    return {"answer": answer, "found": read(b, 5, group, [(topic, [0, 1])])}


@case(COMMIT)
def commit_as_member(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    member, generation = b.member(group)
    answer = commit(b, v, group, topic, [(0, 3)], generation_id_or_member_epoch=generation, member_id=member)
    return {"answer": answer, "found": read(b, 5, group, [(topic, [0])])}


@case(COMMIT)
def commit_refused_by_membership(b: Target, v: int) -> Plain:
    group, empty, topic = b.group(), b.group(), b.topic()
    member, generation = b.member(group)
    tries = [
        (group, {"generation_id_or_member_epoch": generation + 1, "member_id": member}),
        (group, {"generation_id_or_member_epoch": generation, "member_id": "nobody"}),
        (group, {}),
        (empty, {"generation_id_or_member_epoch": 3, "member_id": "nobody"}),
        (empty, {"generation_id_or_member_epoch": 3, "member_id": ""}),
        ("", {}),
    ]
    return [commit(b, v, g, topic, [(0, 1)], **values) for g, values in tries]


@case(COMMIT, (7, 9, 10))
def commit_static(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    member, generation = b.member(group, group_instance_id="one")
    as_member = {"generation_id_or_member_epoch": generation, "member_id": member}
    return [
        commit(b, v, group, topic, [(0, 1)], **as_member, group_instance_id="one"),
        commit(b, v, group, topic, [(0, 2)], **as_member, group_instance_id="two"),
        commit(b, v, group, topic, [(0, 3)], **{**as_member, "member_id": "old"}, group_instance_id="one"),
    ]


@case(COMMIT, SOME)
def commit_before_sync(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    joined = b.call(apis.JOIN_GROUP, 3, **b.join_values(group))
    generation, member = joined["generation_id"], joined["member_id"]
    return commit(b, v, group, topic, [(0, 1)], generation_id_or_member_epoch=generation, member_id=member)


@case(COMMIT)
def commit_unknown_topic(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.unknown_topic()
    return {"answer": commit(b, v, group, topic, [(0, 1)]), "found": read(b, 5, group, [(topic, [0])])}


@case(COMMIT, SOME)
def commit_unknown_partition(b: Target, v: int) -> Plain:
    return commit(b, v, b.group(), b.topic(), [(0, 1), (9, 1), (-1, 1)])


@case(COMMIT, SOME)
def commit_negative_offset(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    answers = [commit(b, v, group, topic, [(0, o)]) for o in (-1, -5)]
    return {"answers": answers, "found": read(b, 5, group, [(topic, [0])])}


@case(COMMIT, SOME)
def commit_beyond_the_end(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    return {"answer": commit(b, v, group, topic, [(0, 10**12)]), "found": read(b, 5, group, [(topic, [0])])}


@case(COMMIT, SOME)
def commit_metadata(b: Target, v: int) -> Plain:
    """4096 characters are the limit; null is kept as the empty text."""
    group, topic = b.group(), b.topic(3)
    answers = [
        commit(b, v, group, topic, [(0, 1)], metadata="m" * 4096),
        commit(b, v, group, topic, [(1, 1)], metadata="m" * 4097),
        commit(b, v, group, topic, [(2, 1)], metadata=None),
    ]
    found = read(b, 5, group, [(topic, [0, 1, 2])])
    for part in found["topics"][0]["partitions"]:
        part["metadata"] = f"{len(part['metadata'] or '')} characters, null {part['metadata'] is None}"
    return {"answers": answers, "found": found}


@case(COMMIT, SOME)
def commit_twice_in_one(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    return {
        "answer": commit(b, v, group, topic, [(0, 4), (0, 2)]),
        "found": read(b, 5, group, [(topic, [0])]),
    }


@case(COMMIT, SOME)
def commit_nothing(b: Target, v: int) -> Plain:
    group = b.group()
    return b.call(COMMIT, v, group_id=group, generation_id_or_member_epoch=-1, member_id="", retention_time=-1)


@case(COMMIT, SOME)
def commit_backwards(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    answers = [commit(b, v, group, topic, [(0, o)]) for o in (9, 4)]
    return {"answers": answers, "found": read(b, 5, group, [(topic, [0])])}


# -------------------- OffsetFetch


@case(READ)
def fetch_committed(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic(3)
    commit(b, 7, group, topic, [(0, 5), (2, 9)], metadata="note")
    return read(b, v, group, [(topic, [0, 1, 2])])


@case(READ)
def fetch_nothing_committed(b: Target, v: int) -> Plain:
    return read(b, v, b.group(), [(b.topic(2), [0, 1])])


@case(READ, range(2, 11))
def fetch_all(b: Target, v: int) -> Plain:
    group, one, two = b.group(), b.topic(2), b.topic()
    commit(b, 7, group, one, [(0, 5), (1, 6)])
    commit(b, 7, group, two, [(0, 7)])
    return {"found": read(b, v, group, None), "of_none": read(b, v, b.group(), None)}


@case(READ)
def fetch_no_topics(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    commit(b, 7, group, topic, [(0, 5)])
    return read(b, v, group, [])


@case(READ)
def fetch_unknown_topic(b: Target, v: int) -> Plain:
    return read(b, v, b.group(), [(b.unknown_topic(), [0])])


@case(READ, ends(READ, 5, 8))
def fetch_unknown_partition(b: Target, v: int) -> Plain:
    return read(b, v, b.group(), [(b.topic(), [0, 9, -1])])


@case(READ, ends(READ, 2, 5, 8))
def fetch_empty_group_id(b: Target, v: int) -> Plain:
    return read(b, v, "", [(b.topic(), [0])])


@case(READ, (7, 8, 9, 10))
def fetch_stable(b: Target, v: int) -> Plain:
    group, topic = b.group(), b.topic()
    commit(b, 7, group, topic, [(0, 5)])
    return read(b, v, group, [(topic, [0])], require_stable=True)


@case(READ, (8, 9, 10))
def fetch_several_groups(b: Target, v: int) -> Plain:
    one, two, topic = b.group(), b.group(), b.topic()
    commit(b, 7, one, topic, [(0, 5)])
    entry = [{"name": topic.name, "topic_id": topic.id, "partition_indexes": [0]}]
    groups: list[dict[str, Any]] = [{"group_id": g, "topics": entry} for g in (one, two, "")]
    groups.append({"group_id": one, "topics": None})
    return b.call(READ, v, groups=groups)


@case(READ, (9, 10))
def fetch_with_member(b: Target, v: int) -> Plain:
    """Member id and epoch of a group that does not use the consumer protocol."""
    group, topic = b.group(), b.topic()
    commit(b, 7, group, topic, [(0, 5)])
    entry = [{"name": topic.name, "topic_id": topic.id, "partition_indexes": [0]}]
    values = ((None, -1), ("nobody", 3), ("nobody", -1))
    return [
        b.call(READ, v, groups=[{"group_id": group, "member_id": m, "member_epoch": e, "topics": entry}])
        for m, e in values
    ]


@case(READ, ends(READ, 8))
def fetch_deleted_topic(b: Target, v: int) -> Plain:
    """Deleting a topic deletes what groups committed on it."""
    group, topic = b.group(), b.topic()
    commit(b, 7, group, topic, [(0, 5)])
    b.call(apis.DELETE_TOPICS, 5, topic_names=[topic.name], timeout=10000)
    time.sleep(1)
    return read(b, v, group, [(topic, [0])])
