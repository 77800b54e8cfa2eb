"""Bounds what is in flight by bytes, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """At most `max_bytes` are held at a time; a request for more than that waits until it can have all of it alone."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    @asynccontextmanager
    async def hold(self, nbytes: int) -> AsyncIterator[None]:
        """Hold `nbytes` (at least 1) for the duration of the block."""
        nbytes = min(max(nbytes, 1), self._max_bytes)
        if self._waiting or self._held_bytes + nbytes > self._max_bytes:
            await self._wait(nbytes)
        else:
            self._held_bytes += nbytes
        try:
            yield
        finally:
            self._held_bytes -= nbytes
            self._admit()

    async def _wait(self, nbytes: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._held_bytes -= nbytes  # admitted in the same moment
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            nbytes, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            if self._held_bytes + nbytes > self._max_bytes:
                return
            self._waiting.popleft()
            self._held_bytes += nbytes
            turn.set_result(None)
