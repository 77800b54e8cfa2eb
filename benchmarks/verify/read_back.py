"""The final full read: after the load has ended and the cluster is whole again, everything start to end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition

from benchmarks.verify.consuming import connect, look_at_bounds, look_at_commits, note_reads
from benchmarks.verify.errors import VerifyError
from benchmarks.verify.history import Partition
from benchmarks.verify.plan import Plan
from benchmarks.verify.recorder import Recorder

NAME = "read-back"
_BATCH = 2000


def read_back(plan: Plan, partitions: Sequence[Partition], recorder: Recorder, group: str) -> None:
    """Read everything, and what the group has committed. VerifyError when the cluster does not answer in time: then
    nothing can be said. What answers but does not hand out its records is noted as read, and is for the checkers."""
    consumer = connect(plan, NAME, recorder, group)
    try:
        bounds = {each: _bounds(plan, consumer, each, recorder) for each in partitions}
        if plan.members:
            _commits(plan, consumer, partitions, recorder, group)
        # A partition that never was written to is read as well: it must be empty.
        for partition, (low, high) in bounds.items():
            _read(plan, consumer, partition, low, high, recorder)
    finally:
        consumer.close()


def _bounds(plan: Plan, consumer: Consumer, partition: Partition, recorder: Recorder) -> tuple[int, int]:
    deadline_s = time.monotonic() + plan.heal_timeout_s
    while time.monotonic() < deadline_s:
        found = look_at_bounds(consumer, NAME, partition, recorder)
        if found is not None:
            return found
        time.sleep(0.1)
    raise VerifyError(f"{partition} did not tell its offsets for {plan.heal_timeout_s:g} s after the load ended")


def _commits(plan: Plan, consumer: Consumer, partitions: Sequence[Partition], recorder: Recorder, group: str) -> None:
    deadline_s = time.monotonic() + plan.heal_timeout_s
    while not look_at_commits(consumer, NAME, partitions, recorder, group):
        if time.monotonic() > deadline_s:
            raise VerifyError(f"group {group} did not tell its offsets for {plan.heal_timeout_s:g} s")
        time.sleep(0.1)


def _read(plan: Plan, consumer: Consumer, partition: Partition, low: int, high: int, recorder: Recorder) -> None:
    consumer.assign([TopicPartition(partition.topic, partition.index, low)])
    positions = {partition: low}
    deadline_s = time.monotonic() + plan.heal_timeout_s
    while positions[partition] < high and time.monotonic() < deadline_s:
        began_s = recorder.now_s()
        messages = consumer.consume(min(_BATCH, high - positions[partition]), timeout=0.5)
        before = positions[partition]
        note_reads(recorder, NAME, messages, began_s, positions, final=True, log_starts={partition: low})
        if positions[partition] > before:
            deadline_s = time.monotonic() + plan.heal_timeout_s
