"""A client process that reads: consumers of one or more groups, each in a thread of its own, on confluent-kafka.

End-to-end latency is taken from the stamped records (one of each chunk that a producer handed over): from the moment
the record was due to the moment the application got it. Both moments are of this machine's monotonic clock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from benchmarks.bench import messages, payload
from benchmarks.bench.histogram import quantise

_NS = 1_000_000_000
_BATCH = 10_000


def properties(job: messages.Job, group: int) -> dict[str, str]:
    """librdkafka's properties of one consumer. The topics are new, so that reading from the start misses nothing."""
    made = {
        "bootstrap.servers": job.bootstrap,
        "client.id": f"weir-bench-{job.number}",
        "group.id": f"{job.group}-{group}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "fetch.wait.max.ms": "500",
        "fetch.message.max.bytes": "1048576",
        "queued.min.messages": "100000",
        "queued.max.messages.kbytes": "65536",
        "fetch.queue.backoff.ms": "2",
        "check.crcs": "false",
        "log_level": "0",
    }
    return made | job.client | job.workload.readers.client


class Member(threading.Thread):
    """One consumer. Its figures are taken with `take`, under its lock."""

    def __init__(self, job: messages.Job, number: int, control: Any) -> None:
        super().__init__(name=f"consumer-{number}", daemon=True)
        readers = job.workload.readers
        self._job = job
        self._control = control
        self.group, self._place = number // readers.consumers, number % readers.consumers
        self._lock = threading.Lock()
        self.assigned = threading.Event()
        self.stopping = threading.Event()
        self.failure: str | None = None
        self._reset()
        self._asked: deque[int] = deque()  # when each commit was asked for that is not answered
        self._consumer = self._connect()

    def _reset(self) -> None:
        self._read = self._bytes = self._commits = 0
        self._end_to_end: dict[int, int] = {}
        self._commit: dict[int, int] = {}
        self._errors: dict[str, int] = {}

    def take(self) -> tuple[int, int, dict[int, int], int, dict[int, int], dict[str, int]]:
        """Records, bytes, end-to-end latencies, commits, their latencies and errors since the last call."""
        with self._lock:
            taken = (self._read, self._bytes, self._end_to_end, self._commits, self._commit, self._errors)
            self._reset()
        return taken

    def _connect(self) -> Any:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({**properties(self._job, self.group), "on_commit": self._committed})
        workload = self._job.workload
        if workload.readers.membership == "group":
            consumer.subscribe(list(self._job.topics), on_assign=lambda *_: self.assigned.set())
        else:
            every = [(topic, partition) for topic in self._job.topics for partition in range(workload.partitions)]
            mine = every[self._place :: workload.readers.consumers]
            consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in mine])
            self.assigned.set()
        return consumer

    def _committed(self, error: Any, partitions: Any) -> None:
        asked_ns = self._asked.popleft() if self._asked else 0
        with self._lock:
            if error is not None:
                self._count(error.name())
            elif asked_ns:
                self._commits += 1
                us = quantise((time.monotonic_ns() - asked_ns) // 1000)
                self._commit[us] = self._commit.get(us, 0) + 1

    def _count(self, name: str) -> None:
        self._errors[name] = self._errors.get(name, 0) + 1

    def run(self) -> None:
        from confluent_kafka import KafkaException

        try:
            self._gate()
            self._loop()
            self._consumer.close()
        except KafkaException as error:
            self.failure = f"consumer: {error.args[0].str()}"
            self.assigned.set()

    def _gate(self) -> None:
        """With a backlog, take part in the group but read nothing until the gate opens."""
        while not self.assigned.is_set() and not self.stopping.is_set():
            self._handle(self._consumer.poll(0.1))
        if not self._job.workload.backlog.bytes:
            return
        held = self._consumer.assignment()
        if held:
            self._consumer.pause(held)
        while not self._control[messages.READ] and not self.stopping.is_set():
            self._handle(self._consumer.poll(0.02))
        if held:
            self._consumer.resume(held)

    def _loop(self) -> None:
        commit_ns = int(self._job.workload.readers.commit_interval_s * _NS)
        next_commit_ns = time.monotonic_ns() + commit_ns
        while not self.stopping.is_set():
            self._handle(self._consumer.poll(0.1))
            if commit_ns and time.monotonic_ns() >= next_commit_ns:
                self._commit_offsets()
                next_commit_ns = max(next_commit_ns + commit_ns, time.monotonic_ns())

    def _handle(self, first: Any) -> None:
        if first is None:
            return
        messages_read = self._consumer.consume(_BATCH, 0)
        now_ns = time.monotonic_ns()
        messages_read.append(first)
        values = [message.value() for message in messages_read if message.error() is None]
        mark, stamped = self._job.mark, payload.STAMP.size
        start_ns, end_ns = self._control[messages.START], self._control[messages.END]
        with self._lock:
            self._read += len(values)
            self._bytes += sum(map(len, values))
            for value in values:
                if value.startswith(mark) and len(value) >= stamped:
                    due_ns = payload.STAMP.unpack_from(value)[1]
                    if start_ns and start_ns <= due_ns < end_ns:
                        us = quantise((now_ns - due_ns) // 1000)
                        self._end_to_end[us] = self._end_to_end.get(us, 0) + 1
            if len(values) < len(messages_read):
                for message in messages_read:
                    if message.error() is not None:
                        self._count(message.error().name())

    def _commit_offsets(self) -> None:
        held = self._consumer.assignment()
        positions = [each for each in self._consumer.position(held) if each.offset >= 0]
        if not positions:
            return
        alone = self._job.workload.readers.membership == "none"
        for part in [[each] for each in positions] if alone else [positions]:
            if len(self._asked) >= 10_000:  # the broker does not answer: more would only pile up
                break
            self._asked.append(time.monotonic_ns())
            self._consumer.commit(offsets=part, asynchronous=True)


def run(job: messages.Job, pipe: Any, control: Any) -> None:
    """Join, say so, read until told to stop (a message on the pipe), report each second."""
    members = [Member(job, number, control) for number in job.members]
    for member in members:
        member.start()
    deadline = time.monotonic() + 60
    for member in members:
        if not member.assigned.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError("a consumer got no partitions within 60 s: the group did not form")
    messages.send(pipe, messages.Ready(worker=job.number))
    while not control[messages.START]:
        if pipe.poll(0.01):
            return
    collector = messages.Collector(job, pipe, control[messages.START])
    stopping = False
    while not stopping:
        wait_s = (collector.next_ns - time.monotonic_ns()) / _NS
        stopping = bool(pipe.poll(max(0.0, wait_s)))
        if stopping:
            for member in members:
                member.stopping.set()
            for member in members:
                member.join(20)
        _gather(members, collector.tick)
        failed = next((member.failure for member in members if member.failure), None)
        if failed is not None:
            raise RuntimeError(failed)
        collector.flush(time.monotonic_ns())
    messages.send(pipe, messages.Done(worker=job.number))


def _gather(members: list[Member], tick: messages.Tick) -> None:
    from benchmarks.bench.histogram import add

    for member in members:
        read, size, end_to_end, commits, commit, errors = member.take()
        tick.read += read
        tick.read_bytes += size
        tick.read_by_group[member.group] = tick.read_by_group.get(member.group, 0) + read
        tick.commits += commits
        add(tick.end_to_end, end_to_end)
        add(tick.commit, commit)
        for name, count in errors.items():
            tick.errors[name] = tick.errors.get(name, 0) + count
