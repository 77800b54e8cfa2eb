"""Producer ids from blocks that the metadata reserves; one spare block is always held, so an outage is not noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from s3stream.errors import StreamError
from s3stream.supervisor import Supervisor


class ProducerIds:
    """`next()` gives each id once; ids of a block that a restart left unused are never given."""

    def __init__(self, reserve: Callable[[], Awaitable[tuple[int, int]]], supervisor: Supervisor) -> None:
        self._reserve = reserve
        self._supervisor = supervisor
        self._current: Iterator[int] = iter(())
        self._spare: tuple[int, int] | None = None
        self._refilling = False
        self._lock = asyncio.Lock()

    async def next(self) -> int:
        """A fresh id. Raises the metadata's error when no block is left and none can be had."""
        async with self._lock:
            found = next(self._current, None)
            if found is None:
                block = await self._reserve() if self._spare is None else self._spare
                self._spare = None
                self._current = iter(range(*block))
                found = next(self._current)
        if self._spare is None and not self._refilling:
            self._refilling = True
            self._supervisor.spawn("producer id block", self._refill())
        return found

    async def _refill(self) -> None:
        try:
            spare = await self._reserve()
            if self._spare is None:
                self._spare = spare
        except StreamError:
            pass  # not needed yet: the next request tries again
        finally:
            self._refilling = False
