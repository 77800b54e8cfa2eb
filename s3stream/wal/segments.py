"""The segments of a WAL in use: made ahead of need, given back after the trim point has passed them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from s3stream.errors import Invalid, Retry
from s3stream.ports import WalDevice
from s3stream.wal.frame import SEGMENT_HEADER_SIZE

_MIN_SEGMENTS = 4


class SegmentKeeper:
    """One task creates and removes segments. `changed(None)` runs after one was created, `changed(error)` when there
    was no space (it is tried again every `retry_ms`); `failed(error)` on any other error.

    Live are the segments from the oldest that is not trimmed to the one that appends go to. Trimmed ones are kept for
    `grace_ms`, but no longer than their space is free.
    """

    def __init__(
        self,
        device: WalDevice,
        capacity_bytes: int,
        grace_ms: int,
        retry_ms: int,
        changed: Callable[[Retry | None], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        size = device.segment_size_bytes
        if capacity_bytes < _MIN_SEGMENTS * size:
            raise Invalid(f"a WAL of {capacity_bytes} bytes holds less than {_MIN_SEGMENTS} segments of {size}")
        self.bytes_ahead = 0
        """Bytes for frames in the segments that may follow the one that appends go to (negative: over capacity)."""
        self.out_of_space = False
        self._device, self._changed, self._failed = device, changed, failed
        self._max_segments = capacity_bytes // size
        self._usable_bytes = size - SEGMENT_HEADER_SIZE
        self._grace_s, self._retry_s = grace_ms / 1000, retry_ms / 1000
        self._live: deque[tuple[int, int]] = deque()  # (number, first LSN)
        self._ready: set[int] = set()
        self._current = 0
        self._wanted = 0  # segments up to this number are to be made
        self._trimmed: deque[tuple[float, int]] = deque()  # (when to remove, number)
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, number: int, first_lsn: int) -> None:
        """Make the first segment, then run. Retry when there is no space for it."""
        await self._device.create_segment(number)
        self._ready.add(number)
        self.advance(number, first_lsn)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="WAL segments")
        self._task.add_done_callback(self._ended)

    def is_ready(self, number: int) -> bool:
        return number in self._ready

    def advance(self, number: int, first_lsn: int) -> None:
        """Appends go to segment `number` from now on, beginning with `first_lsn`."""
        self._live.append((number, first_lsn))
        self._current = number
        self._count()
        if number not in self._ready:
            self._want(number)

    def prepare(self) -> None:
        """The next segment will be needed soon."""
        if self._wanted <= self._current and self.bytes_ahead > -self._usable_bytes:
            self._want(self._current + 1)

    def trim(self, lsn: int) -> None:
        """All frames below `lsn` are durable and not needed any more."""
        live = self._live
        trimmed = False
        while len(live) > 1 and live[1][1] <= lsn:
            number, _ = live.popleft()
            self._trimmed.append((asyncio.get_running_loop().time() + self._grace_s, number))
            trimmed = True
        if trimmed:
            self._count()
            self._wake.set()

    async def close(self) -> None:
        """Stop; a segment that is being made may be left behind unused."""
        if self._timer is not None:
            self._timer.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _want(self, number: int) -> None:
        self._wanted = number
        self._wake.set()

    def _count(self) -> None:
        if self.out_of_space:
            ahead = sum(number > self._current for number in self._ready)
        else:
            # Trimmed segments do not count: they are given up when their space is needed.
            ahead = self._max_segments - 1 - len(self._live)
        self.bytes_ahead = ahead * self._usable_bytes
        if self.out_of_space and self._current not in self._ready:
            self.bytes_ahead -= self._usable_bytes

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            await self._remove()
            await self._create()

    async def _create(self) -> None:
        while (number := self._missing()) is not None:
            try:
                await self._device.create_segment(number)
            except Retry as error:
                self.out_of_space = True
                self._count()
                self._wake_in(self._retry_s)
                self._changed(error)
                return
            self.out_of_space = False
            self._ready.add(number)
            self._count()
            self._changed(None)

    def _missing(self) -> int | None:
        """The next segment to make: one that frames wait for, or the one ahead."""
        for number, _ in self._live:
            if number not in self._ready:
                return number
        ahead = self._current + 1
        return ahead if ahead <= self._wanted and ahead not in self._ready else None

    async def _remove(self) -> None:
        """Give back trimmed segments after their grace, or before it when the next segment needs the space."""
        now = asyncio.get_running_loop().time()
        in_use = len(self._live) + (self._wanted > self._current)
        due = []
        while self._trimmed and (
            self._trimmed[0][0] <= now or in_use + len(self._trimmed) > self._max_segments or self.out_of_space
        ):
            due.append(self._trimmed.popleft()[1])
        if due:
            self._ready.difference_update(due)
            await self._device.remove_segments(due)
        if self._trimmed:
            self._wake_in(self._trimmed[0][0] - now)

    def _wake_in(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() > loop.time() + delay_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(delay_s, self._wake.set)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
