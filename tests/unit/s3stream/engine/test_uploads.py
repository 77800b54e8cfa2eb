"""Uploads under every outcome of store and metadata: nothing acknowledged is dropped, doubled or trimmed too early."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from s3stream.errors import Corrupt, Fatal, Fenced, Invalid, OutcomeUnknown, Retry
from s3stream.object_format import KIND_STREAM, decode_state, parse_footer, read_block
from s3stream.settings import KIB
from s3stream.stream import Stream
from tests.unit.s3stream.engine.world import SETTINGS, World, append, append_durably, count_fold, read_all


class PuttingStore:
    """Runs `before(number, key, body)` for every put; what it raises is the put's outcome."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.puts: list[tuple[str, bytes]] = []
        self.before: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, key: str, body: Sequence[Any], *, if_absent: bool = False) -> None:
        self.puts.append((key, b"".join(body)))
        if self.before is not None:
            await self.before(len(self.puts), key, body)
        await self._inner.put(key, body, if_absent=if_absent)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.store = PuttingStore(world.store)
    await world.start()
    yield world
    await world.close()


async def filled(world: World, stream_id: int, batches: int, size: int = 500) -> tuple[Stream, list[bytes]]:
    (stream,) = await world.create(stream_id)
    return stream, [await append_durably(stream, 1, number, size) for number in range(batches)]


async def test_a_put_is_repeated_with_the_same_key_and_bytes(world: World) -> None:
    async def fail(number: int, key: str, body: Any) -> None:
        if number == 1:
            raise OutcomeUnknown("reply lost")
        if number == 2:
            raise Invalid("credentials refused")
        if number == 3:
            raise Retry("slow down")

    stream, written = await filled(world, 1, 5)
    world.store.before = fail
    await world.engine.flush()
    assert len(world.store.puts) == 4
    assert len(set(world.store.puts)) == 1
    assert world.engine.metrics.upload_failures == 3
    world.engine.evict(1 << 30)
    assert await read_all(stream) == written


async def test_a_put_that_arrives_late_changes_nothing(world: World) -> None:
    late: list[tuple[str, Any]] = []

    async def lose(number: int, key: str, body: Any) -> None:
        if number == 1:
            late.append((key, list(body)))
            raise OutcomeUnknown("on its way for a while")

    stream, written = await filled(world, 1, 5)
    world.store.before = lose
    await world.engine.flush()
    await world.store._inner.put(*late[0])
    world.engine.evict(1 << 30)
    assert await read_all(stream) == written


async def test_nothing_leaves_wal_or_tail_before_the_commit(world: World) -> None:
    stream, written = await filled(world, 1, 5)
    gate = asyncio.Event()

    async def wait(number: int, key: str, body: Any) -> None:
        await gate.wait()

    world.store.before = wait
    flush = asyncio.create_task(world.engine.flush())
    await asyncio.sleep(0.01)
    assert stream.uploaded_end == 0
    assert len(world.disk.frames) == 5
    assert world.engine.tail_bytes == sum(map(len, written))
    assert world.engine.evict(1 << 30) == 0
    gate.set()
    await flush
    assert stream.uploaded_end == 5
    assert world.disk.frames == []
    assert world.engine.tail_bytes == 0


async def test_only_durable_batches_are_uploaded_and_the_rest_keeps_the_wal(world: World) -> None:
    stream, _ = await filled(world, 1, 3)
    world.wal.hold = True
    append(stream)
    await world.engine.flush()
    assert (stream.uploaded_end, stream.durable_end, stream.next_offset) == (3, 3, 4)
    world.wal.sync()
    assert [frame.base_offset for frame in world.disk.frames] == [3]


async def test_large_streams_get_their_own_object_all_in_one_commit(world: World) -> None:
    await filled(world, 1, 4)
    large, written = await filled(world, 2, 50)
    await filled(world, 3, 4)
    await world.engine.flush()
    assert world.engine.metrics.uploads == 1
    assert len(world.store.puts) == 2
    kinds = sorted(parse_footer(body).kind for _, body in world.store.puts)
    assert kinds[-1] == KIND_STREAM
    world.engine.evict(1 << 30)
    assert await read_all(large) == written


async def test_each_run_carries_the_state_of_exactly_its_end(world: World) -> None:
    stream, written = await filled(world, 1, 7)
    await world.engine.flush()
    written += [await append_durably(stream, 2, 0, 500) for _ in range(5)]
    await world.engine.flush()
    rows = await world.meta.range_rows(1, 0, 10)
    done = 0
    for row, (_, body) in zip(rows, world.store.puts, strict=True):
        block = read_block(body[row.state_position : row.state_position + row.state_size], 1, row.end_offset)
        state, aborted = decode_state(block.payload)
        until = next(n for n in range(len(written) + 1) if sum(1 if m < 7 else 2 for m in range(n)) == row.end_offset)
        batches = [memoryview(batch) for batch in written[:until]]
        assert state == count_fold(None, batches).state
        assert aborted == list(count_fold(None, batches).aborted)[done:]
        done += len(aborted)
    tail = [await append_durably(stream) for _ in range(2)]
    for _ in range(2):  # from memory, then from the store
        state, batches_after = await stream.load_state()
        assert state == count_fold(None, [memoryview(batch) for batch in written]).state
        assert [bytes(b) for b in batches_after] == tail
        world.engine._details.forget(1)


async def test_an_upload_that_comes_after_its_ids_expired_starts_over(world: World) -> None:
    stream, written = await filled(world, 1, 5)

    async def expire(number: int, key: str, body: Any) -> None:
        if number == 1:
            world.clock.at_ms += world.settings.prepare_ttl_ms
            await world.meta.drop_expired_prepared(world.clock.now_ms(), 100)

    world.store.before = expire
    await world.engine.flush()
    keys = [key for key, _ in world.store.puts]
    assert len(set(keys)) == 2
    world.engine.evict(1 << 30)
    assert await read_all(stream) == written
    await world.engine.garbage.run_once()
    assert [info.key async for page in world.store.list("") for info in page] == keys[1:]


async def test_what_is_on_its_way_does_not_expire_however_late_it_comes(world: World) -> None:
    """Under an id that is forgotten it would stay in the bucket for ever."""
    await filled(world, 1, 5)
    abandoned = (await world.meta.prepare_objects(1, world.engine.broker_epoch, 1, world.clock.now_ms(), 1))[0]

    async def expire(number: int, key: str, body: Any) -> None:
        world.clock.at_ms += 2 * world.settings.prepare_ttl_ms
        assert await world.engine.garbage.run_once() == 1

    world.store.before = expire
    await world.engine.flush()
    keys = [key for key, _ in world.store.puts]
    assert len(keys) == 1
    assert [info.key async for page in world.store.list("") for info in page] == keys
    assert abandoned not in {row.object_id for row in await world.meta.range_rows(1, 0, 9)}


async def test_a_fenced_broker_stops_acknowledging(world: World) -> None:
    stream, _ = await filled(world, 1, 5)
    await world.meta.register_broker(1, "somebody else", 0)
    with pytest.raises(Fatal):
        await world.engine.flush()
    assert isinstance(world.engine.failure, Fatal)
    assert not world.engine.admit(1)
    outcomes: list[BaseException | None] = []
    append(stream, done=outcomes.append)
    await asyncio.sleep(0)
    assert isinstance(outcomes[0], Fatal)
    assert stream.uploaded_end == 0


async def test_a_stream_that_went_to_somebody_else_does_not_wedge_the_others(world: World) -> None:
    lost, _ = await filled(world, 1, 5)
    kept, written = await filled(world, 2, 5)

    async def steal(tx: Any) -> None:
        await tx.execute("UPDATE stream SET stream_epoch = stream_epoch + 1, owner_id = 7 WHERE stream_id = 1")

    await world.meta.db.transact(steal)
    waiting: list[BaseException | None] = []
    world.wal.hold = True
    append(lost)
    lost.when_durable(6, waiting.append)
    await world.engine.flush()
    assert isinstance(lost.gone, Fenced)
    assert isinstance(waiting[0], Fenced)
    assert world.engine.stream(1) is None
    assert kept.uploaded_end == 5
    assert world.disk.frames == []
    world.engine.evict(1 << 30)
    assert await read_all(kept) == written


async def test_a_trim_past_the_uploaded_end_makes_dead_bytes_and_goes_on(world: World) -> None:
    stream, _ = await filled(world, 1, 5)
    await stream.trim(5)
    await world.engine.flush()
    assert world.engine.metrics.dead_runs == 1
    assert (stream.start_offset, stream.uploaded_end) == (5, 5)
    assert world.disk.frames == []
    later = [await append_durably(stream) for _ in range(3)]
    await world.engine.flush()
    world.engine.evict(1 << 30)
    assert await read_all(stream) == later
    await world.restart()
    (stream,) = await world.engine.open_streams([1])
    assert await read_all(stream) == later


async def test_a_trim_past_the_uploaded_end_survives_a_restart(world: World) -> None:
    stream, written = await filled(world, 1, 5)
    await stream.trim(3)
    await world.restart()
    (stream,) = await world.engine.open_streams([1])
    assert (stream.start_offset, stream.uploaded_end, stream.next_offset) == (3, 0, 5)
    assert await read_all(stream) == written[3:]
    await stream.trim(5)
    await world.engine.flush()
    await world.restart()
    (stream,) = await world.engine.open_streams([1])
    assert (stream.start_offset, stream.next_offset) == (5, 5)
    more = await append_durably(stream)
    await world.engine.flush()
    assert await read_all(stream) == [more]


async def test_a_stream_with_an_unreadable_state_is_left_out_and_keeps_its_wal(world: World) -> None:
    bad, _ = await filled(world, 1, 3)
    await world.engine.flush()
    key, body = world.store.puts[0]
    (row,) = await world.meta.range_rows(1, 0, 1)
    damaged = bytearray(body)
    damaged[row.state_position + 50] ^= 1
    await world.store._inner.put(key, [damaged])
    world.engine._details.forget(1)
    await append_durably(bad)
    good, _ = await filled(world, 2, 3)
    flush = asyncio.create_task(world.engine.flush())
    with pytest.raises(Exception, match="state cannot be read"):
        await flush
    assert good.uploaded_end == 3
    assert (bad.uploaded_end, bad.durable_end) == (3, 4)
    assert [frame.stream_id for frame in world.disk.frames if frame.stream_id == 1] == [1]
    await world.store._inner.put(key, [body])
    await world.engine.flush()
    assert bad.uploaded_end == 4


async def test_appends_go_on_during_a_store_outage_until_the_bound_then_wait() -> None:
    world = World(dataclasses.replace(SETTINGS, tail_max_bytes=100 * KIB))
    world.store = PuttingStore(world.store)
    await world.start()
    (stream,) = await world.create(1)
    down = True

    async def outage(number: int, key: str, body: Any) -> None:
        if down:
            raise Retry("no answer")

    world.store.before = outage
    appended = 0
    while world.engine.admit(1000):
        append(stream, 1, 0, 1000)
        appended += 1
        await asyncio.sleep(0)
    assert 100 <= appended <= 103
    relieved = asyncio.Event()
    world.engine.when_relieved(relieved.set)
    await asyncio.sleep(0.05)
    assert not relieved.is_set()
    assert stream.durable_end >= appended - 1
    down = False
    await asyncio.wait_for(relieved.wait(), 5)
    assert world.engine.admit(1000)
    assert world.engine.metrics.back_pressure_seconds > 0
    await world.close()


async def test_back_pressure_makes_an_upload_hurry() -> None:
    """A tail below the size of an upload, yet too full for the next request: nobody waits for the upload's age."""
    world = World(dataclasses.replace(SETTINGS, tail_max_bytes=64 * KIB, upload_size_bytes=64 * KIB))
    await world.start()
    (stream,) = await world.create(1)
    for _ in range(40):
        append(stream, 1, 0, KIB)
    await asyncio.sleep(0)
    assert not world.engine.admit(30 * KIB)
    relieved = asyncio.Event()
    world.engine.when_relieved(relieved.set)
    await asyncio.wait_for(relieved.wait(), 5)
    assert world.engine.admit(30 * KIB)
    await world.close()


async def test_what_waits_for_the_disk_is_bounded_and_hurries_no_upload() -> None:
    world = World(dataclasses.replace(SETTINGS, pending_max_bytes=10 * KIB))
    await world.start()
    (stream,) = await world.create(1)
    assert world.engine.admit(20 * KIB)  # above the bound, but nothing else waits
    for _ in range(10):
        assert world.engine.admit(1000)
        append(stream, 1, 0, 1000)
    assert not world.engine.admit(1000)
    relieved = asyncio.Event()
    world.engine.when_relieved(relieved.set)
    await asyncio.wait_for(relieved.wait(), 5)
    assert stream.durable_end == 10
    assert world.engine.admit(1000)
    assert stream.uploaded_end == 0
    await world.close()


async def test_the_tail_grows_beyond_its_cache_only_while_the_store_is_away() -> None:
    world = World(dataclasses.replace(SETTINGS, tail_cache_bytes=20 * KIB))
    world.store = PuttingStore(world.store)
    await world.start()
    (stream,) = await world.create(1)
    down = True

    async def outage(number: int, key: str, body: Any) -> None:
        if down:
            raise Retry("no answer")

    world.store.before = outage
    for _ in range(100):
        await append_durably(stream, 1, 0, KIB)
    assert world.engine.tail.held(stream.stream_id) == (0, 100)
    assert world.engine.tail.unuploaded_bytes > 100 * 1000
    down = False
    await world.engine.flush()
    assert world.engine.tail.unuploaded_bytes == 0
    assert 0 < world.engine.tail.size_bytes <= 20 * KIB
    held = world.engine.tail.held(stream.stream_id)
    assert held is not None
    assert held[1] == 100
    await world.close()


async def test_uploads_come_by_size_and_by_age_on_their_own() -> None:
    world = World(dataclasses.replace(SETTINGS, upload_interval_ms=100))
    await world.start()
    (stream,) = await world.create(1)
    await append_durably(stream)
    await asyncio.sleep(0.03)
    assert stream.uploaded_end == 0
    await asyncio.sleep(0.15)
    assert stream.uploaded_end == 1
    for _ in range(70):
        append(stream, 1, 0, KIB)
    await asyncio.sleep(0.06)
    assert stream.uploaded_end >= 60
    await world.close()


async def test_a_close_gives_up_on_the_store_in_time_and_loses_nothing(world: World) -> None:
    stream, written = await filled(world, 1, 5)

    async def outage(number: int, key: str, body: Any) -> None:
        raise Retry("no answer")

    world.store.before = outage
    loop = asyncio.get_running_loop()
    began = loop.time()
    await world.engine.close(upload=True, timeout_s=0.1)
    assert loop.time() - began < 2
    assert isinstance(stream.gone, Retry)
    await world.crash()
    world.store.before = None
    report = await world.start()
    assert report.survivors == 5
    (stream,) = await world.engine.open_streams([1])
    assert await read_all(stream) == written


@pytest.mark.parametrize("early_answers", [1, 2, 3])
async def test_an_upload_that_becomes_due_between_two_looks_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, early_answers: int
) -> None:
    """The clock moves on while the uploader decides: not due at one look, due at the next, and nothing more arrives."""
    world = World(dataclasses.replace(SETTINGS, upload_interval_ms=20))
    await world.start()
    uploader = world.engine._uploader
    assert uploader is not None
    (stream,) = await world.create(1)
    await asyncio.sleep(0.01)  # the uploader sleeps
    looks: list[bool] = []
    monkeypatch.setattr(uploader, "_is_due", lambda: looks.append(True) or len(looks) > early_answers)
    await append_durably(stream, 1, 0, 500)
    async with asyncio.timeout(5):
        while stream.uploaded_end < stream.durable_end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await world.close()


async def test_a_state_is_found_while_a_commit_is_applied_and_not_yet_known(world: World) -> None:
    """The rows are ahead of the memory then: a log still opens with the state of its uploaded end."""
    stream, written = await filled(world, 1, 3)
    await world.engine.flush()
    first_state = count_fold(None, [memoryview(batch) for batch in written]).state
    tail = [await append_durably(stream) for _ in range(2)]
    arrived, commit_objects = asyncio.Event(), world.meta.commit_objects

    async def lose_reply(commit: Any) -> Any:
        result = await commit_objects(commit)
        if not arrived.is_set():
            arrived.set()
            world.engine._details.forget(1)
            state, batches = await stream.load_state()
            assert (state, [bytes(batch) for batch in batches]) == (first_state, tail)
            raise OutcomeUnknown("reply lost")
        return result

    world.meta.commit_objects = lose_reply
    await world.engine.flush()
    assert arrived.is_set()
    assert (await stream.load_state())[0] == count_fold(None, [memoryview(b) for b in written + tail]).state


class RefusingReads(PuttingStore):
    """403 to every GET while `refusing`."""

    refusing = False

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        if self.refusing:
            raise Invalid("403: the token has expired")
        data: memoryview = await self._inner.get(key, start, end)
        return data


async def test_a_store_that_refuses_reads_neither_ends_the_engine_nor_denies_the_data() -> None:
    world = World()
    world.store = RefusingReads(world.store)
    await world.start()
    stream, written = await filled(world, 1, 3)
    await world.engine.flush()
    await world.restart()  # the state is in the object alone
    (stream,) = await world.engine.open_streams([1])
    world.store.refusing = True
    written.append(await append_durably(stream))
    flush = asyncio.create_task(world.engine.flush())
    with pytest.raises(Retry, match="refuses a read: 403"):
        await stream.read(0, 1000, 3)
    assert world.engine.failure is None
    assert not flush.done()
    world.store.refusing = False
    await flush
    assert await read_all(stream) == written
    await world.close()


async def test_an_object_that_is_shorter_than_its_rows_say_is_corrupt(world: World) -> None:
    stream, _ = await filled(world, 1, 3)
    await world.engine.flush()
    key, body = world.store.puts[0]
    await world.store._inner.put(key, [body[:100]])
    world.engine.evict(1 << 30)
    world.engine._details.forget(1)
    with pytest.raises(Corrupt, match="shorter than its rows say"):
        await stream.read(0, 1000, 3)
    with pytest.raises(Corrupt, match="shorter than its rows say"):
        await stream.load_state()
    assert world.engine.failure is None


async def test_a_stream_that_cannot_be_uploaded_does_not_take_the_room_of_the_others() -> None:
    world = World(dataclasses.replace(SETTINGS, upload_size_bytes=4 * KIB, upload_max_bytes=4 * KIB))
    world.store = PuttingStore(world.store)
    await world.start()
    bad, _ = await filled(world, 1, 1)
    await world.engine.flush()
    key, body = world.store.puts[0]
    (row,) = await world.meta.range_rows(1, 0, 1)
    damaged = bytearray(body)
    damaged[row.state_position + 50] ^= 1
    await world.store._inner.put(key, [damaged])
    world.engine._details.forget(1)
    for _ in range(3):
        append(bad, 1, 0, 3 * KIB)  # more than one upload takes
    good, _ = await filled(world, 2, 1)
    async with asyncio.timeout(10):
        while good.uploaded_end < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert bad.uploaded_end == 1
    await world.close()


async def test_a_flush_after_the_end_says_so(world: World) -> None:
    await filled(world, 1, 1)
    uploader = world.engine._uploader
    assert uploader is not None
    uploader.stop(Retry("the engine is closed"))
    with pytest.raises(Retry, match="closed"):
        async with asyncio.timeout(5):
            await uploader.flush()


@pytest.mark.parametrize("overtaken", [False, True])
async def test_the_state_outlives_the_records(world: World, overtaken: bool) -> None:
    """An idempotent producer goes on where it was after all of its records were deleted, also over a restart."""
    stream, written = await filled(world, 1, 3)
    if not overtaken:
        await world.engine.flush()
    await stream.trim(stream.durable_end)
    await world.engine.flush()
    assert stream.committed_bytes == 0
    state = count_fold(None, [memoryview(batch) for batch in written]).state
    await world.restart()
    (stream,) = await world.engine.open_streams([1])
    assert (stream.start_offset, stream.committed_bytes) == (stream.durable_end, 0)
    assert await stream.load_state() == (state, [])
    assert await read_all(stream) == []
    written.append(await append_durably(stream))
    await world.engine.flush()
    await world.restart()
    (stream,) = await world.engine.open_streams([1])
    assert (await stream.load_state())[0] == count_fold(None, [memoryview(batch) for batch in written]).state
    assert await read_all(stream) == written[-1:]
    rows = await world.meta.range_rows(1, 0, 10)
    assert [(row.start_offset, row.end_offset) for row in rows] == [(stream.start_offset, stream.durable_end)]


async def test_a_stop_does_not_wait_for_the_next_try_of_an_upload() -> None:
    hour_ms = 3_600_000
    world = World(dataclasses.replace(SETTINGS, retry_base_ms=hour_ms, retry_max_ms=hour_ms))
    store = world.store = PuttingStore(world.store)
    await world.start()

    async def refuse(number: int, key: str, body: Any) -> None:
        if number == 1:
            raise Retry("busy", retry_after_ms=hour_ms)

    store.before = refuse
    stream, _ = await filled(world, 1, 5)
    upload = asyncio.create_task(world.engine.flush())
    await asyncio.sleep(0.01)
    assert (len(store.puts), stream.uploaded_end) == (1, 0)
    await world.engine.close(upload=True, timeout_s=5)
    await upload
    assert (len(store.puts), stream.uploaded_end, world.disk.frames) == (2, 5, [])
    await world.close()
