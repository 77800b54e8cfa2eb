"""The engine on memory adapters: append, acknowledge, read, upload, trim, delete, restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from s3stream.errors import Fatal, Invalid, OffsetOutOfRange
from s3stream.wal.device_memory import MemoryWalDevice
from s3stream.wal.file_wal import FileWal, FileWalSettings
from tests.unit.s3stream.engine.world import World, append, append_durably, read_all


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    await world.close()


async def test_an_append_is_acknowledged_and_readable_hot(world: World) -> None:
    (stream,) = await world.create(1)
    first = await append_durably(stream, 3)
    second = await append_durably(stream, 2)
    assert (stream.next_offset, stream.durable_end, stream.uploaded_end) == (5, 5, 0)
    assert stream.read_hot(0, 10_000, 5) == [first, second]
    assert stream.read_hot(4, 10_000, 5) == [second]
    assert stream.read_hot(5, 10_000, 5) == []
    assert await stream.read(1, 1, 5) == [first]


async def test_uploaded_data_reads_the_same_from_objects(world: World) -> None:
    streams = await world.create(1, 2, 3)
    written = {s.stream_id: [await append_durably(s, 1 + n % 3, n, 300 + 37 * n) for n in range(40)] for s in streams}
    await world.engine.flush()
    assert world.engine.tail_bytes == 0
    world.engine.tail.evict(1 << 30)
    for stream in streams:
        assert stream.uploaded_end == stream.durable_end
        assert stream.read_hot(0, 100, 100) is None
        assert await read_all(stream) == written[stream.stream_id]
        assert await read_all(stream, 1 << 20) == written[stream.stream_id]
    assert world.engine.metrics.cold_reads > 0


async def test_everything_acknowledged_survives_a_crash(world: World) -> None:
    (stream,) = await world.create(7)
    written = [await append_durably(stream, 2) for _ in range(10)]
    await world.engine.flush()
    written += [await append_durably(stream, 2) for _ in range(10)]
    epoch = stream.epoch
    report = await world.restart()
    assert (report.frames, report.survivors) == (10, 10)
    (stream,) = await world.engine.open_streams([7])
    assert (stream.uploaded_end, stream.durable_end, stream.next_offset) == (20, 40, 40)
    assert stream.epoch == epoch + 1
    assert await stream.epochs() == [(epoch, 0), (epoch + 1, 40)]
    assert await read_all(stream) == written


@pytest.mark.parametrize("order", [(1, 0), (0, 0), (1,)])
async def test_a_wal_that_reports_other_appends_than_the_next_is_not_believed(
    world: World, order: tuple[int, ...]
) -> None:
    (stream,) = await world.create(1)
    world.wal.hold = True
    told: list[BaseException | None] = []
    append(stream, done=told.append)
    append(stream, done=told.append)
    entries = [entry for _, entry in world.wal._queue]
    world.wal._on_durable([entries[number] for number in order])
    assert [type(error) for error in told] == [Fatal, Fatal]
    assert isinstance(world.engine.failure, Fatal)


async def test_a_wal_failure_ends_every_acknowledgement(world: World) -> None:
    (stream,) = await world.create(1)
    await append_durably(stream)
    world.wal.fail_next = OSError("disk gone")
    outcomes: list[BaseException | None] = []
    append(stream, done=outcomes.append)
    stream.when_durable(2, outcomes.append)
    await asyncio.sleep(0.01)
    assert [type(o) for o in outcomes] == [Fatal, Fatal]
    assert not world.engine.admit(1)
    append(stream, done=outcomes.append)
    await asyncio.sleep(0)
    assert isinstance(outcomes[2], Fatal)
    assert isinstance(world.crashes[0][1], Fatal)


async def test_reads_outside_of_the_stream_are_refused(world: World) -> None:
    (stream,) = await world.create(1)
    for _ in range(4):
        await append_durably(stream)
    await stream.trim(2)
    with pytest.raises(OffsetOutOfRange):
        await stream.read(1, 100, 4)
    with pytest.raises(OffsetOutOfRange):
        await stream.read(5, 100, 4)
    assert len(await stream.read(2, 10_000, 4)) == 2


async def test_a_deleted_stream_answers_nothing_and_frees_its_tail(world: World) -> None:
    first, second = await world.create(1, 2)
    await append_durably(first)
    kept = await append_durably(second)
    waiting: list[BaseException | None] = []
    world.wal.hold = True
    append(first)
    first.when_durable(2, waiting.append)
    await world.meta.delete_streams([1], world.clock.now_ms())
    await world.engine.delete_streams([1])
    assert isinstance(waiting[0], Invalid)
    with pytest.raises(Invalid):
        await first.read(0, 100, 1)
    assert world.engine.stream(1) is None
    world.wal.hold = False
    world.wal.sync()
    await world.engine.flush()
    await world.restart()
    assert await world.engine.open_streams([1]) == []
    (second,) = await world.engine.open_streams([2])
    assert await read_all(second) == [kept]


class TakenDevice(MemoryWalDevice):
    """Cannot list its segments; says whether it was let go of."""

    closed = False

    async def list_segments(self) -> Sequence[int]:
        raise Fatal("the disk does not answer")

    async def close(self) -> None:
        self.closed = True


async def test_a_start_that_fails_lets_go_of_the_wal(world: World) -> None:
    await world.crash()
    device = TakenDevice(65536)
    settings = FileWalSettings(capacity_bytes=4 * 65536)
    world.make_wal = lambda *callbacks: FileWal(device, settings, *callbacks)  # type: ignore[method-assign]
    with pytest.raises(Fatal, match="does not answer"):
        await world.start()
    assert device.closed
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
