"""The topics of a run: created before it, found complete, counted after it, deleted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.bench.errors import BenchError


class Topics:
    """Creates and deletes topics through confluent-kafka's admin client."""

    def __init__(self, bootstrap: str, client: Mapping[str, str], timeout_s: float = 10.0) -> None:
        try:
            from confluent_kafka import KafkaException
            from confluent_kafka.admin import AdminClient
        except ImportError:
            raise BenchError('confluent-kafka is not installed: pip install "weir[bench]"') from None
        self._bootstrap = bootstrap
        try:
            self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": "0", **client})
            self._admin.list_topics(timeout=timeout_s)
        except KafkaException as error:
            raise BenchError(
                f"no broker answers at {bootstrap} within {timeout_s:g} s ({error.args[0].str()}): "
                "is it running, and is the address the one it listens on?"
            ) from None

    def create(self, names: Sequence[str], partitions: int, replication: int, configs: Mapping[str, str]) -> None:
        """Create, then wait until every partition has a leader."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

        wanted = [NewTopic(name, partitions, replication, config=dict(configs)) for name in names]
        for name, future in self._admin.create_topics(wanted, operation_timeout=60, request_timeout=90).items():
            try:
                future.result(timeout=100)
            except KafkaException as error:
                refused = error.args[0]
                raise BenchError(
                    f"the broker refused topic {name} ({partitions} partitions, replication factor {replication}): "
                    f"{refused.name()}: {refused.str()}"
                ) from None
        self._wait_for_leaders(names, partitions)

    def _wait_for_leaders(self, names: Sequence[str], partitions: int) -> None:
        until = time.monotonic() + 60
        while True:
            known = self._admin.list_topics(timeout=30).topics
            missing = [name for name in names if not _complete(known.get(name), partitions)]
            if not missing:
                return
            if time.monotonic() > until:
                raise BenchError(f"after 60 s topic {missing[0]} has partitions without a leader")
            time.sleep(0.1)

    def reachable(self, timeout_s: float = 5.0) -> bool:
        """Whether a broker still answers."""
        from confluent_kafka import KafkaException

        try:
            self._admin.list_topics(timeout=timeout_s)
        except KafkaException:
            return False
        return True

    def records(self, names: Sequence[str], partitions: int) -> int:
        """How many records the logs say they hold: the sum of their end offsets."""
        from confluent_kafka import KafkaException, TopicPartition
        from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(name, p): latest for name in names for p in range(partitions)}
        total = 0
        for place, future in self._admin.list_offsets(wanted, request_timeout=60).items():
            try:
                total += future.result(timeout=70).offset
            except KafkaException as error:
                raise BenchError(f"end offset of {place.topic}-{place.partition}: {error.args[0].str()}") from None
        return total

    def delete(self, names: Sequence[str]) -> str | None:
        """Delete; what went wrong, if anything."""
        from confluent_kafka import KafkaException

        if not self.reachable():
            return f"topics {', '.join(names)} are left behind: no broker answers"
        problem = None
        for name, future in self._admin.delete_topics(list(names), operation_timeout=30, request_timeout=60).items():
            try:
                future.result(timeout=70)
            except KafkaException as error:
                if error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":  # refused, so there is nothing to delete
                    problem = f"topic {name} is left behind: {error.args[0].str()}"
        return problem


def _complete(topic: Any, partitions: int) -> bool:
    if topic is None or topic.error is not None or len(topic.partitions) < partitions:
        return False
    return all(partition.leader >= 0 for partition in topic.partitions.values())
