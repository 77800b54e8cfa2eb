"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs on topics and brokers."""

from __future__ import annotations

import time
from typing import Any

from tests.parity import apis
from tests.parity.batches import batch
from tests.parity.cases import case, ends
from tests.parity.target import Target, Topic
from tests.parity.wire import Plain

DESCRIBE = apis.DESCRIBE_CONFIGS
ALTER = apis.ALTER_CONFIGS
CHANGE = apis.INCREMENTAL_ALTER_CONFIGS
TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, REMOVE, APPEND, SUBTRACT = 0, 1, 2, 3


def describe(b: Target, v: int, kind: int, name: str, keys: list[str] | None = None, **values: Any) -> Plain:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys}
    return b.call(DESCRIBE, v, resources=[resource], **values)


def settled(b: Target, topic: Topic, key: str, value: str | None) -> Plain:
    """The topic's config once it has this value (Kafka applies a change a moment after its answer)."""
    for _ in range(40):
        answer = describe(b, 4, TOPIC, topic.name, [key])
        configs = answer["results"][0]["configs"]
        if configs and configs[0]["value"] == value:
            break
        time.sleep(0.025)
    return answer


@case(DESCRIBE)
def topic_all(b: Target, v: int) -> Plain:
    return describe(b, v, TOPIC, b.topic(retention_ms="7000", max_message_bytes="5000").name)


@case(DESCRIBE)
def topic_some(b: Target, v: int) -> Plain:
    return describe(b, v, TOPIC, b.topic().name, ["retention.ms", "cleanup.policy", "no.such.config"])


@case(DESCRIBE)
def topic_no_keys(b: Target, v: int) -> Plain:
    answer = describe(b, v, TOPIC, b.topic().name, [])
    return {"error": answer["results"][0]["error_code"], "any": bool(answer["results"][0]["configs"])}


@case(DESCRIBE)
def topic_synonyms(b: Target, v: int) -> Plain:
    topic = b.topic(retention_ms="7000")
    return describe(b, v, TOPIC, topic.name, ["retention.ms", "max.message.bytes"], include_synonyms=True)


@case(DESCRIBE, (3, 4))
def topic_documentation(b: Target, v: int) -> Plain:
    keys = ["retention.ms", "cleanup.policy"]
    return describe(b, v, TOPIC, b.topic().name, keys, include_documentation=True)


@case(DESCRIBE)
def topic_unknown(b: Target, v: int) -> Plain:
    return describe(b, v, TOPIC, b.unknown_topic().name)


@case(DESCRIBE)
def topic_bad_names(b: Target, v: int) -> Plain:
    return [describe(b, v, TOPIC, name) for name in ("", "bad/name")]


@case(DESCRIBE)
def unknown_kind(b: Target, v: int) -> Plain:
    return [describe(b, v, kind, "x") for kind in (0, 1, 99)]


@case(DESCRIBE)
def broker_some(b: Target, v: int) -> Plain:
    keys = ["message.max.bytes", "num.partitions", "auto.create.topics.enable", "log.retention.ms"]
    return describe(b, v, BROKER, str(b.node_id), keys)


@case(DESCRIBE, (4,))
def broker_names_clients_read(b: Target, v: int) -> Plain:
    """What tools ask of a broker: whether it has them, not their values."""
    keys = ["default.replication.factor", "min.insync.replicas", "log.cleanup.policy", "compression.type"]
    keys += ["offsets.retention.minutes", "log.message.timestamp.type", "delete.topic.enable"]
    answer = describe(b, v, BROKER, str(b.node_id), keys)
    return sorted(c["name"] for c in answer["results"][0]["configs"])


@case(DESCRIBE)
def broker_unknown(b: Target, v: int) -> Plain:
    return [describe(b, v, BROKER, name) for name in ("77", "abc")]


@case(DESCRIBE)
def broker_default(b: Target, v: int) -> Plain:
    return describe(b, v, BROKER, "")


@case(DESCRIBE)
def resource_twice(b: Target, v: int) -> Plain:
    one = {"resource_type": TOPIC, "resource_name": b.topic().name, "configuration_keys": ["retention.ms"]}
    return b.call(DESCRIBE, v, resources=[one, dict(one)])


@case(DESCRIBE)
def nothing(b: Target, v: int) -> Plain:
    return b.call(DESCRIBE, v, resources=[])


@case(DESCRIBE, ends(DESCRIBE))
def group_configs(b: Target, v: int) -> Plain:
    answer = describe(b, v, GROUP, b.group(), ["consumer.session.timeout.ms"])
    return answer["results"][0]["error_code"]


# -------------------- altering


def alter(b: Target, v: int, kind: int, name: str, configs: dict[str, str | None], **values: Any) -> Plain:
    entries = [{"name": k, "value": c} for k, c in configs.items()]
    resource = {"resource_type": kind, "resource_name": name, "configs": entries}
    return b.call(ALTER, v, resources=[resource], **values)


@case(ALTER)
def alter_replaces_all(b: Target, v: int) -> Plain:
    topic = b.topic(retention_ms="7000", max_message_bytes="5000")
    answer = alter(b, v, TOPIC, topic.name, {"retention.ms": "8000"})
    return {
        "answer": answer,
        "set": settled(b, topic, "retention.ms", "8000"),
        "unset": describe(b, 4, TOPIC, topic.name, ["max.message.bytes"]),
    }


@case(ALTER)
def alter_validate_only(b: Target, v: int) -> Plain:
    topic = b.topic(retention_ms="7000")
    answer = alter(b, v, TOPIC, topic.name, {"retention.ms": "8000"}, validate_only=True)
    return {"answer": answer, "after": describe(b, 4, TOPIC, topic.name, ["retention.ms"])}


@case(ALTER)
def alter_refused(b: Target, v: int) -> Plain:
    name = b.topic().name
    return [
        alter(b, v, TOPIC, name, {"no.such.config": "1"}),
        alter(b, v, TOPIC, name, {"retention.ms": "soon"}),
        alter(b, v, TOPIC, name, {"retention.ms": None}),
        alter(b, v, TOPIC, b.unknown_topic().name, {"retention.ms": "1"}),
        alter(b, v, TOPIC, "", {"retention.ms": "1"}),
        alter(b, v, 99, "x", {"retention.ms": "1"}),
    ]


@case(ALTER)
def alter_broker_read_only(b: Target, v: int) -> Plain:
    """What Grafana Tempo asks for at its start."""
    return [alter(b, v, BROKER, name, {"num.partitions": "1000"}) for name in ("", str(b.node_id))]


@case(ALTER)
def alter_twice_in_one(b: Target, v: int) -> Plain:
    configs = [{"name": "retention.ms", "value": "5000"}]
    one = {"resource_type": TOPIC, "resource_name": b.topic().name, "configs": configs}
    return b.call(ALTER, v, resources=[one, dict(one)])


def change(b: Target, v: int, kind: int, name: str, *steps: tuple[str, int, str | None], **values: Any) -> Plain:
    entries = [{"name": k, "config_operation": op, "value": c} for k, op, c in steps]
    resource = {"resource_type": kind, "resource_name": name, "configs": entries}
    return b.call(CHANGE, v, resources=[resource], **values)


@case(CHANGE)
def change_set_and_remove(b: Target, v: int) -> Plain:
    topic = b.topic(retention_ms="7000", max_message_bytes="5000")
    steps = (("retention.ms", REMOVE, None), ("segment.bytes", SET, "1048576"))
    answer = change(b, v, TOPIC, topic.name, *steps)
    keys = ["retention.ms", "segment.bytes", "max.message.bytes"]
    settled(b, topic, "segment.bytes", "1048576")
    return {"answer": answer, "after": describe(b, 4, TOPIC, topic.name, keys)}


@case(CHANGE)
def change_takes_effect(b: Target, v: int) -> Plain:
    topic = b.topic()
    change(b, v, TOPIC, topic.name, ("max.message.bytes", SET, "150"))
    settled(b, topic, "max.message.bytes", "150")
    for _ in range(20):
        answer = b.produce(9, topic, batch(((b"k", b"x" * 500),)))
        if answer["responses"][0]["partition_responses"][0]["error_code"] != "none":
            break
        time.sleep(0.05)
    return answer["responses"][0]["partition_responses"][0]["error_code"]


@case(CHANGE)
def change_append_and_subtract(b: Target, v: int) -> Plain:
    topic = b.topic()
    answers = [change(b, v, TOPIC, topic.name, ("cleanup.policy", APPEND, "compact"))]
    answers.append(settled(b, topic, "cleanup.policy", "delete,compact"))
    answers.append(change(b, v, TOPIC, topic.name, ("cleanup.policy", SUBTRACT, "compact")))
    answers.append(settled(b, topic, "cleanup.policy", "delete"))
    return answers


@case(CHANGE)
def change_append_to_a_number(b: Target, v: int) -> Plain:
    return change(b, v, TOPIC, b.topic().name, ("retention.ms", APPEND, "5"))


@case(CHANGE)
def change_remove_unset(b: Target, v: int) -> Plain:
    return change(b, v, TOPIC, b.topic().name, ("retention.ms", REMOVE, None))


@case(CHANGE)
def change_validate_only(b: Target, v: int) -> Plain:
    topic = b.topic()
    answer = change(b, v, TOPIC, topic.name, ("retention.ms", SET, "1234"), validate_only=True)
    return {"answer": answer, "after": describe(b, 4, TOPIC, topic.name, ["retention.ms"])}


@case(CHANGE)
def change_refused(b: Target, v: int) -> Plain:
    name = b.topic().name
    return [
        change(b, v, TOPIC, name, ("no.such.config", SET, "1")),
        change(b, v, TOPIC, name, ("retention.ms", SET, "soon")),
        change(b, v, TOPIC, name, ("retention.ms", SET, None)),
        change(b, v, TOPIC, name, ("retention.ms", 9, "1")),
        change(b, v, TOPIC, name, ("retention.ms", SET, "1"), ("retention.ms", REMOVE, None)),
        change(b, v, TOPIC, b.unknown_topic().name, ("retention.ms", SET, "1")),
        change(b, v, TOPIC, "", ("retention.ms", SET, "1")),
        change(b, v, 99, "x", ("retention.ms", SET, "1")),
        change(b, v, BROKER, "77", ("message.max.bytes", SET, "1000000")),
        change(b, v, BROKER, "abc", ("message.max.bytes", SET, "1000000")),
    ]


@case(CHANGE)
def change_nothing(b: Target, v: int) -> Plain:
    return [change(b, v, TOPIC, b.topic().name), b.call(CHANGE, v, resources=[])]


@case(CHANGE)
def change_twice_in_one(b: Target, v: int) -> Plain:
    configs = [{"name": "retention.ms", "config_operation": SET, "value": "5000"}]
    one = {"resource_type": TOPIC, "resource_name": b.topic().name, "configs": configs}
    return b.call(CHANGE, v, resources=[one, dict(one)])


@case(CHANGE)
def change_broker_read_only(b: Target, v: int) -> Plain:
    names = ("num.partitions", "listeners", "no.such.config")
    return [change(b, v, BROKER, str(b.node_id), (name, SET, "1")) for name in names]


@case(CHANGE)
def change_broker_dynamic(b: Target, v: int) -> Plain:
    """Set and removed again, on the broker and as cluster-wide default."""
    found = []
    for name in (str(b.node_id), ""):
        found.append(change(b, v, BROKER, name, ("log.cleaner.threads", SET, "2"), validate_only=True))
        found.append(change(b, v, BROKER, name, ("message.max.bytes", SET, "-7"), validate_only=True))
    return found
