"""Readers of the workload: one follows every partition, one jumps back and reads again, one looks at the watermarks.

Their reads go into the history with the offset that had to come first, so that a gap or a step back is seen. A reader's
position is its own (no group); `group.py` has the group.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from benchmarks.verify.history import Bounds, OffsetRead, Outcome, Partition, Read
from benchmarks.verify.plan import Plan
from benchmarks.verify.recorder import Recorder, silent

_BATCH = 500
_WAIT_S = 0.2
_LOOK_EVERY_S = 0.5
_ANSWER_S = 3.0
END_OF_PARTITION = KafkaError._PARTITION_EOF


def connect(plan: Plan, name: str, recorder: Recorder, group: str, **extra: Any) -> Consumer:
    """A consumer that commits nothing by itself; what goes wrong with its connections goes into the history."""

    def told(error: KafkaError) -> None:
        recorder.client_error(name, error.name())

    return Consumer(
        {
            "bootstrap.servers": plan.bootstrap,
            "client.id": f"weir-verify-{name}",
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "fetch.wait.max.ms": 100,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "logger": silent(),
            "error_cb": told,
            **extra,
            **plan.client,
        }
    )


def where(message: Message | TopicPartition) -> Partition:
    """The partition of a message or of a librdkafka position."""
    if isinstance(message, TopicPartition):
        return Partition(message.topic, message.partition)
    return Partition(message.topic() or "", message.partition() or 0)


def note_reads(
    recorder: Recorder,
    client: str,
    messages: Sequence[Message],
    began_s: float,
    positions: dict[Partition, int],
    *,
    final: bool = False,
    log_starts: dict[Partition, int] | None = None,
) -> None:
    """One read per partition of what one call returned. `positions`: the offset that comes next, moved along; of a
    partition that is not in it, the first message's. Errors are noted apart."""
    found: dict[Partition, list[tuple[int, bytes]]] = {}
    for message in messages:
        error = message.error()
        if error is not None:
            if error.code() != END_OF_PARTITION:
                recorder.client_error(client, error.name())
            continue
        found.setdefault(where(message), []).append((message.offset() or 0, message.value() or b""))
    for partition, records in found.items():
        read = Read(
            client=client,
            partition=partition,
            offset=positions.get(partition, records[0][0]),
            final=final,
        )
        recorder.invoke(read, began_s)
        read.records = tuple(records)
        read.log_start = (log_starts or {}).get(partition, -1)
        recorder.end(read, Outcome.OK)
        positions[partition] = records[-1][0] + 1


class ReaderThread(threading.Thread):
    """What all readers have in common: they turn until `stop()`; `failure` is what they died of."""

    def __init__(self, plan: Plan, name: str, partitions: Sequence[Partition], recorder: Recorder, group: str) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self.plan, self.partitions, self.recorder, self.group = plan, partitions, recorder, group
        self.rng = random.Random(f"{plan.seed} {name}")
        self.stopping = threading.Event()

    def stop(self) -> None:
        self.stopping.set()

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - handed to the conductor of the run
            self.failure = error

    def work(self) -> None:
        raise NotImplementedError


class Follower(ReaderThread):
    """Reads every partition from the start, as it grows."""

    def work(self) -> None:
        consumer = connect(self.plan, self.name, self.recorder, self.group)
        consumer.assign([TopicPartition(each.topic, each.index, 0) for each in self.partitions])
        positions = dict.fromkeys(self.partitions, 0)
        while not self.stopping.is_set():
            began_s = self.recorder.now_s()
            messages = consumer.consume(_BATCH, timeout=_WAIT_S)
            note_reads(self.recorder, self.name, messages, began_s, positions)
            self.recorder.followed += sum(message.error() is None for message in messages)
        consumer.close()


class Rereader(ReaderThread):
    """Reads pieces again: a random partition from a random offset, for a second, then another."""

    def work(self) -> None:
        consumer = connect(self.plan, self.name, self.recorder, self.group)
        ends = dict.fromkeys(self.partitions, 0)
        while not self.stopping.is_set():
            partition = self.rng.choice(self.partitions)
            start = self.rng.randint(0, ends[partition])
            consumer.assign([TopicPartition(partition.topic, partition.index, start)])
            positions = {partition: start}
            for _ in range(3):
                began_s = self.recorder.now_s()
                messages = consumer.consume(_BATCH, timeout=_WAIT_S)
                note_reads(self.recorder, self.name, messages, began_s, positions)
            ends[partition] = max(ends[partition], positions[partition])
        consumer.close()


class Watcher(ReaderThread):
    """Asks for the earliest and the latest offset of every partition, and for what `watched` has committed, twice a
    second. It is no member of the group."""

    def __init__(
        self, plan: Plan, name: str, partitions: Sequence[Partition], recorder: Recorder, watched: str
    ) -> None:
        super().__init__(plan, name, partitions, recorder, watched)

    def work(self) -> None:
        consumer = connect(self.plan, self.name, self.recorder, self.group)
        while not self.stopping.wait(_LOOK_EVERY_S):
            for partition in self.partitions:
                if not self.stopping.is_set():
                    look_at_bounds(consumer, self.name, partition, self.recorder)
            if self.plan.members:
                look_at_commits(consumer, self.name, self.partitions, self.recorder, self.group)
        consumer.close()


def look_at_bounds(consumer: Consumer, client: str, partition: Partition, recorder: Recorder) -> tuple[int, int] | None:
    """(earliest, latest), None when there was no answer."""
    look = Bounds(client=client, partition=partition)
    recorder.invoke(look)
    try:
        asked = TopicPartition(partition.topic, partition.index)
        # The library's types leave out what its documentation says: None when the time is up.
        found = cast("tuple[int, int] | None", consumer.get_watermark_offsets(asked, timeout=_ANSWER_S))
    except KafkaException as error:
        recorder.end(look, Outcome.FAIL, error.args[0].name())
        return None
    if found is None:
        recorder.end(look, Outcome.FAIL, "_TIMED_OUT")
        return None
    look.log_start, look.high_watermark = found
    recorder.end(look, Outcome.OK)
    return found


def look_at_commits(
    consumer: Consumer, client: str, partitions: Sequence[Partition], recorder: Recorder, group: str
) -> bool:
    """Read what the group has committed; whether there was an answer for every partition."""
    looks = {each: OffsetRead(client=client, partition=each, group=group) for each in partitions}
    for look in looks.values():
        recorder.invoke(look)
    try:
        answers = consumer.committed([TopicPartition(each.topic, each.index) for each in partitions], _ANSWER_S)
    except KafkaException as error:
        for look in looks.values():
            recorder.end(look, Outcome.FAIL, error.args[0].name())
        return False
    whole = True
    for answer in answers:
        look = looks[where(answer)]
        if answer.error is not None:
            recorder.end(look, Outcome.FAIL, answer.error.name())
            whole = False
            continue
        look.offset = max(-1, answer.offset)
        recorder.end(look, Outcome.OK)
    return whole
