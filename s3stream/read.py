"""The read path: tail cache, block cache, then ranged GETs with read-ahead. Never a wrong answer.

The rows that say where data lies may be old (another broker compacted, a trim ran): a missing object or a gap means
reload the rows and try again, a few times; only then is it an error. Every offset is checked against the stream's
start after each wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from s3stream.block_cache import BlockCache, CachedBlock
from s3stream.details import StreamDetails
from s3stream.errors import Corrupt, NotFound, Retry
from s3stream.metrics import EngineMetrics
from s3stream.read_ahead import ReadAhead
from s3stream.read_load import UnitLoader
from s3stream.read_time import TimestampLookup
from s3stream.read_units import Unit, UnitMap, span_of, unit_at
from s3stream.settings import EngineSettings
from s3stream.stream import Stream
from s3stream.tail_cache import TailCache

_MAX_RELOADS = 4
_MAX_AHEAD_ROWS = 8
"""Rows of one read-ahead: with many small rows its reach is bounded by requests, not by bytes."""
_EVERYTHING = 1 << 62


class Reader:
    """Reads of all streams of an engine."""

    def __init__(
        self,
        *,
        tail: TailCache,
        details: StreamDetails,
        units: UnitMap,
        loader: UnitLoader,
        cache: BlockCache,
        settings: EngineSettings,
        metrics: EngineMetrics,
    ) -> None:
        self._tail, self._details, self._units = tail, details, units
        self._loader, self._cache = loader, cache
        self._settings, self._metrics = settings, metrics
        self.times = TimestampLookup(self, tail, details, units)

    def read_hot(self, stream: Stream, offset: int, max_bytes: int, below: int) -> list[memoryview] | None:
        """From the tail cache alone; None when it does not hold `offset`."""
        if stream.gone is not None or not stream.start_offset <= offset <= stream.next_offset:
            return None
        if offset >= below or offset == stream.next_offset:
            return []
        batches = self._tail.read(stream.stream_id, offset, max_bytes, below)
        if batches is not None:
            self._metrics.hot_reads += 1
        return batches

    async def read(self, stream: Stream, offset: int, max_bytes: int, below: int) -> list[memoryview]:
        """See `Stream.read`."""
        stream.check_readable(offset)
        hot = self.read_hot(stream, offset, max_bytes, below)
        if hot is not None:
            return hot
        self._metrics.cold_reads += 1
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(self._settings.cold_read_timeout_ms / 1000):
                return await self._read_cold(stream, offset, max_bytes, below)
        except TimeoutError:
            raise Retry(f"a cold read took longer than {self._settings.cold_read_timeout_ms} ms") from None
        finally:
            self._metrics.cold_read_seconds.observe(loop.time() - began_s)

    async def _read_cold(self, stream: Stream, offset: int, max_bytes: int, below: int) -> list[memoryview]:
        reader, sequential = self._details.of(stream.stream_id).readers.at(offset)
        taken: list[memoryview] = []
        room, at = max_bytes, offset
        while room > 0 and at < below:
            if at >= stream.uploaded_end:
                hot = self._tail.read(stream.stream_id, at, room, below)
                if taken and hot and len(hot[0]) > room:
                    break
                taken.extend(hot or [])
                break
            piece = self._cached_piece(stream, at, sequential)
            if piece is None:
                if taken:
                    break  # what is here is answered now; the rest is on its way or will be asked for
                unit, block = await self.load_at(stream, at, self._settings.read_ahead_min_bytes)
                stream.check_readable(offset)
            else:
                unit, block = piece
            batches = block.batches.take(at, room, below)
            if taken and batches and len(batches[0]) > room:
                break
            if not batches and block.batches.first_at_or_after(at) < len(block.batches):
                break  # the next batch ends above `below`
            taken.extend(batches)
            room -= sum(map(len, batches))
            number = block.batches.first_at_or_after(at) + len(batches)
            at = unit.end_offset if number >= len(block.batches) else block.batches.starts[number]
        reader.next_offset = at
        if sequential and taken and at < stream.uploaded_end:
            self._read_ahead(stream, reader, at)
        return taken

    def _cached_piece(self, stream: Stream, offset: int, sequential: bool) -> tuple[Unit, CachedBlock] | None:
        """The unit that holds `offset`, if its row, its place and its block are all in memory."""
        row = self._details.known_row_at(stream.stream_id, offset)
        units = self._units.known(row) if row is not None else None
        if not units:
            return None
        number = unit_at(units, offset)
        if number == len(units):
            return None
        unit = units[number]
        block = self._cache.get(unit.key, entering=not sequential or offset <= unit.start_offset)
        if block is None:
            return None
        self._metrics.block_cache_hits += 1
        return unit, block

    async def load_at(self, stream: Stream, offset: int, size_bytes: int) -> tuple[Unit, CachedBlock]:
        """The first unit with data at or after `offset`, which is below the uploaded end; about `size_bytes` come with
        it. Rows and units that turn out to be empty there are passed over."""
        reloads = 0
        at = offset
        while True:
            stream.check_readable(offset)
            row = await self._details.row_at(stream, at, fresh=reloads > 0)
            if row is None or row.start_offset > at:
                # A hole in the rows: the start moved, or they changed while they were read.
                what = f"no range of stream {stream.stream_id} holds offset {at}"
                reloads = await self._next_reload(stream, reloads, what)
                continue
            try:
                units = await self._units.of(row)
                number = unit_at(units, at)
                if number == len(units):
                    at = row.end_offset
                    continue
                unit = units[number]
                block = self._cache.get(unit.key, entering=True)
                if block is None:
                    self._metrics.block_cache_misses += 1
                    block = await self._loader.load(row, span_of(units, number, size_bytes))
                    block.entered, block.reader = True, None
            except NotFound as error:
                self._units.forget(row)
                reloads = await self._next_reload(stream, reloads, str(error))
                continue
            if block.batches.first_at_or_after(at) == len(block.batches):
                at = unit.end_offset
                if at < stream.uploaded_end:
                    continue
            return unit, block

    async def _next_reload(self, stream: Stream, reloads: int, what: str) -> int:
        """Count one more reload, after a look whether a trim explains what was found."""
        self._metrics.read_retries += 1
        stream.move_start(await self._details.start_offset(stream))
        if reloads >= _MAX_RELOADS:
            raise Corrupt(f"{what}, and that stays so after {reloads} reloads of its rows")
        return reloads + 1

    def _read_ahead(self, stream: Stream, reader: ReadAhead, offset: int) -> None:
        """Start to load one window beyond what is read ahead already, once the reader is past its trigger."""
        if offset < reader.trigger_offset:
            return
        begin = max(offset, reader.ahead_until)
        at, left, rows = begin, reader.window_bytes, 0
        while left > 0 and at < stream.uploaded_end and rows < _MAX_AHEAD_ROWS:
            row = self._details.known_row_at(stream.stream_id, at)
            units = self._units.known(row) if row is not None else None
            if row is None or units is None:
                break  # it takes a request to know more: the reader makes it when it gets there
            number = unit_at(units, at)
            span: Sequence[Unit] = span_of(units, number, left) if number < len(units) else ()
            if span and not self._loader.read_ahead(row, span, reader):
                break
            left -= sum(unit.size_bytes for unit in span)
            at = span[-1].end_offset if span else row.end_offset
            rows += 1
        if at > begin:
            reader.asked(begin, at)

    async def load_state(self, stream: Stream) -> tuple[bytes | None, list[memoryview]]:
        """See `Stream.load_state`: state and tail belong to the same instant."""
        while True:
            if stream.gone is not None:
                raise stream.gone
            end_offset = stream.uploaded_end
            state = await self._details.committed_state(stream)
            if stream.uploaded_end == end_offset:
                return state, self._unuploaded(stream)

    def _unuploaded(self, stream: Stream) -> list[memoryview]:
        held = self._tail.held(stream.stream_id)
        if held is None or held[1] <= stream.uploaded_end:
            return []
        # After a trim past the uploaded end the batches may begin behind it.
        begin = max(stream.uploaded_end, held[0])
        return self._tail.take_for_upload(stream.stream_id, begin, held[1], _EVERYTHING).views
