"""Finding batches by timestamp: the rows' maxima first, then the units', then the batches' own; the tail cache last.

Timestamps need not ascend with offsets, so a row, unit or batch is passed over only if its maximum is too small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from s3stream.block_cache import CachedBlock
from s3stream.details import StreamDetails
from s3stream.errors import NotFound
from s3stream.meta.rows import RangeRow
from s3stream.read_units import Unit, UnitMap
from s3stream.stream import Stream
from s3stream.tail_cache import TailCache

if TYPE_CHECKING:
    from s3stream.read import Reader

_MAX_RELOADS = 4


class TimestampHit(NamedTuple):
    """A batch: its max timestamp, its base offset, itself whole."""

    timestamp_ms: int
    offset: int
    batch: memoryview


class TimestampLookup:
    """ListOffsets' questions. Reads at most one unit per candidate row."""

    def __init__(self, reader: Reader, tail: TailCache, details: StreamDetails, units: UnitMap) -> None:
        self._reader, self._tail, self._details, self._units = reader, tail, details, units

    async def offset_for_timestamp(
        self, stream: Stream, timestamp_ms: int, from_offset: int | None, below: int | None
    ) -> TimestampHit | None:
        """See `Stream.offset_for_timestamp`."""
        reloads = 0
        while True:
            at = stream.start_offset if from_offset is None else max(from_offset, stream.start_offset)
            stream.check_readable(at)
            limit = stream.durable_end if below is None else min(below, stream.durable_end)
            try:
                while at < min(limit, stream.uploaded_end):
                    row = await self._row_at(stream, at, fresh=reloads > 0)
                    if row is None:
                        break
                    if row.max_timestamp_ms >= timestamp_ms:
                        hit = await self._in_row(stream, row, timestamp_ms, at, limit)
                        if hit is not None:
                            return hit
                    at = row.end_offset
            except NotFound:
                reloads += 1
                if reloads > _MAX_RELOADS:
                    raise
                continue
            if at >= stream.uploaded_end or reloads > _MAX_RELOADS:
                return self._in_tail(stream, timestamp_ms, at, limit) if at < limit else None
            if at >= limit:
                return None
            reloads += 1  # the rows end before the uploaded end: they changed while they were read

    async def max_timestamp(self, stream: Stream, below: int | None) -> TimestampHit | None:
        """See `Stream.max_timestamp`."""
        limit = stream.durable_end if below is None else min(below, stream.durable_end)
        best = -1
        at = stream.start_offset
        while at < min(limit, stream.uploaded_end):
            row = await self._row_at(stream, at)
            if row is None:
                break
            if row.end_offset <= limit and row.start_offset >= stream.start_offset:
                best = max(best, row.max_timestamp_ms)
            else:  # partly out of bounds: its maximum may be, too
                best = max(best, await self._max_in_row(stream, row, limit))
            at = row.end_offset
        begin = max(stream.start_offset, stream.uploaded_end)
        for _, timestamp_ms in self._tail.timestamps(stream.stream_id, begin, limit):
            best = max(best, timestamp_ms)
        return await self.offset_for_timestamp(stream, best, None, limit)

    async def _row_at(self, stream: Stream, offset: int, *, fresh: bool = False) -> RangeRow | None:
        return await self._details.row_at(stream, offset, fresh=fresh)

    async def _in_row(
        self, stream: Stream, row: RangeRow, timestamp_ms: int, from_offset: int, below: int
    ) -> TimestampHit | None:
        for unit in await self._units.of(row):
            if unit.max_timestamp_ms < timestamp_ms or unit.end_offset <= from_offset:
                continue
            batches = (await self._block(stream, unit, from_offset)).batches
            for number in range(batches.first_at_or_after(from_offset), len(batches)):
                if batches.ends[number] > below:
                    return None
                if batches.timestamps[number] >= timestamp_ms:
                    return TimestampHit(batches.timestamps[number], batches.starts[number], batches.batch(number))
        return None

    async def _max_in_row(self, stream: Stream, row: RangeRow, below: int) -> int:
        best = -1
        for unit in await self._units.of(row):
            if unit.end_offset <= stream.start_offset or unit.start_offset >= below:
                continue
            batches = (await self._block(stream, unit, stream.start_offset)).batches
            for number in range(batches.first_at_or_after(stream.start_offset), len(batches)):
                if batches.ends[number] <= below:
                    best = max(best, batches.timestamps[number])
        return best

    async def _block(self, stream: Stream, unit: Unit, from_offset: int) -> CachedBlock:
        """The unit's batches; the lookup may begin inside of it."""
        _, block = await self._reader.load_at(stream, max(unit.start_offset, from_offset), unit.size_bytes)
        return block

    def _in_tail(self, stream: Stream, timestamp_ms: int, from_offset: int, below: int) -> TimestampHit | None:
        for base, batch_timestamp_ms in self._tail.timestamps(stream.stream_id, from_offset, below):
            if batch_timestamp_ms >= timestamp_ms:
                batches = self._tail.read(stream.stream_id, base, 1, below)
                return TimestampHit(batch_timestamp_ms, base, batches[0]) if batches else None
        return None
