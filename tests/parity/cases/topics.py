"""CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords."""

from __future__ import annotations

import time
from typing import Any

from tests.parity import apis
from tests.parity.batches import batch
from tests.parity.cases import case, ends
from tests.parity.target import Target
from tests.parity.wire import Plain

CREATE = apis.CREATE_TOPICS
DELETE = apis.DELETE_TOPICS
GROW = apis.CREATE_PARTITIONS
TRIM = apis.DELETE_RECORDS
SOME = ends(CREATE, 5)


def wanted(name: str, partitions: int = 1, factor: int = 1, **configs: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": factor,
        "assignments": [],
        "configs": [{"name": k.replace("_", "."), "value": c} for k, c in configs.items()],
    }


def create(b: Target, v: int, *topics: dict[str, Any], validate_only: bool = False) -> Plain:
    """The answer, its configs cut down to those that were asked for (DescribeConfigs compares them all)."""
    answer = b.call(CREATE, v, topics=list(topics), timeout=10000, validate_only=validate_only)
    for topic, request in zip(answer.get("topics", []), topics, strict=False):
        if topic.get("configs"):
            asked = {c["name"] for c in request["configs"]}
            topic["configs"] = [c for c in topic["configs"] if c["name"] in asked]
    return answer


@case(CREATE)
def create_valid(b: Target, v: int) -> Plain:
    name = b.name()
    answer = create(b, v, wanted(name, 3, retention_ms="60000"))
    topic = b.await_topic(name)
    return {
        "answer": answer,
        "metadata": b.call(apis.METADATA, 9, topics=[{"name": topic.name}], allow_auto_topic_creation=False),
    }


@case(CREATE)
def create_existing(b: Target, v: int) -> Plain:
    return create(b, v, wanted(b.topic().name))


@case(CREATE)
def create_with_defaults(b: Target, v: int) -> Plain:
    """-1 partitions and replication factor -1: refused before version 4."""
    return create(b, v, wanted(b.name(), -1, -1))


@case(CREATE, SOME)
def create_no_partitions(b: Target, v: int) -> Plain:
    return create(b, v, wanted(b.name(), 0))


@case(CREATE, SOME)
def create_negative_partitions(b: Target, v: int) -> Plain:
    return create(b, v, wanted(b.name(), -2))


@case(CREATE, SOME)
def create_factor_zero(b: Target, v: int) -> Plain:
    return create(b, v, wanted(b.name(), 1, 0))


@case(CREATE, SOME)
def create_factor_negative(b: Target, v: int) -> Plain:
    return create(b, v, wanted(b.name(), 1, -2))


@case(CREATE, SOME)
def create_factor_above_brokers(b: Target, v: int) -> Plain:
    return create(b, v, wanted(b.name(), 1, 3))


@case(CREATE, SOME)
def create_bad_names(b: Target, v: int) -> Plain:
    long = b.token + "n" * 250
    return [create(b, v, wanted(n)) for n in ("", ".", "..", "a b", "a/b", "ä", long)]


@case(CREATE, SOME)
def create_longest_name(b: Target, v: int) -> Plain:
    name = b.name()
    return create(b, v, wanted(name + "n" * (249 - len(name))))


@case(CREATE, SOME)
def create_colliding_name(b: Target, v: int) -> Plain:
    """`a.b` and `a_b` would have the same metric name."""
    name = b.name()
    return [create(b, v, wanted(f"{name}.x")), create(b, v, wanted(f"{name}_x"))]


@case(CREATE, SOME)
def create_unknown_config(b: Target, v: int) -> Plain:
    return create(b, v, wanted(b.name(), no_such_config="1"))


@case(CREATE, SOME)
def create_bad_config_values(b: Target, v: int) -> Plain:
    bad: tuple[dict[str, str | None], ...] = (
        {"retention_ms": "abc"},
        {"retention_ms": "-2"},
        {"cleanup_policy": "forget"},
        {"compression_type": "rar"},
        {"max_message_bytes": "-1"},
        {"message_timestamp_type": "Never"},
        {"min_insync_replicas": "0"},
        {"segment_bytes": "3"},
        {"unclean_leader_election_enable": "maybe"},
        {"message_timestamp_before_max_ms": "-1"},
        {"retention_bytes": "1.5"},
        {"retention_ms": None},
        {"retention_ms": ""},
    )
    return [create(b, v, wanted(b.name(), **configs)) for configs in bad]


@case(CREATE, SOME)
def create_config_twice(b: Target, v: int) -> Plain:
    topic = wanted(b.name())
    topic["configs"] = [{"name": "retention.ms", "value": "1000"}, {"name": "retention.ms", "value": "2000"}]
    return create(b, v, topic)


@case(CREATE, SOME)
def create_validate_only(b: Target, v: int) -> Plain:
    name = b.name()
    answer = create(b, v, wanted(name, 2), wanted(b.topic().name), wanted("bad/name"), validate_only=True)
    return {
        "answer": answer,
        "after": b.call(apis.METADATA, 9, topics=[{"name": name}], allow_auto_topic_creation=False),
    }


@case(CREATE, SOME)
def create_twice_in_one(b: Target, v: int) -> Plain:
    name = b.name()
    return create(b, v, wanted(name), wanted(name, 2), wanted(b.name()))


@case(CREATE, SOME)
def create_good_and_bad(b: Target, v: int) -> Plain:
    return create(b, v, wanted(b.name()), wanted(b.name(), 0), wanted("bad/name"))


@case(CREATE, SOME)
def create_nothing(b: Target, v: int) -> Plain:
    return create(b, v)


def assigned(name: str, *replicas: list[int], partitions: int = -1, factor: int = -1) -> dict[str, Any]:
    topic = wanted(name, partitions, factor)
    topic["assignments"] = [{"partition_index": i, "broker_ids": nodes} for i, nodes in enumerate(replicas)]
    return topic


@case(CREATE, SOME)
def create_assigned(b: Target, v: int) -> Plain:
    return create(b, v, assigned(b.name(), [b.node_id], [b.node_id]))


@case(CREATE, SOME)
def create_assigned_badly(b: Target, v: int) -> Plain:
    node = b.node_id
    gap = assigned(b.name(), [node])
    gap["assignments"][0]["partition_index"] = 1
    return [
        create(b, v, assigned(b.name(), [node], partitions=1)),
        create(b, v, assigned(b.name(), [node], factor=1)),
        create(b, v, assigned(b.name(), [node + 71])),
        create(b, v, assigned(b.name(), [])),
        create(b, v, assigned(b.name(), [node, node])),
        create(b, v, gap),
    ]


@case(CREATE, SOME)
def create_internal(b: Target, v: int) -> Plain:
    b.group()
    return create(b, v, wanted("__consumer_offsets"))


# -------------------- DeleteTopics


def delete(b: Target, v: int, *names: str) -> Plain:
    """By name, in the fields of any version."""
    topics = [{"name": n, "topic_id": None} for n in names]
    return b.call(DELETE, v, topic_names=list(names), topics=topics, timeout=10000)


@case(DELETE)
def delete_valid(b: Target, v: int) -> Plain:
    one, two = b.topic(), b.topic()
    answer = delete(b, v, one.name, two.name)
    for _ in range(100):
        after = b.call(apis.METADATA, 9, topics=[{"name": one.name}], allow_auto_topic_creation=False)
        if after["topics"][0]["error_code"] != "none":
            break
        time.sleep(0.02)
    return {"answer": answer, "after": after["topics"]}


@case(DELETE)
def delete_unknown(b: Target, v: int) -> Plain:
    return delete(b, v, b.unknown_topic().name)


@case(DELETE)
def delete_twice_in_one(b: Target, v: int) -> Plain:
    name = b.topic().name
    return delete(b, v, name, name)


@case(DELETE)
def delete_nothing(b: Target, v: int) -> Plain:
    return delete(b, v)


@case(DELETE, ends(DELETE))
def delete_bad_name(b: Target, v: int) -> Plain:
    return delete(b, v, "bad/name", "")


@case(DELETE, (6,))
def delete_by_id(b: Target, v: int) -> Plain:
    topic = b.topic()
    request = [{"name": None, "topic_id": topic.id}, {"name": None, "topic_id": b.unknown_topic().id}]
    return b.call(DELETE, v, topics=request, timeout=10000)


@case(DELETE, (6,))
def delete_by_id_and_name(b: Target, v: int) -> Plain:
    topic = b.topic()
    return b.call(DELETE, v, topics=[{"name": topic.name, "topic_id": topic.id}], timeout=10000)


@case(DELETE, (6,))
def delete_by_neither(b: Target, v: int) -> Plain:
    return b.call(DELETE, v, topics=[{"name": None, "topic_id": None}], timeout=10000)


@case(DELETE, ends(DELETE))
def delete_and_create_again(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 3)
    delete(b, v, topic.name)
    for _ in range(100):
        answer = create(b, 7, wanted(topic.name))
        if answer["topics"][0]["error_code"] != "topic_already_exists":
            break
        time.sleep(0.05)
    again = b.await_topic(topic.name)
    return {"answer": answer, "another_id": again.id != topic.id, "empty": b.fetch(11, again)}


# -------------------- CreatePartitions


def grow(b: Target, v: int, name: str, count: int, nodes: list[list[int]] | None = None, **values: Any) -> Plain:
    assignments = None if nodes is None else [{"broker_ids": n} for n in nodes]
    topic = {"name": name, "count": count, "assignments": assignments}
    return b.call(GROW, v, topics=[topic], timeout=10000, **values)


@case(GROW)
def grow_valid(b: Target, v: int) -> Plain:
    topic = b.topic(2)
    b.fill(topic, 1, partition=1)
    answer = grow(b, v, topic.name, 4)
    for _ in range(100):
        after = b.call(apis.METADATA, 9, topics=[{"name": topic.name}], allow_auto_topic_creation=False)
        if len(after["topics"][0]["partitions"]) == 4:
            break
        time.sleep(0.02)
    return {"answer": answer, "after": after}


@case(GROW)
def grow_same(b: Target, v: int) -> Plain:
    return grow(b, v, b.topic(2).name, 2)


@case(GROW)
def grow_fewer(b: Target, v: int) -> Plain:
    return [grow(b, v, b.topic(2).name, count) for count in (1, 0, -1)]


@case(GROW)
def grow_unknown(b: Target, v: int) -> Plain:
    return grow(b, v, b.unknown_topic().name, 4)


@case(GROW)
def grow_validate_only(b: Target, v: int) -> Plain:
    topic = b.topic(1)
    answer = grow(b, v, topic.name, 3, validate_only=True)
    after = b.call(apis.METADATA, 9, topics=[{"name": topic.name}], allow_auto_topic_creation=False)
    return {"answer": answer, "partitions": len(after["topics"][0]["partitions"])}


@case(GROW)
def grow_assigned(b: Target, v: int) -> Plain:
    node = b.node_id
    return [
        grow(b, v, b.topic().name, 2, [[node]]),
        grow(b, v, b.topic().name, 2, [[node], [node]]),
        grow(b, v, b.topic().name, 2, [[node + 71]]),
        grow(b, v, b.topic().name, 2, [[]]),
    ]


@case(GROW)
def grow_twice_in_one(b: Target, v: int) -> Plain:
    name = b.topic().name
    topics = [{"name": name, "count": n, "assignments": None} for n in (2, 3)]
    return b.call(GROW, v, topics=topics, timeout=10000)


@case(GROW)
def grow_nothing(b: Target, v: int) -> Plain:
    return b.call(GROW, v, topics=[], timeout=10000)


# -------------------- DeleteRecords


def trim(b: Target, v: int, name: str, *parts: tuple[int, int]) -> Plain:
    partitions = [{"partition_index": p, "offset": o} for p, o in parts]
    return b.call(TRIM, v, topics=[{"name": name, "partitions": partitions}], timeout=10000)


@case(TRIM)
def trim_valid(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 5)
    answer = trim(b, v, topic.name, (0, 3))
    return {"answer": answer, "start": b.fetch(11, topic, offset=3)}


@case(TRIM)
def trim_to_the_end(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 5)
    answer = trim(b, v, topic.name, (0, -1))
    b.fill(topic, 1)
    return {"answer": answer, "after": b.fetch(11, topic, offset=5)}


@case(TRIM)
def trim_beyond(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 2)
    return trim(b, v, topic.name, (0, 3))


@case(TRIM)
def trim_negative(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 2)
    return trim(b, v, topic.name, (0, -2))


@case(TRIM)
def trim_backwards(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 5)
    return [trim(b, v, topic.name, (0, 4)), trim(b, v, topic.name, (0, 1)), trim(b, v, topic.name, (0, 0))]


@case(TRIM)
def trim_inside_a_batch(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.produce(9, topic, batch(tuple((b"k", b"%d" % i) for i in range(4))))
    return {"answer": trim(b, v, topic.name, (0, 2)), "fetch": b.fetch(11, topic, offset=2)}


@case(TRIM)
def trim_unknown_topic(b: Target, v: int) -> Plain:
    return trim(b, v, b.unknown_topic().name, (0, 1))


@case(TRIM)
def trim_unknown_partition(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    return trim(b, v, topic.name, (0, 1), (5, 1))


@case(TRIM)
def trim_compacted(b: Target, v: int) -> Plain:
    """Only topics that delete may be trimmed."""
    topic = b.topic(cleanup_policy="compact")
    b.fill(topic, 2)
    return trim(b, v, topic.name, (0, 1))
