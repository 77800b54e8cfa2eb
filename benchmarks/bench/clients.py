"""The client processes of a run: how the load is divided among them, and the pipes to them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import msgspec

from benchmarks.bench import messages
from benchmarks.bench.errors import BenchError
from benchmarks.bench.worker import work
from benchmarks.bench.workload import Workload

MOST_PROCESSES = 64


def divide(members: int, processes: int, cores: int) -> list[tuple[int, ...]]:
    """Which members each process runs: the fewest processes that can use all cores, unless a number is given. Pure."""
    count = min(members, processes or cores, MOST_PROCESSES)
    return [tuple(range(i, members, count)) for i in range(count)]


def jobs(
    workload: Workload,
    bootstrap: str,
    client: dict[str, str],
    topics: tuple[str, ...],
    mark: bytes,
    group: str,
    cores: int,
) -> list[messages.Job]:
    """The work of each process. Pure."""
    load, readers = workload.load, workload.readers
    produce = divide(load.producers, load.processes, cores)
    read = divide(readers.groups * readers.consumers, readers.processes, cores) if readers.groups else []
    made: list[messages.Job] = []
    for kind, parts in (("read", read), ("produce", produce)):
        for members in parts:
            made.append(
                messages.Job(
                    number=len(made),
                    kind=kind,
                    workload=workload,
                    bootstrap=bootstrap,
                    client=client,
                    topics=topics,
                    mark=mark,
                    members=members,
                    share=len(members) / load.producers if kind == "produce" else 0.0,
                    group=group,
                )
            )
    return made


class Clients:
    """Started processes. Use as a context manager: leaving it ends those that are still there."""

    def __init__(self, work_to_do: list[messages.Job]) -> None:
        context = multiprocessing.get_context("spawn")
        self.control: Any = context.RawArray("q", 3)
        self.jobs = work_to_do
        self._processes: list[SpawnProcess] = []
        self._pipes: dict[Connection, messages.Job] = {}
        self._done: set[int] = set()
        for job in work_to_do:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=work, args=(msgspec.msgpack.encode(job), theirs, self.control), daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes[ours] = job

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.join(5 if self.jobs[self._processes.index(process)].number in self._done else 0.5)
            if process.is_alive():
                process.terminate()
                process.join(5)
        for pipe in self._pipes:
            pipe.close()

    def done(self, kind: str) -> bool:
        """Whether all processes of this kind have said everything."""
        return all(job.number in self._done for job in self.jobs if job.kind == kind)

    def wait_ready(self, timeout_s: float = 90.0) -> None:
        """Until all are connected."""
        waiting = {job.number for job in self.jobs}
        until = time.monotonic() + timeout_s
        while waiting:
            left = until - time.monotonic()
            if left <= 0:
                raise BenchError(f"{len(waiting)} client processes were not ready within {timeout_s:g} s")
            for message in self.receive(left):
                if isinstance(message, messages.Ready):
                    waiting.discard(message.worker)

    def receive(self, timeout_s: float) -> Iterator[messages.Message]:
        """What the processes say within this time; BenchError when one fails or dies."""
        open_pipes = [pipe for pipe, job in self._pipes.items() if job.number not in self._done]
        if not open_pipes:
            time.sleep(max(0.0, min(timeout_s, 0.05)))
            return
        ready = wait(open_pipes, max(0.0, timeout_s))
        for pipe in (each for each in open_pipes if each in ready):
            job = self._pipes[pipe]
            try:
                message = messages.receive(pipe)
            except EOFError:
                raise BenchError(f"a client process ({job.kind}) died: is there enough memory?") from None
            if isinstance(message, messages.Failed):
                raise BenchError(f"a client process ({job.kind}) failed: {message.reason}")
            if isinstance(message, messages.Done):
                self._done.add(message.worker)
            yield message

    def stop_readers(self) -> None:
        """Tell the reading processes to finish."""
        for pipe, job in self._pipes.items():
            if job.kind == "read" and job.number not in self._done:
                pipe.send_bytes(b"stop")


def client_cores() -> int:
    """How many CPUs this process and its children may use."""
    return len(os.sched_getaffinity(0))
