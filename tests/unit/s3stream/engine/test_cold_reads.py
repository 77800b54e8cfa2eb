"""Reads from objects: few requests, read-ahead, one flight per unit, changes under the reader, damage."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from s3stream.errors import Corrupt, NotFound, OffsetOutOfRange, Retry
from s3stream.settings import KIB
from s3stream.stream import Stream
from tests.unit.s3stream.engine.world import SETTINGS, World, append_durably, read_all


class SlowStore:
    """Counts, delays and tampers with GETs."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.gets: list[tuple[str, int, int]] = []
        self.gate: asyncio.Event | None = None
        self.flip_at: int | None = None
        self.flips = 0
        self.in_flight_bytes = self.peak_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        assert end is not None
        self.gets.append((key, start, end))
        self.in_flight_bytes += end - start
        self.peak_bytes = max(self.peak_bytes, self.in_flight_bytes)
        try:
            if self.gate is not None:
                await self.gate.wait()
            data: memoryview = await self._inner.get(key, start, end)
        finally:
            self.in_flight_bytes -= end - start
        if self.flip_at is not None and self.flips and start <= self.flip_at < end:
            self.flips -= 1
            changed = bytearray(data)
            changed[self.flip_at - start] ^= 1
            return memoryview(changed)
        return data


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.store = SlowStore(world.store)
    await world.start()
    yield world
    await world.close()


async def uploaded(world: World, stream_id: int = 1, batches: int = 60, size: int = 500) -> tuple[Stream, list[bytes]]:
    (stream,) = await world.create(stream_id)
    written = [await append_durably(stream, 1, number, size) for number in range(batches)]
    await world.engine.flush()
    world.engine.evict(1 << 30)
    world.store.gets.clear()
    return stream, written


async def test_a_small_run_of_a_shared_object_is_one_request_and_needs_no_index(world: World) -> None:
    await world.create(1, 2)
    for stream_id in (1, 2):
        (stream,) = await world.engine.open_streams([stream_id])
        for number in range(6):
            await append_durably(stream, 1, number, 500)
    await world.engine.flush()
    world.engine.evict(1 << 30)
    world.store.gets.clear()
    stream = world.engine.stream(2)
    assert stream is not None
    assert len(await read_all(stream)) == 6
    assert len(world.store.gets) == 1


async def test_a_large_run_is_read_through_its_index_and_ahead(world: World) -> None:
    stream, written = await uploaded(world, batches=60)
    assert await read_all(stream, 1_000) == written
    assert len(world.store.gets) <= 1 + 8  # the index, then spans that double from 4 KiB
    world.store.gets.clear()
    world.engine.blocks.clear()
    assert [bytes(b) for b in await stream.read(55, 600, 60)] == written[55:56]
    assert len(world.store.gets) == 1  # the index is cached; one span from the block that holds the offset
    assert world.store.gets[0][1] > 20_000


async def test_readers_of_one_unit_share_one_flight_and_survive_each_others_cancellation(world: World) -> None:
    stream, written = await uploaded(world, batches=6)
    world.store.gate = asyncio.Event()
    readers = [asyncio.create_task(stream.read(0, 10_000, 6)) for _ in range(5)]
    await asyncio.sleep(0.01)
    readers[0].cancel()
    world.store.gate.set()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all([bytes(b) for b in result] == written for result in results[1:] if not isinstance(result, BaseException))
    assert len(world.store.gets) == 1


async def test_the_cold_lane_keeps_within_its_bytes() -> None:
    world = World(dataclasses.replace(SETTINGS, cold_read_bytes=10 * KIB, whole_run_bytes=8 * KIB))
    world.store = SlowStore(world.store)
    await world.start()
    streams = await world.create(*range(1, 9))
    for stream in streams:
        for _ in range(12):
            await append_durably(stream, 1, 0, 500)
    await world.engine.flush()
    world.engine.evict(1 << 30)
    world.store.gate = asyncio.Event()
    world.store.peak_bytes = 0
    reads = [asyncio.create_task(stream.read(0, 10_000, 12)) for stream in streams]
    await asyncio.sleep(0.01)
    assert world.engine.budget.waiting == 7
    world.store.gate.set()
    assert all(len(batches) == 12 for batches in await asyncio.gather(*reads))
    assert world.store.peak_bytes <= 10 * KIB
    assert world.engine.budget.in_use_bytes == 0
    await world.close()


async def test_a_damaged_block_is_never_served(world: World) -> None:
    stream, written = await uploaded(world, batches=6)
    world.store.flip_at, world.store.flips = 200, 1
    assert [bytes(b) for b in await stream.read(0, 10_000, 6)] == written  # went wrong on the way: asked again
    world.engine.blocks.clear()
    world.store.flips = 1 << 30
    with pytest.raises(Corrupt):
        await stream.read(0, 10_000, 6)
    assert world.engine.metrics.corrupt_blocks >= 2
    world.store.flips = 0
    assert [bytes(b) for b in await stream.read(0, 10_000, 6)] == written


async def test_an_object_that_moved_is_found_again_by_its_rows(world: World) -> None:
    """What compaction by another broker looks like: same range, other object, the old one gone."""
    stream, written = await uploaded(world, batches=6)
    assert len(await stream.read(0, 100, 6)) == 1  # the rows are in memory now
    world.engine.blocks.clear()
    rows = await world.meta.range_rows(1, 0, 10)
    old_key = rows[0].object_key
    body = await world.store.get(old_key, 0, rows[0].object_size_bytes)
    await world.store.put("moved", [body])
    await world.store.delete([old_key])

    async def move(tx: Any) -> None:
        await tx.execute("UPDATE object SET object_key = 'moved'")

    await world.meta.db.transact(move)
    assert [bytes(b) for b in await stream.read(0, 10_000, 6)] == written


async def test_an_object_that_is_lost_is_an_error_not_an_empty_answer(world: World) -> None:
    stream, _ = await uploaded(world, batches=6)
    keys = [info.key async for page in world.store.list("") for info in page]
    await world.store.delete(keys)
    with pytest.raises((Corrupt, NotFound)):
        await stream.read(0, 10_000, 6)


async def test_a_trim_behind_the_readers_back_is_out_of_range(world: World) -> None:
    """The metadata were trimmed, memory has not heard of it yet."""
    stream, _ = await uploaded(world, batches=6)
    await append_durably(stream)
    await world.engine.flush()
    world.engine.evict(1 << 30)
    await world.meta.trim_stream(1, stream.epoch, 6, 0)
    with pytest.raises(OffsetOutOfRange):
        await stream.read(0, 10_000, 6)
    assert stream.start_offset == 6


async def test_a_trim_during_a_read_is_seen(world: World) -> None:
    stream, _ = await uploaded(world, batches=6)
    world.store.gate = asyncio.Event()
    read = asyncio.create_task(stream.read(0, 10_000, 6))
    await asyncio.sleep(0.01)
    await stream.trim(3)
    world.store.gate.set()
    with pytest.raises(OffsetOutOfRange):
        await read


async def test_a_store_that_stays_away_is_a_retriable_error_in_bounded_time() -> None:
    world = World(dataclasses.replace(SETTINGS, cold_read_timeout_ms=50))
    world.store = SlowStore(world.store)
    await world.start()
    stream, written = await uploaded(world, batches=6)
    world.store.gate = asyncio.Event()
    with pytest.raises(Retry):
        await stream.read(0, 10_000, 6)
    world.store.gate.set()
    await asyncio.sleep(0.01)
    assert [bytes(b) for b in await stream.read(0, 10_000, 6)] == written
    await world.close()


async def test_nothing_above_the_limit_is_returned(world: World) -> None:
    stream, written = await uploaded(world, batches=6)
    assert [bytes(b) for b in await stream.read(0, 10_000, 3)] == written[:3]
    assert await stream.read(3, 10_000, 3) == []
    tail = await append_durably(stream, 2)
    assert [bytes(b) for b in await stream.read(5, 10_000, 8)] == [written[5], tail]
    assert await stream.read(6, 10_000, 7) == []  # the batch ends at 8


async def test_timestamps_are_found_in_objects_and_in_the_tail(world: World) -> None:
    (stream,) = await world.create(1)
    stamps = [5, 50, 10, 10, 70, 20]
    for stamp in stamps[:3]:
        await append_durably(stream, 2, stamp)
    await world.engine.flush()
    for stamp in stamps[3:]:
        await append_durably(stream, 2, stamp)
    world.engine.evict(1 << 30)
    for wanted, offset in [(0, 0), (5, 0), (6, 2), (50, 2), (51, 8), (70, 8)]:
        hit = await stream.offset_for_timestamp(wanted)
        assert hit is not None
        assert hit.offset == offset
    assert await stream.offset_for_timestamp(71) is None
    hit = await stream.offset_for_timestamp(6, from_offset=4)
    assert hit is not None
    assert (hit.offset, hit.timestamp_ms) == (4, 10)
    newest = await stream.max_timestamp()
    assert newest is not None
    assert (newest.timestamp_ms, newest.offset) == (70, 8)
    await stream.trim(9)  # inside the batch: it still holds offset 9
    newest = await stream.max_timestamp()
    assert newest is not None
    assert newest.offset == 8
    await stream.trim(10)
    newest = await stream.max_timestamp()
    assert newest is not None
    assert (newest.timestamp_ms, newest.offset) == (20, 10)
