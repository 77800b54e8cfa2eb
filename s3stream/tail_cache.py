"""The tail cache: the newest batches of all streams in memory, by reference into the arena they were received into.

It holds every batch that is not in a committed object yet (never evicted: the WAL can be read back only at start), and
beyond that, as far as `max_bytes` allow, batches that are; those go in order of commit. Uploads take all that waits,
one after the other, so that this is nearly the order of arrival and whole arena chunks become free. Batches of a stream
are contiguous in offsets; what is held of it is one run `[start, end)`, a suffix of the stream.

Per batch: an entry in three lists, and its LSN in one more until it is in an object: the WAL is trimmed by what is not.
(Lists, not arrays: three times `array.append` would cost as much as all the rest of an append.) Sizes are kept of 64
batches at a time: to ask each view of many for its length fetches all of them from memory that went cold.

The order has one entry per stream and commit: (run, number of its batches in objects by then). Eviction takes as many
whole batches of that run as it needs. An entry is dead when all those batches are gone (trimmed or dropped meanwhile):
eviction skips it, a sweep removes those that pile up. A stream has a run only while it holds batches, an idle one costs
nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple, cast

from s3stream.errors import Invalid

_COMPACT_AT = 64
_PIECE: Final = 64
"""Batches whose bytes are known as a sum, a power of two; eviction takes at most so many in one step."""
_SPARE_ENTRIES = 1024
"""Dead entries of the order that are not worth a sweep."""


class TailCut(NamedTuple):
    """Consecutive un-uploaded batches of one stream, parallel lists, at least one batch."""

    base_offsets: list[int]
    end_offsets: list[int]
    max_timestamps_ms: list[int]
    views: list[memoryview]


class _Run:
    """The batches held of one stream, from its first append on until it holds none.

    Index `head` is the first live one. `shift` batches were removed from the lists before index 0, so that the batch
    at `index` is number `index + shift` of the run. Those with numbers below `uploaded` are in objects or removed;
    `lsns` begins with number `uploaded`. `removed_bytes` lay before `head`. Piece k of the run, its batches from number
    64 * k on, has `marks[k - first_mark]` bytes of the run before it.
    """

    __slots__ = (
        "bases",
        "bytes",
        "end",
        "first_mark",
        "head",
        "lsns",
        "marks",
        "max_ts",
        "removed_bytes",
        "shift",
        "stream_id",
        "uploaded",
        "views",
    )

    def __init__(self, stream_id: int, base: int) -> None:
        self.stream_id = stream_id
        self.bases: list[int] = []
        self.views: list[memoryview | None] = []
        self.max_ts: list[int] = []
        self.lsns: list[int] = []
        self.end = base
        self.head = 0
        self.shift = 0
        self.uploaded = 0
        self.bytes = 0
        """Of all batches since the run began."""
        self.removed_bytes = 0
        self.marks: list[int] = []
        self.first_mark = 0

    def end_of(self, index: int) -> int:
        return self.bases[index + 1] if index + 1 < len(self.bases) else self.end

    def first_open(self) -> int:
        """Index of the first batch that is in no object, one behind the last if all are."""
        return self.uploaded - self.shift

    def first_ending_after(self, offset: int) -> int:
        """Index of the first batch that ends above `offset`, one behind the last if none does."""
        if offset >= self.end:
            return len(self.bases)
        return max(self.head, bisect_right(self.bases, offset, self.head) - 1)

    def bytes_before(self, index: int) -> int:
        """Of the run's batches before `index`, which is not below `head`."""
        if index < self.head:
            raise Invalid(f"batch {index} was evicted")
        if index == len(self.views):
            return self.bytes
        start = index - ((index + self.shift) & (_PIECE - 1))
        if start <= self.head:
            start, known = self.head, self.removed_bytes
        else:
            known = self.marks[(start + self.shift) // _PIECE - self.first_mark]
        return known + sum(map(len, self.live_views(start, index)))

    def bytes_between(self, first: int, stop: int) -> int:
        """Of the batches `[first, stop)`. Few are asked: they may share a piece with others that are cold."""
        if stop - first < _PIECE:
            return sum(map(len, self.live_views(first, stop)))
        return self.bytes_before(stop) - self.bytes_before(first)

    def live_views(self, first: int, stop: int) -> list[memoryview]:
        """Of many thousands of batches at once: no step of Python for each."""
        if first < self.head:
            raise Invalid(f"batch {first} was evicted")
        return cast("list[memoryview]", self.views[first:stop])

    def settle_before(self, index: int) -> None:
        """The batches before `index`, of which the last one was open, are in objects or about to be removed."""
        del self.lsns[: index - self.first_open()]
        self.uploaded = index + self.shift

    def remove_before(self, index: int, size_bytes: int) -> None:
        """Drop the settled batches before `index`, which have `size_bytes`; their views at once, since arena chunks
        wait for them."""
        self.removed_bytes += size_bytes
        if index >= _COMPACT_AT and index * 2 >= len(self.views):
            del self.bases[:index], self.max_ts[:index], self.views[:index]
            self.head = 0
            self.shift += index
            past = self.shift // _PIECE - self.first_mark
            del self.marks[:past]
            self.first_mark += past
        else:
            self.views[self.head : index] = [None] * (index - self.head)
            self.head = index


class TailCache:
    """See the module. All offsets are half-open; sizes are those of the batches, not of the arena behind them."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self.evicted_batches = 0
        self._uploaded_bytes = 0
        self._runs: dict[int, _Run] = {}
        self._order: deque[tuple[_Run, int]] = deque()
        self._sweep_above = _SPARE_ENTRIES

    @property
    def unuploaded_bytes(self) -> int:
        """Bytes of the held batches that are in no committed object."""
        return self.size_bytes - self._uploaded_bytes

    @property
    def batches(self) -> int:
        """Number of batches held; counted anew, stream by stream."""
        return sum(len(run.bases) - run.head for run in self._runs.values())

    # -- writing

    def append(
        self, stream_id: int, base_offset: int, end_offset: int, max_timestamp_ms: int, lsn: int, view: memoryview
    ) -> None:
        """Take one un-uploaded batch at the end of its stream. Invalid if it leaves a gap behind the batch before."""
        run = self._runs.get(stream_id)
        if run is None:
            run = self._runs[stream_id] = _Run(stream_id, base_offset)
        elif run.end != base_offset:
            raise Invalid(
                f"stream {stream_id}: a batch at {base_offset} does not follow the one that ends at {run.end}"
            )
        size = len(view)
        if not (len(run.views) + run.shift) & (_PIECE - 1):
            run.marks.append(run.bytes)
        run.bytes += size
        run.bases.append(base_offset)
        run.max_ts.append(max_timestamp_ms)
        run.lsns.append(lsn)
        run.views.append(view)
        run.end = end_offset
        self.size_bytes = held = self.size_bytes + size
        if held > self.max_bytes and self._order:
            self._make_room()

    def mark_uploaded(self, stream_id: int, end_offset: int) -> None:
        """Batches of the stream that end at or below `end_offset` are in committed objects: they may be evicted."""
        run = self._runs.get(stream_id)
        if run is None:
            return
        first, stop = run.first_open(), run.first_ending_after(end_offset)
        if stop <= first:
            return
        self._uploaded_bytes += run.bytes_between(first, stop)
        run.settle_before(stop)
        self._order.append((run, run.uploaded))
        if len(self._order) > self._sweep_above:
            self._sweep_order()
        if self.size_bytes > self.max_bytes:
            self._make_room()

    def trim(self, stream_id: int, start_offset: int) -> None:
        """Batches that end at or below `start_offset` are deleted: forget them, uploaded or not."""
        run = self._runs.get(stream_id)
        if run is not None:
            self._forget(run, run.first_ending_after(start_offset))

    def drop(self, stream_id: int) -> None:
        """Forget the stream and all its batches."""
        run = self._runs.get(stream_id)
        if run is not None:
            self._forget(run, len(run.views))

    def evict(self, size_bytes: int) -> int:
        """Give up at least `size_bytes` of uploaded batches, oldest commit first, if there are as many; the bytes given
        up. No batch more than that takes."""
        order, left = self._order, size_bytes
        while left > 0 and order:
            run, uploaded = order[0]
            head, stop = run.head, uploaded - run.shift
            if stop <= head:
                order.popleft()
                continue
            index = min(stop, head + _PIECE - ((head + run.shift) & (_PIECE - 1)))
            given = run.bytes_before(index) - run.removed_bytes
            if given > left:
                sizes = list(accumulate(map(len, run.live_views(head, index))))
                last = bisect_left(sizes, left)
                index, given = head + last + 1, sizes[last]
            left -= given
            self.evicted_batches += index - head
            self._remove_before(run, index, given)
            if index == stop:
                order.popleft()
        given = size_bytes - left
        self.size_bytes -= given
        self._uploaded_bytes -= given
        return given

    def _make_room(self) -> None:
        """Down to the bound and a little below: not for each batch that comes."""
        self.evict(self.size_bytes - self.max_bytes + (self.max_bytes >> 8))

    def _forget(self, run: _Run, stop: int) -> None:
        """Forget the batches of the run before index `stop`, uploaded or not."""
        size = run.bytes_before(stop) - run.removed_bytes
        first = run.first_open()
        self.size_bytes -= size
        self._uploaded_bytes -= (run.bytes_before(first) - run.removed_bytes) if stop > first else size
        if stop > first:
            run.settle_before(stop)
        self._remove_before(run, stop, size)

    def _remove_before(self, run: _Run, index: int, size_bytes: int) -> None:
        if index == len(run.views):
            del self._runs[run.stream_id]
        run.remove_before(index, size_bytes)

    def _sweep_order(self) -> None:
        """Entries of what was trimmed or dropped must not pile up while nothing needs evicting."""
        self._order = deque(entry for entry in self._order if entry[1] - entry[0].shift > entry[0].head)
        self._sweep_above = 2 * len(self._order) + _SPARE_ENTRIES

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
        first = 0 if run is None else bisect_left(run.bases, start_offset, run.head)
        stop = 0 if run is None else run.first_ending_after(below)
        if run is None or first >= stop or run.bases[first] != start_offset:
            raise Invalid(
                f"stream {stream_id}: no batch at {start_offset} that ends by {below}; held is {self.held(stream_id)}"
            )
        views = run.live_views(first, stop)
        if run.bytes_between(first, stop) > max_bytes:
            del views[max(1, bisect_right(list(accumulate(map(len, views))), max_bytes)) :]
            stop = first + len(views)
        bases = run.bases[first:stop]
        return TailCut(bases, [*bases[1:], run.end_of(stop - 1)], run.max_ts[first:stop], views)

    def first_lsn(self, stream_id: int, from_offset: int) -> int | None:
        """LSN of the first batch in no object that ends above `from_offset`; None when there is none."""
        run = self._runs.get(stream_id)
        if run is None:
            return None
        number = max(0, run.first_ending_after(from_offset) - run.first_open())
        return run.lsns[number] if number < len(run.lsns) else None

    def timestamps(self, stream_id: int, from_offset: int, below: int) -> Iterator[tuple[int, int]]:
        """(base offset, max timestamp) of the held batches that end above `from_offset` and at or below `below`."""
        run = self._runs.get(stream_id)
        if run is None:
            return iter(())
        first, stop = run.first_ending_after(from_offset), run.first_ending_after(below)
        return zip(run.bases[first:stop], run.max_ts[first:stop], strict=True)
