"""The units in which runs are read and cached: a small run whole, a large one by blocks found in the object's index."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from s3stream.block_cache import BlockKey
from s3stream.errors import Corrupt
from s3stream.meta.rows import RangeRow
from s3stream.object_format import FLAG_STATE, FOOTER_SIZE_BYTES, IndexEntry, parse_footer, parse_index
from s3stream.settings import EngineSettings

_TAIL_GUESS_BYTES = 64 * 1024
"""First read of an object's end: footer and, for up to 1,400 blocks, the whole index in one request."""
_UNIT_COST_BYTES = 200


class Unit(NamedTuple):
    """One or more whole blocks of one stream at `[position, position + size_bytes)`; covers `[start, end)`."""

    key: BlockKey
    start_offset: int
    end_offset: int
    position: int
    size_bytes: int
    max_timestamp_ms: int


ReadRange = Callable[[str, int, int], Awaitable[memoryview]]


class UnitMap:
    """Units of rows; the indexes of large runs are kept in an LRU bounded by bytes."""

    def __init__(self, read_range: ReadRange, settings: EngineSettings) -> None:
        self._read_range, self._settings = read_range, settings
        self._indexes: OrderedDict[tuple[int, int], list[Unit]] = OrderedDict()
        self._indexed_units = 0

    def known(self, row: RangeRow) -> Sequence[Unit] | None:
        """The units of a row without reading anything; None when the index has to be read first."""
        if row.size_bytes <= self._settings.whole_run_bytes:
            key = BlockKey(row.object_id, row.position)
            unit = Unit(key, row.start_offset, row.end_offset, row.position, row.size_bytes, row.max_timestamp_ms)
            return (unit,) if row.size_bytes else ()
        index_key = (row.object_id, row.stream_id)
        units = self._indexes.get(index_key)
        if units is not None:
            self._indexes.move_to_end(index_key)
        return units

    async def of(self, row: RangeRow) -> Sequence[Unit]:
        """The units of a row, in offset order."""
        known = self.known(row)
        if known is not None:
            return known
        units = _units_of(row, await self._read_index(row))
        index_key = (row.object_id, row.stream_id)
        if index_key not in self._indexes:
            self._indexes[index_key] = units
            self._indexed_units += len(units)
        while self._indexed_units * _UNIT_COST_BYTES > self._settings.index_cache_bytes and len(self._indexes) > 1:
            _, old = self._indexes.popitem(last=False)
            self._indexed_units -= len(old)
        return units

    def forget(self, row: RangeRow) -> None:
        """The object is gone."""
        units = self._indexes.pop((row.object_id, row.stream_id), None)
        if units is not None:
            self._indexed_units -= len(units)

    async def _read_index(self, row: RangeRow) -> list[IndexEntry]:
        size = row.object_size_bytes
        begin = max(0, size - _TAIL_GUESS_BYTES)
        tail = await self._read_range(row.object_key, begin, size)
        footer = parse_footer(tail, size)
        if footer.object_id != row.object_id:
            raise Corrupt(f"{row.object_key} holds object {footer.object_id}, expected {row.object_id}")
        if footer.index_position >= begin:
            index = tail[footer.index_position - begin : size - FOOTER_SIZE_BYTES - begin]
        else:
            index = await self._read_range(row.object_key, footer.index_position, size - FOOTER_SIZE_BYTES)
        return parse_index(index, footer)


def _units_of(row: RangeRow, entries: Sequence[IndexEntry]) -> list[Unit]:
    units = [
        Unit(
            BlockKey(row.object_id, entry.position),
            entry.base_offset,
            entry.base_offset + entry.offset_delta,
            entry.position,
            entry.size,
            entry.max_timestamp_ms,
        )
        for entry in entries
        if entry.stream_id == row.stream_id and not entry.flags & FLAG_STATE
    ]
    if sum(unit.size_bytes for unit in units) != row.size_bytes or units[0].position != row.position:
        raise Corrupt(f"the index of object {row.object_id} does not agree with the range row {row}")
    return units


def unit_at(units: Sequence[Unit], offset: int) -> int:
    """Number of the unit that holds `offset`, or of the first one after it; the count when none is."""
    number = bisect_right(units, offset, key=lambda unit: unit.start_offset) - 1
    if number < 0:
        return 0
    return number if units[number].end_offset > offset else number + 1


def span_of(units: Sequence[Unit], number: int, size_bytes: int) -> Sequence[Unit]:
    """Adjacent units from `number` on, at least one, as many as start within `size_bytes`."""
    begin = units[number].position
    end = number + 1
    while end < len(units) and units[end].position + units[end].size_bytes - begin <= size_bytes:
        end += 1
    return units[number:end]
