"""What the client processes tell the process that conducts the run, once a second or more often, and what it tells
them."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from benchmarks.bench.workload import Workload

START, READ, END = range(3)
"""Cells of the shared control array, all ns of the monotonic clock, 0 while unknown: when the measured time starts,
when reading may begin (with a backlog), when the measured time ends."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What one client process has to do."""

    number: int
    kind: str  # "produce" or "read"
    workload: Workload
    bootstrap: str
    client: dict[str, str]  # librdkafka properties that all clients get
    topics: tuple[str, ...]
    mark: bytes  # 8 bytes that start a stamped value of this run
    members: tuple[int, ...]  # numbers of this process's producers, or of its consumers over all groups
    share: float  # of the whole load
    group: str = ""  # prefix of the groups' names


class Tick(msgspec.Struct, kw_only=True):
    """One second of one client process, or a part of one. `at` counts seconds from the measured start,
    negative ones are of the warm-up."""

    worker: int
    kind: str
    at: int
    due: int = 0
    acked: int = 0
    failed: int = 0
    errors: dict[str, int] = {}
    ack: dict[int, int] = {}  # us: records; only those due in the measured time
    late_ms: float = 0.0
    own_late_ms: float = 0.0  # late although librdkafka's queue had room: the client's own doing
    read: int = 0
    read_bytes: int = 0
    read_by_group: dict[int, int] = {}
    end_to_end: dict[int, int] = {}
    commits: int = 0
    commit: dict[int, int] = {}
    cpu_s: float = 0.0
    busiest_thread_s: float = 0.0  # CPU of the thread that used most


class Ready(msgspec.Struct, tag=True, kw_only=True):
    """The process is connected and waits for the start."""

    worker: int


class Second(msgspec.Struct, tag=True, kw_only=True):
    """The figures of one tick."""

    tick: Tick


class Failed(msgspec.Struct, tag=True, kw_only=True):
    """The process ends; `reason` is for the user."""

    worker: int
    reason: str


class Done(msgspec.Struct, tag=True, kw_only=True):
    """The process has said everything."""

    worker: int
    unacknowledged: int = 0


Message = Ready | Second | Failed | Done
_NS = 1_000_000_000
_BACKLOG_TICK_NS = _NS // 10  # how exactly is known when the readers have caught up
_THREADS_WATCHED = 64
_decoder = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()


def send(pipe: Any, message: Message) -> None:
    """Write to a multiprocessing connection."""
    pipe.send_bytes(_encoder.encode(message))


def receive(pipe: Any) -> Message:
    """Read from a multiprocessing connection; EOFError when the process has gone."""
    message: Message = _decoder.decode(pipe.recv_bytes())
    return message


def thread_cpu() -> dict[str, float]:
    """CPU seconds of each thread of this process; of the main one alone when there are many, as reading costs time."""
    tasks = os.listdir("/proc/self/task")
    if len(tasks) > _THREADS_WATCHED:
        return {"main": time.thread_time()}
    used = {}
    for task in tasks:
        try:
            with open(f"/proc/self/task/{task}/schedstat", "rb") as file:
                used[task] = int(file.read().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue
    return used


class Collector:
    """Gathers one process's figures and sends them at the end of each second, with a backlog ten times in each. The
    clock is the monotonic one, in ns."""

    def __init__(self, job: Job, pipe: Any, start_ns: int) -> None:
        self._job = job
        self._pipe = pipe
        self._start_ns = start_ns
        self._cpu_s = time.process_time()
        self._threads = thread_cpu()
        self._period_ns = _BACKLOG_TICK_NS if job.workload.backlog.bytes else _NS
        self._begin(time.monotonic_ns())

    def _begin(self, now_ns: int) -> None:
        passed_ns = now_ns - self._start_ns
        self.tick = Tick(worker=self._job.number, kind=self._job.kind, at=passed_ns // _NS)
        self.next_ns = self._start_ns + (passed_ns // self._period_ns + 1) * self._period_ns

    def flush(self, now_ns: int) -> None:
        """Send what there is and begin the tick of `now_ns`: once that has reached `next_ns`, and at the end."""
        cpu_s = time.process_time()
        self.tick.cpu_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        threads = thread_cpu()
        self.tick.busiest_thread_s = max(
            (used - self._threads.get(task, 0.0) for task, used in threads.items()), default=0
        )
        self._threads = threads
        send(self._pipe, Second(tick=self.tick))
        self._begin(now_ns)
