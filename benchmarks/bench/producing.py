"""A client process that produces: hands records to librdkafka when they are due, notes when they are acknowledged.

Open-loop: a record is due when the schedule says so, whatever has become of the earlier ones, and its latency counts
from that moment. Records due at about the same time (one millisecond at most) are handed over in one call, and their
latency counts from the first one's moment, so nothing is measured faster than it was. At rate 0 there is no schedule:
as much is kept in flight as the window allows, and latency counts from the call.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections import deque
from random import Random
from typing import Any

from benchmarks.bench import librdkafka, messages, payload
from benchmarks.bench.histogram import quantise
from benchmarks.bench.idle import allow_files
from benchmarks.bench.schedule import Schedule, schedule
from benchmarks.bench.workload import Workload

WINDOW_BYTES = 48 << 20
WINDOW_RECORDS = 200_000
DRAIN_S = 30.0
_CHUNK_S = 0.001
_CHUNK_BYTES = 256 << 10
_NS = 1_000_000_000


def properties(job: messages.Job) -> dict[str, str]:
    """librdkafka's properties of one producer."""
    load = job.workload.load
    made = {
        "bootstrap.servers": job.bootstrap,
        "client.id": f"weir-bench-{job.number}",
        "acks": load.acks,
        "enable.idempotence": "true" if load.idempotent else "false",
        "compression.codec": load.codec,
        "linger.ms": f"{load.linger_ms:g}",
        "batch.size": str(load.batch_size),
        "batch.num.messages": "1000000",
        "message.max.bytes": str(max(1_000_000, load.batch_size, load.record_size + 1024)),
        "max.in.flight.requests.per.connection": str(load.max_in_flight),
        "queue.buffering.max.messages": str(2 * WINDOW_RECORDS),
        "queue.buffering.max.kbytes": str(max(4 * WINDOW_BYTES, 4 * load.record_size) >> 10),
        "message.timeout.ms": "120000",
        "request.timeout.ms": "30000",
        "log_level": "0",
    }
    return made | job.client | load.client


def window_bytes(workload: Workload) -> int:
    """How much one process keeps in flight at full speed: twice what its requests can carry, from 8 to 48 MiB. Pure."""
    load = workload.load
    carried = load.max_in_flight * load.batch_size * workload.topics * workload.partitions
    return min(WINDOW_BYTES, max(WINDOW_BYTES // 6, 2 * carried))


class Records:
    """The pool of records of one process as librdkafka's structures, shared by its producers."""

    def __init__(self, job: messages.Job) -> None:
        workload = job.workload
        load = workload.load
        run = 1 if load.rate else max(1, min(64, (16 << 10) // load.record_size))
        rng = Random(f"{workload.seed}:{job.number}")
        self.pool = pool = payload.build(load, workload.topics, workload.partitions, run, rng)
        self.stamped = workload.readers.groups > 0 and load.record_size >= payload.STAMP.size
        self.single = workload.topics * workload.partitions == 1
        self.places = sorted(set(pool.places))
        self._values = (ctypes.c_char * len(pool.values)).from_buffer(pool.values)
        start = ctypes.addressof(self._values)
        self._array = (librdkafka.Message * len(pool))()
        self._keys: list[Any] = []
        for i, message in enumerate(self._array):
            message.payload, message.len = start + i * pool.size, pool.size
            message.partition = pool.places[i][1]
            if pool.keys is not None:
                key = ctypes.create_string_buffer(pool.keys[i], len(pool.keys[i]))
                self._keys.append(key)
                message.key, message.key_len = ctypes.addressof(key), len(pool.keys[i])
        self.address = ctypes.addressof(self._array)
        self.ends = self._topic_ends()

    def _topic_ends(self) -> list[int] | None:
        """For each record of the pool, where the run of records of its topic ends; None with one topic."""
        places = self.pool.places
        if len({topic for topic, _ in self.places}) == 1:
            return None
        ends = [len(places)] * len(places)
        for i in range(len(places) - 2, -1, -1):
            ends[i] = ends[i + 1] if places[i][0] == places[i + 1][0] else i + 1
        return ends


class Stream:
    """One producer, and what it has under way by topic and partition."""

    def __init__(self, job: messages.Job, number: int, records: Records, owner: Producing) -> None:
        self._owner = owner
        self._mark = job.mark
        self._records = records
        self._pool = records.pool
        # producers begin at different records, and so at different partitions
        self._next = Random(f"{job.workload.seed}:start:{number}").randrange(len(records.pool))
        self.outstanding = 0
        self._pending: dict[tuple[int, int], deque[list[int]]] = {place: deque() for place in records.places}
        self.client = librdkafka.Producer(properties(job), job.topics, self._delivered)
        self.wake = librdkafka.eventfd()
        self.client.wake_through(self.wake)

    def send(self, count: int, due_ns: int) -> int:
        """Hand over records of one due moment; how many were taken, fewer when librdkafka's queue is full."""
        taken = 0
        while taken < count:
            first = self._next
            end = len(self._pool) if self._records.ends is None else self._records.ends[first]
            wanted = min(count - taken, end - first)
            got = self._hand_over(first, wanted, due_ns)
            taken += got
            self._next = (first + got) % len(self._pool)
            if got < wanted:
                break
        self.outstanding += taken
        return taken

    def _hand_over(self, first: int, count: int, due_ns: int) -> int:
        pool = self._pool
        topic, partition = pool.places[first]
        flags = librdkafka.COPY if self._records.stamped else 0
        if self._records.stamped:
            payload.STAMP.pack_into(pool.values, first * pool.size, self._mark, due_ns)
        address = self._records.address + first * ctypes.sizeof(librdkafka.Message)
        if self._records.single:
            got = self.client.send(topic, partition, flags, address, count)
        else:
            got = self.client.send(topic, librdkafka.UNASSIGNED, flags | librdkafka.PARTITION, address, count)
        if self._records.stamped:
            payload.STAMP.pack_into(pool.values, first * pool.size, bytes(8), 0)
        if self._records.single:
            if got:
                self._pending[topic, partition].append([due_ns, got])
            return got
        pending = self._pending
        for place in pool.places[first : first + got]:
            queue = pending[place]
            if queue and queue[-1][0] == due_ns:
                queue[-1][1] += 1
            else:
                queue.append([due_ns, 1])
        return got

    def _delivered(self, topic: int, partition: int, count: int, error: int) -> None:
        self.outstanding -= count
        queue = self._pending[topic, partition]
        owner = self._owner
        while count > 0 and queue:
            head = queue[0]
            part = min(count, head[1])
            owner.settled(head[0], part, error)
            count -= part
            if part == head[1]:
                queue.popleft()
            else:
                head[1] -= part


class Producing:
    """All producers of one process, driven by one schedule."""

    def __init__(self, job: messages.Job, pipe: Any, control: Any) -> None:
        self._job = job
        self._pipe = pipe
        self._control = control
        self._load = job.workload.load
        allow_files(4 * len(job.members))
        self._ready = select.epoll()  # of the producers that have events; first, as select() takes low numbers only
        records = Records(job)
        self._streams = [Stream(job, number, records, self) for number in job.members]
        self._by_wake = {stream.wake: stream for stream in self._streams}
        for wake in self._by_wake:
            self._ready.register(wake, select.EPOLLIN)
        self._turn = 0
        self._now_ns = 0
        self._start_ns = self._end_ns = 0
        many = len(self._streams)
        self._shortest_s = 0.0002
        self._window = max(1, min(WINDOW_RECORDS, window_bytes(job.workload) // self._load.record_size) // many)

    def settled(self, due_ns: int, count: int, error: int) -> None:
        """Some records due at one moment were acknowledged, or not."""
        tick = self._collector.tick
        if error:
            tick.failed += count
            name = librdkafka.error_name(error)
            tick.errors[name] = tick.errors.get(name, 0) + count
            return
        tick.acked += count
        if self._start_ns <= due_ns < self._end_ns:
            us = quantise((self._now_ns - due_ns) // 1000)
            tick.ack[us] = tick.ack.get(us, 0) + count

    def run(self) -> None:
        """Connect, wait for the start, produce until the end, wait for the last acknowledgements."""
        messages.send(self._pipe, messages.Ready(worker=self._job.number))
        while not self._control[messages.START]:
            time.sleep(0.002)
        self._start_ns = self._control[messages.START]
        self._end_ns = self._control[messages.END]
        warmup_ns = int(self._job.workload.warmup_s * _NS)
        time.sleep(max(0.0, (self._start_ns - warmup_ns - time.monotonic_ns()) / _NS))
        self._collector = messages.Collector(self._job, self._pipe, self._start_ns)
        if self._load.rate:
            self._on_schedule()
        else:
            self._at_full_speed()
        self._drain()

    def _poll(self) -> None:
        self._now_ns = time.monotonic_ns()
        for wake, _ in self._ready.poll(0):
            try:
                os.read(wake, 8)
            except BlockingIOError:
                continue
            self._by_wake[wake].client.poll()
        self._turn_second()

    def _turn_second(self) -> None:
        if self._now_ns >= self._collector.next_ns:
            for stream in self._streams:
                stream.client.poll()
            self._end_ns = self._control[messages.END]
            self._client_errors()
            self._collector.flush(self._now_ns)

    def _client_errors(self) -> None:
        for stream in self._streams:
            if stream.client.errors:
                for text, count in stream.client.errors.items():
                    self._collector.tick.errors[text] = self._collector.tick.errors.get(text, 0) + count
                stream.client.errors.clear()

    def _wait(self, seconds: float) -> None:
        """Until events arrive, but no longer than this."""
        select.select((self._ready,), (), (), seconds)

    def _on_schedule(self) -> None:
        load = self._load
        planned: Schedule = schedule(
            load,
            self._job.workload.warmup_s,
            self._job.workload.duration_s,
            self._job.share,
            Random(f"{self._job.workload.seed}:schedule:{self._job.number}"),
        )
        sent = 0
        due_before = 0
        while True:
            now_ns = self._now_ns = time.monotonic_ns()
            if now_ns >= self._end_ns:
                break
            self._turn_second()
            at_s = (now_ns - self._start_ns) / _NS
            due = planned.count(at_s)
            tick = self._collector.tick
            tick.due += due - due_before
            due_before = due
            full = False
            handed = 0
            while sent < due and not full and handed < 4096:
                first_s = planned.due(sent)
                count = self._chunk(planned, sent, due, first_s)
                taken = self._spread(count, self._start_ns + int(first_s * _NS))
                sent += taken
                handed += taken
                full = taken < count
            if sent < due or handed:
                late_ms = (at_s - (planned.due(sent) if sent < due else first_s)) * 1000
                tick.late_ms = max(tick.late_ms, late_ms)
                if not full:
                    tick.own_late_ms = max(tick.own_late_ms, late_ms)
            self._poll()
            if full:
                self._wait(0.005)
            elif sent >= due:
                wait_s = planned.due(sent) - (time.monotonic_ns() - self._start_ns) / _NS
                self._wait(min(0.05, max(self._shortest_s, wait_s)))

    def _chunk(self, planned: Schedule, sent: int, due: int, first_s: float) -> int:
        """How many of the due records go together: those of one millisecond, at most 1,000 at once."""
        count = min(due - sent, 1000)
        if count > 1 and self._load.arrival != "poisson":
            while count > 1 and planned.due(sent + count - 1) - first_s > _CHUNK_S:
                count = (count + 1) // 2
        elif count > 1:
            return 1
        return count

    def _spread(self, count: int, due_ns: int) -> int:
        """Give the records to the producers in turn, in equal parts; how many were taken."""
        streams = self._streams
        many = len(streams)
        part = -(-count // many)
        taken = 0
        for _ in range(many):
            wanted = min(part, count - taken)
            if not wanted:
                break
            stream = streams[self._turn]
            self._turn = (self._turn + 1) % many
            taken += stream.send(wanted, due_ns)
        return taken

    def _at_full_speed(self) -> None:
        chunk = max(1, min(1000, _CHUNK_BYTES // self._load.record_size))
        while time.monotonic_ns() < self._end_ns:
            sent = 0
            for stream in self._streams:
                if stream.outstanding + chunk <= self._window or not stream.outstanding:
                    sent += stream.send(chunk, time.monotonic_ns())
            self._collector.tick.due += sent
            self._poll()
            if not sent:
                self._wait(0.01)

    def _drain(self) -> None:
        until_ns = time.monotonic_ns() + int(DRAIN_S * _NS)
        while any(stream.outstanding for stream in self._streams) and time.monotonic_ns() < until_ns:
            self._wait(0.01)
            self._poll()
        self._client_errors()
        self._collector.flush(time.monotonic_ns())
        left = sum(stream.outstanding for stream in self._streams)
        messages.send(self._pipe, messages.Done(worker=self._job.number, unacknowledged=left))
        for stream in self._streams:
            stream.client.close()
