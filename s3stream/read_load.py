"""Brings units from the store into the block cache: adjacent ones in one GET, each at most once at a time, within the
byte budget of the cold lane, every block verified.

A load runs in a task of its own: the reader that asked for it may be cancelled, others may wait for the same units.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from s3stream.batch_walk import BatchIndex
from s3stream.block_cache import BlockCache, BlockKey, CachedBlock
from s3stream.errors import Corrupt, Retry
from s3stream.meta.rows import RangeRow
from s3stream.metrics import EngineMetrics
from s3stream.object_format import FLAG_STATE, read_blocks
from s3stream.read_ahead import ReadAhead
from s3stream.read_budget import ByteBudget
from s3stream.read_store import StoreReads
from s3stream.read_units import Unit
from s3stream.supervisor import Supervisor

Flight = dict[Unit, "asyncio.Future[CachedBlock]"]
"""The units of one GET that nobody has been told of yet."""


class UnitLoader:
    """Owns what is on its way from the store."""

    def __init__(
        self,
        store_reads: StoreReads,
        cache: BlockCache,
        budget: ByteBudget,
        supervisor: Supervisor,
        metrics: EngineMetrics,
    ) -> None:
        self._store_reads, self._cache, self._budget = store_reads, cache, budget
        self._supervisor, self._metrics = supervisor, metrics
        self._loading: dict[BlockKey, asyncio.Future[CachedBlock]] = {}

    def is_loading(self, key: BlockKey) -> bool:
        return key in self._loading

    async def load(self, row: RangeRow, units: Sequence[Unit]) -> CachedBlock:
        """The block of the first unit; the others, adjacent to it, come along as far as nobody else loads them.

        NotFound when the object is gone (the rows are old), Corrupt when a block does not verify.
        """
        under_way = self._loading.get(units[0].key)
        if under_way is None:
            under_way = self._start(row, self._free_of(units), None)
        return await asyncio.shield(under_way)

    def read_ahead(self, row: RangeRow, units: Sequence[Unit], reader: ReadAhead) -> bool:
        """Start loading units nobody has asked for yet; False when the budget has no room for that now."""
        wanted = self._free_of([unit for unit in units if unit.key not in self._cache])
        if not wanted:
            return True
        if not self._budget.try_acquire(_bytes_of(wanted)):
            return False
        self._start(row, wanted, reader)
        return True

    def _free_of(self, units: Sequence[Unit]) -> list[Unit]:
        """The units up to the first gap or the first one that is here or on its way."""
        free: list[Unit] = []
        for unit in units:
            adjacent = not free or free[-1].position + free[-1].size_bytes == unit.position
            if unit.key in self._loading or (free and unit.key in self._cache) or not adjacent:
                break
            free.append(unit)
        return free

    def _start(self, row: RangeRow, units: list[Unit], reader: ReadAhead | None) -> asyncio.Future[CachedBlock]:
        """`reader` is given for read-ahead; its bytes are acquired already."""
        loop = asyncio.get_running_loop()
        flight = {unit: loop.create_future() for unit in units}
        for unit, waiting in flight.items():
            self._loading[unit.key] = waiting
        self._supervisor.spawn(f"read of object {row.object_id}", self._run(row, units, flight, reader))
        return flight[units[0]]

    async def _run(self, row: RangeRow, units: list[Unit], flight: Flight, reader: ReadAhead | None) -> None:
        size_bytes = _bytes_of(units)
        try:
            if reader is None:
                await self._budget.acquire(size_bytes)
            try:
                await self._fetch(row, units, flight, reader)
            finally:
                self._budget.release(size_bytes)
        except Exception as error:  # noqa: BLE001 - whoever waits for a unit gets the error
            self._settle_rest(flight, error)
        finally:
            self._settle_rest(flight, Retry("the read was cancelled: the engine is closing"))

    async def _fetch(self, row: RangeRow, units: list[Unit], flight: Flight, reader: ReadAhead | None) -> None:
        try:
            await self._fetch_once(row, units, flight, reader)
        except Corrupt:
            # Once more: bytes go wrong on the way, too. What is wrong in the store stays wrong.
            self._metrics.corrupt_blocks += 1
            await self._fetch_once(row, units, flight, reader)

    async def _fetch_once(self, row: RangeRow, units: list[Unit], flight: Flight, reader: ReadAhead | None) -> None:
        begin = units[0].position
        end = units[-1].position + units[-1].size_bytes
        data = await self._store_reads.read_range(row.object_key, begin, end)
        for unit in units:
            waiting = flight.get(unit)
            if waiting is None:
                continue
            view = data[unit.position - begin : unit.position - begin + unit.size_bytes]
            block = _parse(view, row.stream_id, unit, reader)
            self._cache.put(unit.key, block)
            self._end_flight(flight, unit)
            if not waiting.done():
                waiting.set_result(block)
            await asyncio.sleep(0)

    def _end_flight(self, flight: Flight, unit: Unit) -> None:
        """The unit may be on its way again by now, for somebody else: only what is this flight's is taken down."""
        if self._loading.get(unit.key) is flight[unit]:
            del self._loading[unit.key]
        del flight[unit]

    def _settle_rest(self, flight: Flight, error: BaseException) -> None:
        for unit, waiting in list(flight.items()):
            self._end_flight(flight, unit)
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # nobody may be waiting, as in read-ahead


def _parse(view: memoryview, stream_id: int, unit: Unit, reader: ReadAhead | None) -> CachedBlock:
    """Verify every block of a unit. Where it is one block its batches stay where the GET put them (a copy is a tenth of
    the CPU of a cold read); the cache takes a copy of those that it keeps for longer than their neighbours."""
    blocks = [block for block in read_blocks(view, stream_id) if not block.flags & FLAG_STATE]
    payload = blocks[0].payload if len(blocks) == 1 else memoryview(b"".join(block.payload for block in blocks))
    batches = BatchIndex(payload)
    if not len(batches) or batches.starts[0] < unit.start_offset or batches.ends[-1] > unit.end_offset:
        raise Corrupt(f"unit {unit} of stream {stream_id} holds other offsets than its directory says")
    return CachedBlock(batches, reader)


def _bytes_of(units: Sequence[Unit]) -> int:
    return sum(unit.size_bytes for unit in units)
