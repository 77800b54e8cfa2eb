"""The tail cache: the newest batches of all streams in memory, by reference into the arena they were received into.

It holds every batch that is not in a committed object yet (never evicted: the WAL can be read back only at start), and
beyond that, as far as `max_bytes` allow, batches that are; those go in order of arrival, so that whole arena chunks
become free. Batches of a stream are contiguous in offsets; what is held of it is one run `[start, end)`, a suffix of
the stream. Per batch: one entry in four arrays and in the order of arrival, no object. A stream has an entry only
while it holds batches, an idle one costs nothing.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple, cast

from s3stream.errors import Invalid

_COMPACT_AT = 64


class TailCut(NamedTuple):
    """Consecutive un-uploaded batches of one stream, parallel lists, at least one batch."""

    base_offsets: list[int]
    end_offsets: list[int]
    max_timestamps_ms: list[int]
    lsns: list[int]
    views: list[memoryview]


class _Run:
    """The batches held of one stream. Index `head` is the first live one; `uploaded` counts live ones in objects;
    `parked` the first ones that eviction has met before they were uploaded."""

    __slots__ = ("bases", "end", "head", "lsns", "max_ts", "parked", "uploaded", "views")

    def __init__(self, base: int) -> None:
        self.bases = array("q")
        self.max_ts = array("q")
        self.lsns = array("q")
        self.views: list[memoryview | None] = []
        self.end = base
        self.head = 0
        self.uploaded = 0
        self.parked = 0

    def end_of(self, index: int) -> int:
        return self.bases[index + 1] if index + 1 < len(self.bases) else self.end

    def find(self, offset: int) -> int:
        """Index of the batch that holds `offset`; the caller knows that it lies in the run."""
        return bisect_right(self.bases, offset, self.head) - 1

    def first_ending_after(self, offset: int) -> int:
        """Index of the first batch that ends above `offset`, one behind the last if none does."""
        if offset >= self.end:
            return len(self.bases)
        return max(self.head, bisect_right(self.bases, offset, self.head) - 1)

    def live_views(self, first: int, stop: int) -> list[memoryview]:
        """Of many thousands of batches at once: no step of Python for each."""
        views = self.views[first:stop]
        if first < self.head:
            raise Invalid(f"batch {first} was evicted")
        return cast("list[memoryview]", views)

    def view(self, index: int) -> memoryview:
        view = self.views[index]
        if view is None:
            raise Invalid(f"batch {index} was evicted")
        return view

    def compact(self) -> None:
        head = self.head
        if head >= _COMPACT_AT and head * 2 >= len(self.bases):
            del self.bases[:head], self.max_ts[:head], self.lsns[:head], self.views[:head]
            self.head = 0


class TailCache:
    """See the module. All offsets are half-open; sizes are those of the batches, not of the arena behind them."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self.unuploaded_bytes = 0
        self.batches = 0
        self.evicted_batches = 0
        self._runs: dict[int, _Run] = {}
        # Order of arrival of the batches that eviction has not met: parallel, stream id and LSN. A batch that is gone
        # from its run (dropped stream) is recognised by its LSN.
        self._order_streams: deque[int] = deque()
        self._order_lsns: deque[int] = deque()

    # -- writing

    def append(
        self, stream_id: int, base_offset: int, end_offset: int, max_timestamp_ms: int, lsn: int, view: memoryview
    ) -> None:
        """Take one un-uploaded batch at the end of its stream. Invalid if it leaves a gap behind the batch before."""
        run = self._runs.get(stream_id)
        if run is None:
            run = self._runs[stream_id] = _Run(base_offset)
        elif run.end != base_offset:
            raise Invalid(
                f"stream {stream_id}: a batch at {base_offset} does not follow the one that ends at {run.end}"
            )
        run.bases.append(base_offset)
        run.max_ts.append(max_timestamp_ms)
        run.lsns.append(lsn)
        run.views.append(view)
        run.end = end_offset
        size = len(view)
        self.batches += 1
        self.unuploaded_bytes += size
        self._order_streams.append(stream_id)
        self._order_lsns.append(lsn)
        self.size_bytes = held = self.size_bytes + size
        if held > self.max_bytes:
            self.evict(held - self.max_bytes)

    def mark_uploaded(self, stream_id: int, end_offset: int) -> None:
        """Batches of the stream that end at or below `end_offset` are in committed objects: they may be evicted."""
        run = self._runs.get(stream_id)
        if run is None:
            return
        first = run.head + run.uploaded
        index = max(first, run.first_ending_after(end_offset))
        self.unuploaded_bytes -= sum(map(len, run.live_views(first, index)))
        run.uploaded = index - run.head
        self._unpark(stream_id, run)
        if self.size_bytes > self.max_bytes:
            self.evict(self.size_bytes - self.max_bytes)

    def trim(self, stream_id: int, start_offset: int) -> None:
        """Batches that end at or below `start_offset` are deleted: forget them, uploaded or not."""
        run = self._runs.get(stream_id)
        while run is not None and run.end_of(run.head) <= start_offset:
            if self._remove_head(stream_id, run):
                break
        self._sweep_order()

    def drop(self, stream_id: int) -> None:
        """Forget the stream and all its batches."""
        run = self._runs.get(stream_id)
        while run is not None and not self._remove_head(stream_id, run):
            pass
        self._sweep_order()

    def evict(self, size_bytes: int) -> int:
        """Give up at least `size_bytes` of uploaded batches, oldest first, if there are as many; the bytes given up."""
        streams, lsns, runs = self._order_streams, self._order_lsns, self._runs
        before = self.size_bytes
        target = before - size_bytes
        while streams and self.size_bytes > target:
            stream_id = streams.popleft()
            lsn = lsns.popleft()
            run = runs.get(stream_id)
            if run is None:
                continue
            index = run.head + run.parked
            if index >= len(run.lsns) or run.lsns[index] != lsn:
                continue  # dropped or trimmed meanwhile
            if run.uploaded > run.parked:
                # Parked batches are never uploaded ones, so nothing is parked here: this is the head.
                self.evicted_batches += 1
                self._remove_head(stream_id, run)
            else:
                run.parked += 1
        return before - self.size_bytes

    def _unpark(self, stream_id: int, run: _Run) -> None:
        """What eviction skipped and may take now goes back to the front of the order: it is older than the rest."""
        again = min(run.parked, run.uploaded)
        if again:
            # The still parked ones behind go back as well: the order of a stream has no holes.
            for index in range(run.head + run.parked - 1, run.head - 1, -1):
                self._order_streams.appendleft(stream_id)
                self._order_lsns.appendleft(run.lsns[index])
            run.parked = 0

    def _sweep_order(self) -> None:
        """Entries of batches that were trimmed or dropped must not pile up while nothing needs evicting."""
        if len(self._order_lsns) <= 2 * self.batches + 1024:
            return
        kept = [
            (stream_id, lsn)
            for stream_id, lsn in zip(self._order_streams, self._order_lsns, strict=True)
            if (run := self._runs.get(stream_id)) is not None and run.lsns[run.head] <= lsn
        ]
        self._order_streams = deque(stream_id for stream_id, _ in kept)
        self._order_lsns = deque(lsn for _, lsn in kept)

    def _remove_head(self, stream_id: int, run: _Run) -> bool:
        """Forget the first batch; True when it was the last one held."""
        head = run.head
        size = len(run.view(head))
        run.views[head] = None
        run.head = head + 1
        self.batches -= 1
        self.size_bytes -= size
        if run.uploaded:
            run.uploaded -= 1
        else:
            self.unuploaded_bytes -= size
        if run.parked:
            run.parked -= 1
        if run.head == len(run.bases):
            del self._runs[stream_id]
            return True
        run.compact()
        return False

    # -- reading

    def held(self, stream_id: int) -> tuple[int, int] | None:
        """`[start, end)` that is held of the stream; None when nothing is."""
        run = self._runs.get(stream_id)
        return None if run is None else (run.bases[run.head], run.end)

    def read(self, stream_id: int, offset: int, max_bytes: int, below: int) -> list[memoryview] | None:
        """Whole batches from the one that holds `offset` on; None = `offset` is not held.

        Only batches that end at or below `below`; as many as `max_bytes` allow, the first one whatever its size.
        """
        run = self._runs.get(stream_id)
        if run is None or not run.bases[run.head] <= offset < run.end:
            return None
        bases, views = run.bases, run.views
        index = bisect_right(bases, offset, run.head) - 1
        last = len(bases) - 1
        found: list[memoryview] = []
        while index <= last:
            if (bases[index + 1] if index < last else run.end) > below:
                break
            view = views[index]
            if view is None:
                raise Invalid(f"stream {stream_id}: a batch that is held has no bytes")
            max_bytes -= len(view)
            if max_bytes < 0 and found:
                break
            found.append(view)
            index += 1
        return found

    def take_for_upload(self, stream_id: int, start_offset: int, below: int, max_bytes: int) -> TailCut:
        """The batches of `[start_offset, below)`, as many whole ones as `max_bytes` allow but at least one.

        They stay held (`mark_uploaded` follows the commit). Invalid unless a held batch begins at `start_offset`
        and ends at or below `below`.
        """
        run = self._runs.get(stream_id)
        index = -1 if run is None or start_offset >= run.end else run.find(start_offset)
        if run is None or index < run.head or run.bases[index] != start_offset or run.end_of(index) > below:
            raise Invalid(
                f"stream {stream_id}: no batch at {start_offset} that ends by {below}; held is {self.held(stream_id)}"
            )
        first = index
        views = run.live_views(first, run.first_ending_after(below))
        if sum(map(len, views)) > max_bytes:
            del views[max(1, bisect_right(list(accumulate(map(len, views))), max_bytes)) :]
        index = first + len(views)
        bases = run.bases[first:index].tolist()
        return TailCut(
            bases,
            [*bases[1:], run.end_of(index - 1)],
            run.max_ts[first:index].tolist(),
            run.lsns[first:index].tolist(),
            views,
        )

    def first_lsn(self, stream_id: int, from_offset: int) -> int | None:
        """LSN of the first held batch that ends above `from_offset`; None when there is none."""
        run = self._runs.get(stream_id)
        if run is None or from_offset >= run.end:
            return None
        return run.lsns[max(run.head, run.find(from_offset))]

    def timestamps(self, stream_id: int, from_offset: int, below: int) -> Iterator[tuple[int, int]]:
        """(base offset, max timestamp) of the held batches that end above `from_offset` and at or below `below`."""
        run = self._runs.get(stream_id)
        if run is None or from_offset >= run.end:
            return
        for index in range(max(run.head, run.find(from_offset)), len(run.bases)):
            if run.end_of(index) > below:
                return
            yield run.bases[index], run.max_ts[index]
