"""Retention and the removal of dead objects."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from s3stream.errors import OutcomeUnknown, Retry
from s3stream.retention import RetentionPolicy
from s3stream.stream import Stream
from tests.unit.s3stream.engine.world import SETTINGS, World, append, append_durably, read_all


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    await world.close()


async def upload(world: World, stream: Stream, batches: int, age_ms: int) -> list[bytes]:
    stamp = world.clock.now_ms() - age_ms
    written = [await append_durably(stream, 1, stamp, 500) for _ in range(batches)]
    await world.engine.flush()
    return written


async def keys(world: World) -> list[str]:
    return [info.key async for page in world.store.list("") for info in page]


async def test_old_runs_go_young_ones_stay(world: World) -> None:
    (stream,) = await world.create(1)
    await upload(world, stream, 4, 10_000)
    kept = await upload(world, stream, 4, 100)
    world.policies[1] = RetentionPolicy(5_000, None)
    assert world.engine.retention is not None
    assert await world.engine.retention.run_once() == 1
    assert stream.start_offset == 4
    assert await read_all(stream) == kept
    assert len(await keys(world)) == 2
    assert await world.engine.garbage.run_once() == 1
    assert len(await keys(world)) == 1
    assert await world.engine.retention.run_once() == 0


async def test_the_tail_goes_by_time_only_when_all_of_it_is_too_old(world: World) -> None:
    (stream,) = await world.create(1)
    await upload(world, stream, 4, 10_000)
    old = world.clock.now_ms() - 10_000
    await append_durably(stream, 1, old)
    await append_durably(stream, 1, world.clock.now_ms())
    world.policies[1] = RetentionPolicy(5_000, None)
    assert world.engine.retention is not None
    await world.engine.retention.run_once()
    assert stream.start_offset == 4
    world.clock.at_ms += 6_000
    await world.engine.retention.run_once()
    assert stream.start_offset == stream.durable_end == 6
    later = await append_durably(stream, 1, world.clock.now_ms())
    await world.engine.flush()
    assert await read_all(stream) == [later]


async def test_a_tail_that_is_not_all_durable_is_not_touched(world: World) -> None:
    (stream,) = await world.create(1)
    await append_durably(stream, 1, 1)
    world.wal.hold = True
    append(stream, 1, 1)
    world.policies[1] = RetentionPolicy(5_000, None)
    assert world.engine.retention is not None
    assert await world.engine.retention.run_once() == 0
    assert stream.start_offset == 0


async def test_the_oldest_runs_go_while_enough_stays(world: World) -> None:
    (stream,) = await world.create(1)
    for _ in range(4):
        await upload(world, stream, 10, 0)  # about 5,000 bytes each
    run_bytes = stream.committed_bytes // 4
    world.policies[1] = RetentionPolicy(None, 2 * run_bytes)
    assert world.engine.retention is not None
    await world.engine.retention.run_once()
    assert stream.start_offset == 20
    assert stream.committed_bytes == 2 * run_bytes
    for _ in range(11):
        await append_durably(stream, 1, 0, 500)  # the tail counts
    await world.engine.retention.run_once()
    assert stream.start_offset == 30


async def test_streams_without_limits_or_data_are_left_alone(world: World) -> None:
    first, second, third = await world.create(1, 2, 3)
    await upload(world, first, 2, 10**9)
    world.policies[2] = RetentionPolicy(1, 1)
    world.policies[3] = RetentionPolicy(None, None)
    await upload(world, third, 2, 10**9)
    assert world.engine.retention is not None
    assert await world.engine.retention.run_once() == 0
    assert (first.start_offset, second.start_offset, third.start_offset) == (0, 0, 0)


async def test_an_object_shared_with_a_live_stream_stays(world: World) -> None:
    first, second = await world.create(1, 2)
    await append_durably(first)
    kept = await append_durably(second)
    await world.engine.flush()
    await world.meta.delete_streams([1], world.clock.now_ms())
    await world.engine.delete_streams([1])
    assert await world.engine.garbage.run_once() == 0
    world.engine.evict(1 << 30)
    assert await read_all(second) == [kept]


async def test_a_dead_object_is_forgotten_only_after_the_store_removed_it(world: World) -> None:
    (stream,) = await world.create(1)
    await upload(world, stream, 2, 0)
    await world.meta.delete_streams([1], world.clock.now_ms())
    await world.engine.delete_streams([1])
    delete = world.store.delete

    async def refuse(keys: Sequence[str]) -> None:
        raise OutcomeUnknown("reply lost")

    world.store.delete = refuse
    with pytest.raises(OutcomeUnknown):
        await world.engine.garbage.run_once()
    assert sum((await world.meta.counts()).objects.values()) == 1
    world.store.delete = delete
    assert await world.engine.garbage.run_once() == 1
    assert sum((await world.meta.counts()).objects.values()) == 0
    assert await keys(world) == []


async def test_uploads_that_were_never_committed_leave_the_bucket(world: World) -> None:
    (stream,) = await world.create(1)
    await append_durably(stream)
    commit = world.meta.commit_objects

    tried = asyncio.Event()

    async def never(arguments: Any) -> None:
        tried.set()
        raise Retry("metadata are away")

    world.meta.commit_objects = never
    flush = world.supervisor.spawn("flush", world.engine.flush())
    await tried.wait()
    assert len(await keys(world)) == 1
    await world.crash()
    flush.cancel()
    world.meta.commit_objects = commit
    await world.start()
    assert await world.engine.garbage.run_once() == 0
    world.clock.at_ms += world.settings.prepare_ttl_ms + 1
    assert await world.engine.garbage.run_once() == 1
    assert await keys(world) == []


async def test_the_grace_is_kept() -> None:

    world = World(dataclasses.replace(SETTINGS, gc_grace_ms=1_000))
    await world.start()
    (stream,) = await world.create(1)
    await upload(world, stream, 2, 0)
    await stream.trim(2)
    await upload(world, stream, 1, 0)  # until then the state of the stream lies in the first object alone
    assert await world.engine.garbage.run_once() == 0
    world.clock.at_ms += 1_000
    assert await world.engine.garbage.run_once() == 1
    await world.close()
