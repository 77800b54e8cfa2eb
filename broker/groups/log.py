"""The log under one coordinator shard: a partition of `__consumer_offsets` as the coordinator needs it, and a
memory form for tests whose durability and failures are under control."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from broker.groups.records import Record
from s3stream.errors import Retry

Done = Callable[[BaseException | None], None]


class CoordinatorLog(Protocol):
    """One led partition. `leader_epoch` does not change; a new leadership is a new object."""

    leader_epoch: int

    @property
    def end_offset(self) -> int:
        """Offset after the last record appended."""
        ...

    def append(self, records: Sequence[Record], done: Done) -> None:
        """Take all records as one batch, or raise and take none: Retry (full, busy), Fenced, Invalid (too large).

        `done(None)` once durable; `done(error)` means that nothing appended from there on ever will be.
        """
        ...

    def when_durable(self, done: Done) -> None:
        """Call `done` once everything appended so far is durable; at once, before returning, when it is already."""
        ...

    def read_all(self) -> AsyncIterator[Sequence[Record]]:
        """Every record from the log start to the end at the time of the call, in order, in bounded slices."""
        ...

    async def trim(self, offset: int) -> None:
        """Records below `offset` are not needed any more. May keep them; Retry = not now."""
        ...


class MemoryCoordinatorLog:
    """A list of records. With `auto` appends are durable at once, else when `settle()` says so.

    `refuse` makes `append` raise it; `records[:durable]` is what a crash leaves.
    """

    def __init__(self, records: Sequence[Record] = (), *, leader_epoch: int = 0, auto: bool = True) -> None:
        self.leader_epoch = leader_epoch
        self.records: list[Record] = list(records)
        self.batches: list[tuple[Record, ...]] = []
        self.start_offset = 0
        self.durable = len(self.records)
        self.auto = auto
        self.refuse: BaseException | None = None
        self.refuse_trim: BaseException | None = None
        self.broken: BaseException | None = None
        self.slice_records = 100
        self._waiting: list[tuple[int, Done]] = []

    @property
    def end_offset(self) -> int:
        return self.start_offset + len(self.records)

    def append(self, records: Sequence[Record], done: Done) -> None:
        if self.refuse is not None:
            raise self.refuse
        if not records:
            raise Retry("an append needs records")
        self.records.extend(records)
        self.batches.append(tuple(records))
        self.when_durable(done)
        if self.auto:
            self.settle()

    def when_durable(self, done: Done) -> None:
        if self.broken is not None:
            done(self.broken)
        elif self.durable >= len(self.records):
            done(None)
        else:
            self._waiting.append((len(self.records), done))

    def settle(self, count: int | None = None) -> None:
        """Make the first `count` records that are not yet durable so (None = all)."""
        pending = len(self.records) - self.durable
        self.durable += pending if count is None else min(count, pending)
        ready = [done for end, done in self._waiting if end <= self.durable]
        self._waiting = [item for item in self._waiting if item[0] > self.durable]
        for done in ready:
            done(None)

    def fail(self, error: BaseException) -> None:
        """Nothing that is not durable now ever will be."""
        self.broken = error
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(error)

    async def read_all(self) -> AsyncIterator[Sequence[Record]]:
        end = len(self.records)
        for start in range(0, end, self.slice_records):
            yield self.records[start : min(start + self.slice_records, end)]

    async def trim(self, offset: int) -> None:
        if self.refuse_trim is not None:
            raise self.refuse_trim
        drop = min(max(offset - self.start_offset, 0), self.durable)
        del self.records[:drop]
        self.durable -= drop
        self.start_offset += drop
        self._waiting = [(end - drop, done) for end, done in self._waiting]
