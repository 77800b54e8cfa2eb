"""The engine on every set of adapters: write, crash, read, upload, trim, delete, restart at every point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from s3stream.errors import OffsetOutOfRange
from s3stream.stream import Stream
from tests.contract.engine.adapters import FolderWorld, MemoryWorld
from tests.unit.s3stream.engine.world import append, append_durably, read_all


@pytest.fixture(params=["memory", "folder"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryWorld]:
    world = MemoryWorld() if request.param == "memory" else FolderWorld(tmp_path)
    await world.start()
    yield world
    await world.close()


async def reopen(world: MemoryWorld, stream_id: int) -> Stream:
    (stream,) = await world.engine.open_streams([stream_id])
    return stream


async def test_acknowledged_batches_survive_crashes_before_and_after_their_upload(world: MemoryWorld) -> None:
    (stream,) = await world.create(1)
    written: list[bytes] = []
    for round_number in range(4):
        written += [await append_durably(stream, 2, n, 500) for n in range(10)]
        if round_number % 2:
            await world.engine.flush()
        report = await world.restart()
        assert report.survivors == (10 if round_number % 2 == 0 else 0)
        stream = await reopen(world, 1)
        assert stream.next_offset == stream.durable_end == 2 * len(written)
        assert await read_all(stream) == written
    world.engine.evict(1 << 30)
    assert await read_all(stream, 100_000) == written


async def test_a_crash_during_an_upload_loses_and_doubles_nothing(world: MemoryWorld) -> None:
    (stream,) = await world.create(1)
    written = [await append_durably(stream, 1, n, 900) for n in range(50)]
    commit = world.meta.commit_objects

    applied = asyncio.Event()

    async def commit_and_hang(arguments: object) -> object:
        await commit(arguments)
        applied.set()
        return await asyncio.Event().wait()

    world.meta.commit_objects = commit_and_hang
    world.supervisor.spawn("flush", world.engine.flush())
    await asyncio.wait_for(applied.wait(), 5)
    world.meta.commit_objects = commit
    report = await world.restart()
    assert report.survivors == 0
    stream = await reopen(world, 1)
    assert stream.uploaded_end == 50
    assert await read_all(stream) == written


async def test_trim_is_durable_and_dead_objects_leave_the_bucket(world: MemoryWorld) -> None:
    (stream,) = await world.create(1)
    written = []
    for _ in range(3):
        written += [await append_durably(stream, 1, n, 900) for n in range(40)]
        await world.engine.flush()
    await stream.trim(85)
    await world.restart()
    stream = await reopen(world, 1)
    assert stream.start_offset == 85
    with pytest.raises(OffsetOutOfRange):
        await stream.read(84, 10_000, 120)
    assert await read_all(stream) == written[85:]
    assert await world.engine.garbage.run_once() == 2
    assert len([info async for page in world.store.list("") for info in page]) == 1


async def test_a_deleted_stream_is_gone_after_a_restart_and_frees_the_wal(world: MemoryWorld) -> None:
    first, second = await world.create(1, 2)
    for _ in range(20):
        await append_durably(first, 1, 0, 2000)
    kept = [await append_durably(second, 1, 0, 500) for _ in range(3)]
    await world.meta.delete_streams([1], world.clock.now_ms())
    await world.engine.delete_streams([1])
    report = await world.restart()
    assert report.survivors == 3
    assert await world.engine.open_streams([1]) == []
    assert await read_all(await reopen(world, 2)) == kept


async def test_back_pressure_ends_when_uploads_make_room(world: MemoryWorld) -> None:
    (stream,) = await world.create(1)
    appended, refusals = 0, 0
    while appended < 3_000_000:  # more than WAL and tail hold
        if world.engine.admit(8_000):
            append(stream, 1, 0, 8_000)
            appended += 8_000
            continue
        refusals += 1
        relieved = asyncio.get_running_loop().create_future()
        world.engine.when_relieved(lambda relieved=relieved: relieved.done() or relieved.set_result(None))
        await asyncio.wait_for(relieved, 10)
    assert refusals > 0
    assert world.engine.tail_bytes <= world.settings.tail_max_bytes
    assert world.crashes == []


async def test_a_clean_close_leaves_nothing_to_recover(world: MemoryWorld) -> None:
    (stream,) = await world.create(1)
    written = [await append_durably(stream, 1, n, 300) for n in range(10)]
    outcomes: list[BaseException | None] = []
    written.extend(bytes(append(stream, 1, 0, 300, outcomes.append)) for _ in range(5))
    await world.engine.close(upload=True)
    assert outcomes == [None] * 5
    await world.crash()
    report = await world.start()
    assert (report.survivors, report.frames) == (0, 0)
    assert await read_all(await reopen(world, 1)) == written
