"""What is known of the objects of a stream: its range rows and its committed state, loaded on first need.

Idle streams have nothing here. The number of streams and the rows of each are bounded; what falls out is loaded again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from s3stream.errors import Corrupt, NotFound, Retry
from s3stream.meta.rows import RangeRow
from s3stream.meta.store import MetaStore
from s3stream.object_format import decode_state, read_block
from s3stream.read_ahead import Readers
from s3stream.settings import EngineSettings
from s3stream.stream import Stream


class StateAt:
    """The committed state of a stream, for exactly `end_offset`."""

    __slots__ = ("end_offset", "state")

    def __init__(self, end_offset: int, state: bytes | None) -> None:
        self.end_offset, self.state = end_offset, state


class Rows:
    """A window of a stream's range rows without a gap in knowledge: all rows that end above `known_from`, up to the
    end of the last one."""

    __slots__ = ("_max_rows", "_rows", "_starts", "known_from")

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._rows: list[RangeRow] = []
        self._starts: list[int] = []
        self.known_from = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def known_to(self) -> int:
        return self._rows[-1].end_offset if self._rows else self.known_from

    def find(self, offset: int) -> RangeRow | None:
        """The row that holds `offset`, or the first one after it within the window; None: not known, load."""
        if not self._rows or offset < self.known_from or offset >= self.known_to:
            return None
        number = max(0, bisect_right(self._starts, offset) - 1)
        row = self._rows[number]
        return row if row.end_offset > offset else self._rows[number + 1]

    def replace(self, known_from: int, rows: Sequence[RangeRow]) -> None:
        """Start over with a page that was just loaded, or add it when it goes on where the window ends."""
        if self._rows and rows and rows[0].start_offset == self.known_to:
            self._rows.extend(rows)
        else:
            self.known_from = min(known_from, rows[0].start_offset) if rows else known_from
            self._rows = list(rows)
        excess = len(self._rows) - self._max_rows
        if excess > 0:
            del self._rows[:excess]
            self.known_from = self._rows[0].start_offset
        self._starts = [row.start_offset for row in self._rows]

    def continues_with(self, row: RangeRow) -> bool:
        """Whether a row that was just committed belongs right behind the window."""
        return bool(self._rows) and row.start_offset == self.known_to

    def clear(self) -> None:
        self._rows, self._starts, self.known_from = [], [], 0


class Detail:
    """What is kept of one stream while it is read or uploaded."""

    __slots__ = ("readers", "rows", "state")

    def __init__(self, settings: EngineSettings) -> None:
        self.rows = Rows(settings.rows_per_stream)
        self.state: StateAt | None = None
        self.readers = Readers(settings.read_ahead_min_bytes, settings.read_ahead_max_bytes)


ReadRange = Callable[[str, int, int], Awaitable[memoryview]]
"""(key, start, end) -> bytes of an object, retried inside."""


class StreamDetails:
    """An LRU over streams of their `Detail`, and the loading of what is missing."""

    def __init__(self, meta: MetaStore, read_range: ReadRange, settings: EngineSettings) -> None:
        self._meta, self._read_range, self._settings = meta, read_range, settings
        self._details: OrderedDict[int, Detail] = OrderedDict()
        self._row_count = 0

    def __len__(self) -> int:
        return len(self._details)

    def of(self, stream_id: int) -> Detail:
        detail = self._details.get(stream_id)
        if detail is not None:
            self._details.move_to_end(stream_id)
            return detail
        detail = self._details[stream_id] = Detail(self._settings)
        self._shrink()
        return detail

    def _shrink(self) -> None:
        while len(self._details) > self._settings.row_cache_streams or (
            self._row_count > self._settings.row_cache_rows and len(self._details) > 1
        ):
            _, detail = self._details.popitem(last=False)
            self._row_count -= len(detail.rows)

    def forget(self, stream_id: int) -> None:
        detail = self._details.pop(stream_id, None)
        if detail is not None:
            self._row_count -= len(detail.rows)

    def _add_rows(self, rows: Rows, known_from: int, page: Sequence[RangeRow]) -> None:
        before = len(rows)
        rows.replace(known_from, page)
        self._row_count += len(rows) - before
        self._shrink()

    async def row_at(self, stream: Stream, offset: int, *, fresh: bool = False) -> RangeRow | None:
        """The row that holds `offset` or the next one; None when there is none at or above it.

        `fresh` reloads: the rows may have changed under the reader.
        """
        rows = self.of(stream.stream_id).rows
        if fresh:
            self._row_count -= len(rows)
            rows.clear()
        row = rows.find(offset)
        if row is None:
            page = await self._meta.range_rows(stream.stream_id, offset, self._settings.row_page)
            rows = self.of(stream.stream_id).rows
            self._add_rows(rows, offset, page)
            row = rows.find(offset)
        return row

    async def start_offset(self, stream: Stream) -> int:
        """The start as the metadata have it: a trim may be durable there before memory knows."""
        rows = await self._meta.stream_rows([stream.stream_id])
        if not rows:
            raise NotFound(f"stream {stream.stream_id} does not exist any more")
        return rows[0].start_offset

    def known_row_at(self, stream_id: int, offset: int) -> RangeRow | None:
        """As `row_at`, without loading."""
        detail = self._details.get(stream_id)
        return detail.rows.find(offset) if detail is not None else None

    def committed(self, row: RangeRow, state: bytes | None) -> None:
        """This broker committed a run."""
        detail = self.of(row.stream_id)
        if detail.rows.continues_with(row):
            self._add_rows(detail.rows, row.start_offset, (row,))
        detail.state = StateAt(row.end_offset, state)

    def below_start(self, stream_id: int, end_offset: int, state: bytes | None) -> None:
        """This broker committed a run that a trim had overtaken: nothing to read, the state still counts."""
        self.of(stream_id).state = StateAt(end_offset, state)

    async def committed_state(self, stream: Stream) -> bytes | None:
        """The state at `stream.uploaded_end`; None when the owner keeps none, or nothing is left that held it."""
        known = self.of(stream.stream_id).state
        if known is not None and known.end_offset == stream.uploaded_end:
            return known.state
        end_offset = stream.uploaded_end
        state = await self._load_state(stream.stream_id, end_offset) if end_offset else None
        self.of(stream.stream_id).state = StateAt(end_offset, state)
        return state

    async def _load_state(self, stream_id: int, end_offset: int) -> bytes | None:
        missing = ""
        while True:
            row = await self._row_that_ends_at(stream_id, end_offset)
            if row is None or not row.state_size:
                return None
            if row.object_key == missing:
                raise Corrupt(f"object {missing}, which holds the state of stream {stream_id}, is not in the store")
            try:
                return await self._read_state(row)
            except NotFound:
                missing = row.object_key  # its row may be gone or point elsewhere by now

    async def _row_that_ends_at(self, stream_id: int, end_offset: int) -> RangeRow | None:
        """None: no row holds what lies right below `end_offset`: a trim has passed it, and it had no state.

        Not simply the newest row: a commit may be applied whose answer has not arrived here yet.
        """
        rows = await self._meta.range_rows(stream_id, end_offset - 1, 1)
        if not rows or rows[0].start_offset >= end_offset:
            return None
        if rows[0].end_offset != end_offset:
            raise Retry(f"stream {stream_id} has a range that runs on past {end_offset}: its rows changed")
        return rows[0]

    async def _read_state(self, row: RangeRow) -> bytes | None:
        data = await self._read_range(row.object_key, row.state_position, row.state_position + row.state_size)
        block = read_block(data, row.stream_id, row.end_offset)
        if block.size != row.state_size:
            raise Corrupt(f"STATE block of {row.stream_id} has {block.size} bytes, its row says {row.state_size}")
        state, _ = decode_state(block.payload)
        return state
