"""Block cache, byte budget, batch walk, row window: bounded, and right at their edges."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3stream.batch_walk import BatchIndex, walk
from s3stream.block_cache import BlockCache, BlockKey, CachedBlock
from s3stream.details import Rows
from s3stream.errors import Corrupt
from s3stream.meta.rows import RangeRow
from s3stream.metrics import EngineMetrics
from s3stream.read_ahead import ReadAhead
from s3stream.read_budget import ByteBudget
from tests.unit.s3stream.engine.world import make_batch


def _block(size: int = 1000, reader: ReadAhead | None = None) -> CachedBlock:
    return CachedBlock(BatchIndex(make_batch(0, 1, 0, size)), reader)


def test_a_scan_does_not_evict_blocks_that_two_readers_entered() -> None:
    cache = BlockCache(20_000, EngineMetrics())
    shared = BlockKey(1, 0)
    cache.put(shared, _block())
    assert cache.get(shared, entering=True)
    assert cache.get(shared, entering=True)
    for number in range(200):
        key = BlockKey(2, number)
        cache.put(key, _block())
        cache.get(key, entering=True)
        cache.get(key, entering=False)  # the same reader goes on inside the block
    assert shared in cache
    assert BlockKey(2, 0) not in cache
    assert cache.bytes_used <= 20_000


def test_a_promoted_block_does_not_keep_what_it_came_with_alive() -> None:
    batch = bytes(make_batch(0, 1, 0, 1000))
    fetched = bytes(100) + batch + bytes(100_000)
    cache, key = BlockCache(20_000, EngineMetrics()), BlockKey(1, 0)
    cache.put(key, CachedBlock(BatchIndex(memoryview(fetched)[100 : 100 + len(batch)]), None))
    for entered in (fetched, fetched, batch):  # by nobody, by one reader, by two
        block = cache.get(key, entering=False)
        assert block is not None
        assert block.batches.payload.obj == entered
        assert bytes(block.batches.batch(0)) == batch
        cache.get(key, entering=True)


def test_blocks_leave_in_the_order_in_which_they_came() -> None:
    cache = BlockCache(6_000, EngineMetrics())
    for number in range(4):
        cache.put(BlockKey(1, number), _block())
    cache.get(BlockKey(1, 0), entering=True)  # its neighbours in the GET go with it: nothing keeps their memory
    for number in range(4, 6):
        cache.put(BlockKey(1, number), _block())
    assert [key.position for key in cache._probation] == [2, 3, 4, 5]


def test_a_block_evicted_unread_halves_its_readers_window() -> None:
    metrics = EngineMetrics()
    cache = BlockCache(3_000, metrics)
    reader = ReadAhead(0, 100, 1_000)
    reader.window_bytes = 800
    cache.put(BlockKey(1, 0), _block(1000, reader))
    cache.put(BlockKey(1, 1), _block(1000))
    cache.put(BlockKey(1, 2), _block(1000))
    assert (reader.window_bytes, metrics.read_ahead_wasted) == (400, 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(61, 2000), st.booleans()), max_size=120))
def test_the_cache_never_exceeds_its_bytes(steps: list[tuple[int, int, bool]]) -> None:
    cache = BlockCache(6_000, EngineMetrics())
    for number, size, put in steps:
        if put:
            cache.put(BlockKey(number, 0), _block(size))
        else:
            cache.get(BlockKey(number, 0), entering=size % 2 == 0)
        held = [*cache._probation.values(), *cache._protected.values()]
        assert cache.bytes_used == sum(block.cost_bytes for block in held) <= 6_000
        assert cache._protected_bytes == sum(block.cost_bytes for block in cache._protected.values())


async def test_the_budget_grants_in_order_and_never_more_than_it_has() -> None:
    budget = ByteBudget(100)
    await budget.acquire(60)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.acquire(size)
        order.append(name)

    large = asyncio.create_task(take("large", 90))
    await asyncio.sleep(0)
    small = asyncio.create_task(take("small", 10))
    await asyncio.sleep(0)
    assert order == []  # the small one does not overtake
    assert not budget.try_acquire(1)
    budget.release(60)
    await asyncio.gather(large, small)
    assert order == ["large", "small"]
    assert budget.in_use_bytes == 100
    budget.release(90)
    budget.release(10)
    await budget.acquire(1_000)  # above the whole budget: alone
    assert not budget.try_acquire(1)


async def test_a_cancelled_waiter_gives_its_place_and_its_bytes_back() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    first = asyncio.create_task(budget.acquire(8))
    second = asyncio.create_task(budget.acquire(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    budget.release(10)
    await second
    assert (budget.in_use_bytes, budget.waiting) == (2, 0)
    third = asyncio.create_task(budget.acquire(10))
    await asyncio.sleep(0)
    budget.release(2)  # granted, and cancelled before it runs
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    assert budget.in_use_bytes == 0


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(61, 300), st.integers(-1, 50)), min_size=1, max_size=20))
def test_batches_are_found_by_offset_and_taken_whole(shape: list[tuple[int, int, int]]) -> None:
    batches, end = [], 0
    for count, size, timestamp in shape:
        end += 1 if timestamp < 0 else 0  # a hole, as compaction leaves them
        batches.append((end, end + count, bytes(make_batch(end, count, timestamp, size))))
        end += count
    index = BatchIndex(memoryview(b"".join(batch for _, _, batch in batches)))
    for offset in range(end + 1):
        expected = [batch for _, batch_end, batch in batches if batch_end > offset]
        assert [bytes(b) for b in index.take(offset, 1 << 20, end)] == expected
        assert [bytes(b) for b in index.take(offset, 1, end)] == expected[:1]
    assert index.take(0, 1 << 20, batches[0][1] - 1) == []


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_corrupt_or_batches(data: bytes) -> None:
    try:
        spans = list(walk(memoryview(data)))
    except Corrupt:
        return
    assert sum(span.size_bytes for span in spans) == len(data)


@pytest.mark.parametrize("position", [8, 11, 16, 23])
def test_a_torn_or_damaged_header_is_corrupt(position: int) -> None:
    data = bytearray(make_batch(5, 2, 9))
    data[position] ^= 0xFF
    with pytest.raises(Corrupt):
        list(walk(memoryview(data)))


def _row(start: int, end: int) -> RangeRow:
    return RangeRow(1, start, end, start + 1, "k", 0, 100, 0, 0, end - start, 0, 0, 200)


def test_the_row_window_grows_behind_and_forgets_in_front() -> None:
    rows = Rows(4)
    rows.replace(0, [_row(0, 10), _row(10, 20)])
    assert rows.find(0) == rows.find(9) == _row(0, 10)
    assert rows.find(20) is None
    rows.replace(20, [_row(20, 30), _row(30, 40), _row(40, 50)])
    assert rows.find(5) is None  # fell out: five rows, four places
    assert rows.find(10) == _row(10, 20)
    assert rows.find(49) == _row(40, 50)
    assert rows.continues_with(_row(50, 60))
    assert not rows.continues_with(_row(60, 70))
    rows.replace(100, [_row(105, 110)])
    assert rows.find(100) == _row(105, 110)  # the first one after it; the caller sees that it begins later
    assert rows.find(49) is None
