"""Back-pressure: whether the engine takes more bytes now, and telling those who wait when it does again.

Every refusal happens here, before an offset is assigned. Four things can be full: the WAL, what waits for its turn to
be written to it, the tail that is in no committed object yet, and the arena that requests are received into.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from s3stream.append_path import AppendPath
from s3stream.metrics import EngineMetrics

_POLL_INTERVAL_S = 0.02
"""While somebody waits: the arena gives no sign when a chunk comes back, so it is looked at."""


class ArenaGauge(Protocol):
    """What pressure needs to know of the arena."""

    def has_room(self, size: int) -> bool: ...


class Pressure:
    """Decides on admission; waiting callbacks run in order of their registration, each once.

    The book of `appends` and the room of its WAL are looked at anew each time. `evict(n)` is called
    when the arena is full: the tail cache gives back memory of batches that are in objects already. `hurry()` is called
    while somebody is refused, unless it is the disk that is behind: an upload makes room in WAL and tail, and must not
    wait for its size or age.
    """

    def __init__(
        self,
        *,
        appends: AppendPath,
        tail_max_bytes: int,
        pending_max_bytes: int,
        arena: ArenaGauge | None,
        evict: Callable[[int], object],
        hurry: Callable[[], None],
        metrics: EngineMetrics,
    ) -> None:
        self._appends = appends
        self._tail_max_bytes, self._pending_max_bytes = tail_max_bytes, pending_max_bytes
        self._arena, self._evict, self._hurry, self._metrics = arena, evict, hurry, metrics
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._refused_bytes = 1
        self._timer: asyncio.TimerHandle | None = None
        self._refusing_since: float | None = None
        self._closed = False

    def admit(self, size_bytes: int) -> bool:
        """Whether `size_bytes` may be appended now. After True the append itself cannot be refused."""
        if self._closed or not self._has_room(size_bytes):
            self._refused_bytes = size_bytes
            if self._refusing_since is None and not self._closed:
                self._refusing_since = asyncio.get_running_loop().time()
                self._metrics.back_pressure_begins += 1
                if not self._too_much_pending(size_bytes):
                    self._hurry()
            return False
        if self._refusing_since is not None:
            self._metrics.back_pressure_seconds += asyncio.get_running_loop().time() - self._refusing_since
            self._refusing_since = None
        return True

    def _has_room(self, size_bytes: int) -> bool:
        appends = self._appends
        if appends.wal.free_bytes() < size_bytes or self._too_much_pending(size_bytes):
            return False
        tail_bytes = appends.tail_bytes
        # A request above the bound is taken when it has the tail for itself.
        if tail_bytes and tail_bytes + size_bytes > self._tail_max_bytes:
            return False
        arena = self._arena
        if arena is not None and not arena.has_room(size_bytes):
            self._evict(size_bytes)
            return arena.has_room(size_bytes)
        return True

    def _too_much_pending(self, size_bytes: int) -> bool:
        """The disk is behind; an upload would not help. A request above the bound is taken when nothing is pending."""
        pending_bytes = self._appends.pending_bytes
        return pending_bytes > 0 and pending_bytes + size_bytes > self._pending_max_bytes

    def group_is_durable(self) -> None:
        """Called per flush group, so it is cheap while nobody waits."""
        if self._waiting:
            self.check()

    def when_relieved(self, callback: Callable[[], None]) -> None:
        """Run `callback` once there is room for what `admit` refused last (or the engine stopped: it then still says
        no). In order: a large request is not starved by small ones behind it."""
        self._waiting.append((self._refused_bytes, callback))
        self._arm()

    def check(self) -> None:
        """Something may have become free: wake those who wait, as long as there is room."""
        for _ in range(len(self._waiting)):
            size_bytes, callback = self._waiting[0]
            # With an empty tail no upload makes more room than there is: whoever waits for more finds out.
            if not self._closed and self._appends.tail_bytes and not self._has_room(size_bytes):
                break
            self._waiting.popleft()
            callback()
        self._arm()

    def close(self) -> None:
        """Admit nothing more; who waits is told at once."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.check()
        if self._waiting and not self._closed:
            self._hurry()

    def _arm(self) -> None:
        if self._waiting and self._timer is None:
            delay_s = 0.0 if self._closed else _POLL_INTERVAL_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._poll)

    def _poll(self) -> None:
        self._timer = None
        self.check()
        if self._waiting and not self._closed and not self._too_much_pending(self._waiting[0][0]):
            self._hurry()
