"""All timers of the coordinator on one heap and one `loop.call_later`: a member costs an entry, not a task.

Setting a timer later than it stands only changes its deadline (the common case: a heartbeat); the heap entry is moved
when it comes up. So the heap holds one useful entry per timer plus stale ones, which are swept when they outnumber.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
A = TypeVar("A")

_FIRED_PER_TURN = 256
_SWEEP_SLACK = 64


class _Entry(Generic[A]):
    __slots__ = ("arg", "deadline", "queued_at", "sequence")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.queued_at = 0.0
        self.sequence = -1
        self.arg: A


class Timers(Generic[K, A]):
    """`fire(key, arg)` runs on the event loop when a timer is due, in deadline order, equal ones in the order set."""

    def __init__(self, fire: Callable[[K, A], None]) -> None:
        self._fire = fire
        self._entries: dict[K, _Entry[A]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._handle: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._closed = False

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, key: K, delay_ms: int, arg: A) -> None:
        """Start `key`, or start it again with a new deadline."""
        if self._closed:
            return
        deadline = asyncio.get_running_loop().time() + max(delay_ms, 0) / 1000
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
        entry.arg = arg
        entry.deadline = deadline
        if entry.sequence < 0 or deadline < entry.queued_at:
            self._push(key, entry)
            self._arm()

    def cancel(self, key: K) -> None:
        self._entries.pop(key, None)

    def close(self) -> None:
        """Nothing fires after this."""
        self._closed = True
        self._entries.clear()
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _push(self, key: K, entry: _Entry[A]) -> None:
        self._sequence += 1
        entry.sequence = self._sequence
        entry.queued_at = entry.deadline
        heapq.heappush(self._heap, (entry.deadline, entry.sequence, key))
        if len(self._heap) > 2 * len(self._entries) + _SWEEP_SLACK:
            self._heap = [item for item in self._heap if self._is_current(item)]
            heapq.heapify(self._heap)

    def _is_current(self, item: tuple[float, int, K]) -> bool:
        entry = self._entries.get(item[2])
        return entry is not None and entry.sequence == item[1]

    def _arm(self) -> None:
        if self._closed or not self._heap:
            return
        when = self._heap[0][0]
        if self._handle is not None:
            if self._wake_at <= when:
                return
            self._handle.cancel()
        loop = asyncio.get_running_loop()
        self._wake_at = when
        self._handle = loop.call_later(max(when - loop.time(), 0.0), self._wake)

    def _wake(self) -> None:
        """Fire what is due; a bounded number per turn of the loop, so that a mass expiry does not stop the traffic."""
        self._handle = None
        now = asyncio.get_running_loop().time()
        try:
            for _ in range(_FIRED_PER_TURN):
                if not self._heap or self._heap[0][0] > now:
                    break
                self._take_first()
        finally:
            self._arm()

    def _take_first(self) -> None:
        item = heapq.heappop(self._heap)
        if not self._is_current(item):
            return
        key = item[2]
        entry = self._entries[key]
        if entry.deadline > item[0]:
            self._push(key, entry)
            return
        del self._entries[key]
        self._fire(key, entry.arg)
