"""What retention may drop, from rows alone."""

from __future__ import annotations

import pytest

from s3stream.errors import Invalid
from s3stream.meta.rows import RetentionLimit
from tests.contract.metadata.world import World


async def fill(world: World, stream_id: int, *stamps: int) -> None:
    """Ranges of ten offsets and 100 bytes with these newest times."""
    start = 0
    for stamp in stamps:
        (object_id,) = await world.prepare()
        run = world.run(stream_id, start, start + 10, object_id, max_timestamp_ms=stamp)
        await world.meta.commit_objects(world.commit_of([object_id], [run]))
        start += 10


@pytest.mark.parametrize(("drop_before_ms", "expected"), [
    (99, []), (100, []), (101, [(1, 10)]), (300, [(1, 20)]), (301, [(1, 30)]), (10_000, [(1, 40)]), (None, []),
])  # fmt: skip
async def test_by_time(world: World, drop_before_ms: int | None, expected: list[tuple[int, int]]) -> None:
    await fill(world, 1, 100, 200, 300, 400)
    assert await world.meta.retention_candidates([RetentionLimit(1, drop_before_ms, None)]) == expected


async def test_a_younger_range_protects_those_behind_it(world: World) -> None:
    await fill(world, 1, 100, 500, 200)
    assert await world.meta.retention_candidates([RetentionLimit(1, 300, None)]) == [(1, 10)]


@pytest.mark.parametrize(("keep_bytes", "expected"), [
    (400, []), (301, []), (300, [(1, 10)]), (250, [(1, 10)]), (199, [(1, 20)]), (1, [(1, 30)]), (0, [(1, 40)]),
])  # fmt: skip
async def test_by_size(world: World, keep_bytes: int, expected: list[tuple[int, int]]) -> None:
    await fill(world, 1, 100, 200, 300, 400)
    assert await world.meta.retention_candidates([RetentionLimit(1, None, keep_bytes)]) == expected


async def test_ranges_without_times_count_by_their_commit(world: World) -> None:
    await fill(world, 1, -1)
    assert await world.meta.retention_candidates([RetentionLimit(1, world.now_ms, None)]) == []
    assert await world.meta.retention_candidates([RetentionLimit(1, world.now_ms + 1, None)]) == [(1, 10)]


async def test_many_streams_at_once(world: World) -> None:
    await fill(world, 1, 100, 200)
    await fill(world, 3, 100)
    limits = [RetentionLimit(stream_id, 150, None) for stream_id in (3, 1, 2, 99)]
    assert await world.meta.retention_candidates(limits) == [(1, 10), (3, 10)]
    await world.meta.trim_stream(1, 1, 10, 0)
    assert await world.meta.retention_candidates(limits) == [(3, 10)]
    with pytest.raises(Invalid):
        await world.meta.retention_candidates([limits[0], limits[0]])
