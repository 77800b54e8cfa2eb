"""Streams: open, close, trim, delete and what their readers see."""

from __future__ import annotations

import pytest

from s3stream.errors import Fenced, NotFound
from s3stream.meta import MetaStore, create_streams_in, delete_streams_in
from s3stream.meta.rows import StreamRow
from s3stream.ports import Tx
from tests.contract.metadata.world import BROKER, World


async def test_create_is_idempotent_and_part_of_a_transaction(meta: MetaStore) -> None:
    async def command(tx: Tx) -> None:
        await create_streams_in(tx, [7, 8])
        await create_streams_in(tx, [8, 9])

    await meta.db.transact(command)
    assert await meta.stream_rows([9, 7, 8, 100]) == [StreamRow(id_, 0, 0, 0, 0) for id_ in (7, 8, 9)]


async def test_a_failed_command_leaves_nothing(meta: MetaStore) -> None:
    async def command(tx: Tx) -> None:
        await create_streams_in(tx, [7])
        raise LookupError("stop")

    with pytest.raises(LookupError):
        await meta.db.transact(command)
    assert await meta.stream_rows([7]) == []


async def test_open_raises_the_epoch_once_per_owner(world: World) -> None:
    meta = world.meta
    assert await meta.open_streams(BROKER, world.broker_epoch, [3, 1, 1, 99]) == [
        StreamRow(1, 1, 0, 0, 0),
        StreamRow(3, 1, 0, 0, 0),
    ]
    await world.register("second")
    rows = await meta.open_streams(BROKER, world.broker_epoch, [1])
    assert [row.stream_epoch for row in rows] == [2]
    assert await meta.open_streams(BROKER, world.broker_epoch, [1]) == rows
    other = await meta.register_broker(2, "other", 0)
    assert (await meta.open_streams(2, other, [1]))[0].stream_epoch == 3


async def test_close_and_open_again_raises_the_epoch(world: World) -> None:
    meta = world.meta
    assert await meta.close_streams(BROKER, world.broker_epoch, [1, 2]) == 2
    assert await meta.close_streams(BROKER, world.broker_epoch, [1, 2]) == 0
    other = await meta.register_broker(2, "other", 0)
    assert await meta.close_streams(2, other, [3]) == 0
    rows = await meta.open_streams(BROKER, world.broker_epoch, [1, 3])
    assert [(row.stream_id, row.stream_epoch) for row in rows] == [(1, 2), (3, 1)]


async def test_epoch_history(world: World) -> None:
    meta = world.meta
    assert await meta.epochs(1) == [(1, 0)]
    await world.register("second")
    await world.open([1])
    assert await meta.epochs(1) == [(2, 0)]  # the first epoch got no record
    await world.commit((1, 0, 10))
    await world.register("third")
    await meta.open_streams(BROKER, world.broker_epoch, [1], {1: 15, 2: 99})  # offsets 10 to 14 are in the WAL
    world.epochs[1] = 3
    assert await meta.epochs(1) == [(2, 0), (3, 15)]
    assert (await meta.stream_rows([1]))[0].end_offset == 10
    await world.commit((1, 10, 20))
    await world.register("fourth")
    await world.open([1])
    assert await meta.epochs(1) == [(2, 0), (3, 15), (4, 20)]
    await meta.trim_stream(1, 4, 15, 0)
    assert await meta.epochs(1) == [(3, 15), (4, 20)]
    await meta.trim_stream(1, 4, 18, 0)
    assert await meta.epochs(1) == [(3, 15), (4, 20)]
    assert await meta.epochs(99) == []


async def test_an_epoch_of_a_start_that_died_goes_with_what_it_had_found(world: World) -> None:
    meta = world.meta
    await world.commit((1, 0, 10))
    await world.register("second")
    await meta.open_streams(BROKER, world.broker_epoch, [1], {1: 15})  # the power fails before this is durable
    await world.register("third")
    await meta.open_streams(BROKER, world.broker_epoch, [1], {1: 12})
    assert await meta.epochs(1) == [(1, 0), (3, 12)]


async def test_ranges_are_found_by_offset(world: World) -> None:
    meta = world.meta
    for start in range(0, 50, 10):
        await world.commit((1, start, start + 10), (2, start, start + 10))
    spans = [(row.start_offset, row.end_offset) for row in await meta.range_rows(1, 0, 100)]
    assert spans == [(start, start + 10) for start in range(0, 50, 10)]
    assert [row.start_offset for row in await meta.range_rows(1, 19, 2)] == [10, 20]
    assert [row.start_offset for row in await meta.range_rows(1, 20, 2)] == [20, 30]
    assert await meta.range_rows(1, 50, 2) == []
    (last,) = await meta.range_rows(1, 49, 2)
    assert (last.start_offset, last.object_key) == (40, f"key-{last.object_id}")
    assert await meta.range_rows(3, 0, 2) == []
    await meta.trim_stream(1, 1, 25, 0)
    assert [row.start_offset for row in await meta.range_rows(1, 0, 2)] == [20, 30]


async def test_trim(world: World) -> None:
    meta = world.meta
    first, _ = await world.commit((1, 0, 10), (2, 0, 10))
    second, _ = await world.commit((1, 10, 20))
    assert await meta.trim_stream(1, 1, 9, 5) == 9
    assert await meta.trim_stream(1, 1, 4, 5) == 9  # never back
    assert (await meta.stream_rows([1]))[0] == StreamRow(1, 1, 9, 20, 200)
    assert await meta.trim_stream(1, 1, 20, 5) == 20
    before = await world.dump()
    assert await meta.trim_stream(1, 1, 20, 6) == 20
    assert await world.dump() == before
    assert (await meta.stream_rows([1]))[0] == StreamRow(1, 1, 20, 20, 0)
    assert await world.rows("SELECT object_id, refs, state, destroyed_ms FROM object ORDER BY object_id") == [
        (first, 1, 1, 0),
        (second, 0, 2, 5),
    ]
    with pytest.raises(Fenced, match="has epoch 1, the caller has 2"):
        await meta.trim_stream(1, 2, 30, 5)
    with pytest.raises(NotFound):
        await meta.trim_stream(99, 1, 30, 5)


async def test_delete(world: World) -> None:
    meta = world.meta
    shared, _ = await world.commit((1, 0, 10), (2, 0, 10))
    own, _ = await world.commit((1, 10, 20))
    assert await meta.delete_streams([1, 99], 8) == 1
    assert await meta.stream_rows([1]) == []
    assert await meta.epochs(1) == []
    assert await meta.range_rows(1, 0, 10) == []
    assert await world.rows("SELECT object_id, refs, state, destroyed_ms FROM object ORDER BY object_id") == [
        (shared, 1, 1, 0),
        (own, 0, 2, 8),
    ]
    before = await world.dump()
    assert await meta.db.transact(delete_streams_in, [1, 99], 9) == 0
    assert await world.dump() == before
    assert await meta.delete_streams([2], 10) == 1
    assert (await world.rows("SELECT state FROM object WHERE object_id = $1", shared)) == [(2,)]


async def test_ten_thousand_streams_open_in_one_transaction(world: World) -> None:
    ids = list(await world.meta.allocate_ids("stream", 10_000))
    await world.meta.create_streams(ids)
    rows = await world.meta.open_streams(BROKER, world.broker_epoch, ids)
    assert [row.stream_id for row in rows] == ids
    assert all(row.stream_epoch == 1 for row in rows)
    assert await world.meta.delete_streams(ids, 0) == 10_000
