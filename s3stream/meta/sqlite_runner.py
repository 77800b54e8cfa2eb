"""Where the commands of a SQLite database run: on its one writer thread, or in the calling task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from s3stream.errors import Invalid, OutcomeUnknown, Retry

T = TypeVar("T")


class Runner(Protocol):
    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, which runs after all work given before."""
        ...

    async def close(self) -> None:
        """Let the given work end; no more may come."""
        ...


class InlineRunner:
    """Runs work at once in the calling task: deterministic, for the simulation and for tests."""

    async def run(self, work: Callable[[], T]) -> T:
        return work()

    async def close(self) -> None:
        return None


class ThreadRunner:
    """Runs work on one thread, in order. At most `max_queued` calls wait (Retry beyond that), each at most
    `timeout_s`: then Retry if it had not begun, OutcomeUnknown if it had."""

    def __init__(self, max_queued: int = 1024, timeout_s: float = 30.0) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="weir-metadata")
        self._max_queued = max_queued
        self._timeout_s = timeout_s
        self._queued = 0
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise Invalid("the metadata database is closed")
        if self._queued >= self._max_queued:
            raise Retry(f"{self._queued} metadata commands are queued already")
        self._queued += 1
        try:
            future = self._executor.submit(work)
            try:
                # Not wait_for: before Python 3.12 it loses a cancellation that meets the result.
                async with asyncio.timeout(self._timeout_s):
                    return await asyncio.wrap_future(future)
            except TimeoutError as error:
                if future.cancelled():
                    raise Retry(f"a metadata command did not begin within {self._timeout_s} s") from error
                raise OutcomeUnknown(f"a metadata command did not end within {self._timeout_s} s") from error
        finally:
            self._queued -= 1

    async def close(self) -> None:
        self._closed = True
        await asyncio.wrap_future(self._executor.submit(_nothing))
        self._executor.shutdown()


def _nothing() -> None:
    """The last work: when it has run, the thread is idle and ends at once."""
