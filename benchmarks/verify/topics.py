"""The topics of a run: made under a name that is its own, waited for, deleted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.verify.errors import VerifyError
from benchmarks.verify.history import Partition
from benchmarks.verify.plan import Plan
from benchmarks.verify.recorder import silent

_REQUEST_S = 10.0


def admin(plan: Plan) -> AdminClient:
    config: dict[str, Any] = {
        "bootstrap.servers": plan.bootstrap,
        "client.id": "weir-verify-admin",
        "reconnect.backoff.max.ms": 500,
        "logger": silent(),
    }
    return AdminClient(config | plan.client)


def reach(client: AdminClient, plan: Plan) -> None:
    """VerifyError when nothing answers at the address."""
    try:
        client.list_topics(timeout=min(_REQUEST_S, plan.heal_timeout_s))
    except KafkaException as error:
        raise VerifyError(f"no Kafka broker answers at {plan.bootstrap}: {error.args[0].str()}") from None


def create(client: AdminClient, plan: Plan, prefix: str) -> list[Partition]:
    """The partitions of the new topics, each led. Nothing may be deleted from them by age or size during the run."""
    names = [f"{prefix}-{number}" for number in range(plan.topics)]
    config = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
    wanted = [NewTopic(each, plan.partitions, plan.replication, config=config) for each in names]
    for name, future in client.create_topics(wanted, request_timeout=30).items():
        try:
            future.result(60)
        except KafkaException as error:
            raise VerifyError(f"topic {name} could not be created: {error.args[0].str()}") from None
    partitions = [Partition(name, index) for name in names for index in range(plan.partitions)]
    if not wait_led(client, partitions, plan.heal_timeout_s):
        raise VerifyError(f"the new topics had no leaders after {plan.heal_timeout_s:g} s")
    return partitions


def wait_led(client: AdminClient, partitions: Sequence[Partition], timeout_s: float) -> bool:
    """Whether every partition got a leader in time."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            topics = client.list_topics(timeout=max(0.1, min(_REQUEST_S, deadline_s - time.monotonic()))).topics
        except KafkaException:
            topics = {}  # nobody there yet
        led = {
            Partition(name, index)
            for name, topic in topics.items()
            for index, partition in topic.partitions.items()
            if topic.error is None and partition.error is None and partition.leader >= 0
        }
        if led.issuperset(partitions):
            return True
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(0.1)


def replicas(client: AdminClient, partitions: Sequence[Partition]) -> int:
    """The most replicas that any of them has."""
    topics = client.list_topics(timeout=_REQUEST_S).topics
    return max(len(topics[each.topic].partitions[each.index].replicas) for each in partitions)


def delete(client: AdminClient, partitions: Sequence[Partition], group: str) -> list[str]:
    """Delete the topics and the group; what could not be deleted, in words."""
    left = []
    names = sorted({each.topic for each in partitions})
    for name, future in client.delete_topics(names, request_timeout=_REQUEST_S).items():
        try:
            future.result(2 * _REQUEST_S)
        except KafkaException as error:
            left.append(f"topic {name}: {error.args[0].str()}")
    for name, future in client.delete_consumer_groups([group], request_timeout=_REQUEST_S).items():
        try:
            future.result(2 * _REQUEST_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:  # nobody ever joined
                left.append(f"group {name}: {error.args[0].str()}")
    return left
