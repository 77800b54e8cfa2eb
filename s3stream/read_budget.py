"""Byte budget of the cold lane: reads from the store wait in order until theirs fits."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """At most `max_bytes` granted at once; first come, first served, so that a large read is never starved.

    A request above the whole budget is granted when nothing else is under way.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.in_use_bytes = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def try_acquire(self, size_bytes: int) -> bool:
        """Take the bytes if that makes nobody wait (read-ahead is the first to go without)."""
        if self._waiting or not self._fits(size_bytes):
            return False
        self.in_use_bytes += size_bytes
        return True

    async def acquire(self, size_bytes: int) -> None:
        """Take the bytes, waiting behind those who came first. Give them back with `release`, in a `finally`."""
        if self.try_acquire(size_bytes):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request = (size_bytes, granted)
        self._waiting.append(request)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(size_bytes)
            elif request in self._waiting:
                self._waiting.remove(request)
                self._grant()
            raise

    def release(self, size_bytes: int) -> None:
        self.in_use_bytes -= size_bytes
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size_bytes, granted = self._waiting.popleft()
            if granted.cancelled():  # its owner was cancelled and has not run yet: it removes nothing any more
                continue
            self.in_use_bytes += size_bytes
            granted.set_result(None)

    def _fits(self, size_bytes: int) -> bool:
        return self.in_use_bytes == 0 or self.in_use_bytes + size_bytes <= self._max_bytes
