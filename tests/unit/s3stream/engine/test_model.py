"""The engine against a list: whatever is appended, synced, uploaded, trimmed, evicted, deleted or crashed in whatever
order, reads give what was acknowledged, once, in order, and nothing else.

Invariants checked after every step: uploaded end <= durable end <= next offset; ends and start never go back while a
stream is open; a crash loses nothing acknowledged and invents nothing; un-uploaded bytes add up; the WAL keeps every
live frame that is in no object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from s3stream.errors import NotFound, OffsetOutOfRange
from s3stream.stream import Stream
from tests.faults.s3stream.faulty import LOST_REPLY, NOT_APPLIED, Fault, FaultyPort
from tests.unit.s3stream.engine.world import World, append, read_all

_STREAMS = (1, 2, 3, 4)
_streams = st.sampled_from(_STREAMS)


class ModelStream:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int, bytes]] = []  # base, end, bytes
        self.acked_end = 0
        self.start = 0

    @property
    def next_offset(self) -> int:
        return self.batches[-1][1] if self.batches else self.acked_end

    def readable(self) -> list[bytes]:
        return [batch for _, end, batch in self.batches if self.start < end <= self.acked_end]


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.model: dict[int, ModelStream] = {}
        self.watermarks: dict[int, tuple[int, int, int, int]] = {}

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 10))

    def stream(self, stream_id: int) -> Stream:
        (stream,) = self.run(self.world.engine.open_streams([stream_id]))
        return stream

    @initialize()
    def begin(self) -> None:
        self.run(self._begin())

    async def _begin(self) -> None:
        await self.world.meta.migrate()
        await self.world.meta.create_streams(list(_STREAMS))
        await self._start()
        self.model = {stream_id: ModelStream() for stream_id in _STREAMS}

    async def _start(self) -> None:
        await self.world.start()
        self.world.wal.hold = True
        self.watermarks = {}

    @rule(
        stream_id=_streams, batches=st.integers(1, 12), count=st.integers(1, 3), size=st.sampled_from((80, 700, 3000))
    )
    def append(self, stream_id: int, batches: int, count: int, size: int) -> None:
        if stream_id in self.model:
            self.run(self._append(self.stream(stream_id), batches, count, size))

    async def _append(self, stream: Stream, batches: int, count: int, size: int) -> None:
        model = self.model[stream.stream_id]
        for _ in range(batches):
            if not self.world.engine.admit(size):
                return
            base = stream.next_offset
            end = base + count

            def acked(error: BaseException | None, model: ModelStream = model, end: int = end) -> None:
                assert error is None
                assert model.acked_end <= end
                model.acked_end = end

            batch = append(stream, count, base * 10 % 97, size, acked)
            model.batches.append((base, end, bytes(batch)))

    @rule()
    def sync(self) -> None:
        self.run(self._sync())

    async def _sync(self) -> None:
        self.world.wal.sync()

    @rule(put=st.booleans(), mode=st.sampled_from((NOT_APPLIED, LOST_REPLY)), at=st.integers(1, 3))
    def flush_with_a_failure(self, put: bool, mode: str, at: int) -> None:
        fault = Fault(at, mode)
        if put:
            self.world.store.fault = fault
        else:
            self.world.meta.fault = fault
        self.run(self._flush_with(fault, put))

    async def _flush_with(self, fault: Fault, put: bool) -> None:
        engine = self.world.engine
        if put:
            port = FaultyPort(self.world.store, fault, frozenset({"put"}))
            engine._uploader._store = port  # type: ignore[union-attr,assignment]
        else:
            port = FaultyPort(self.world.meta, fault, frozenset({"prepare_objects", "commit_objects"}))
            engine._uploader._meta = port  # type: ignore[union-attr,assignment]
        try:
            await engine.flush()
        finally:
            engine._uploader._store = self.world.store  # type: ignore[union-attr]
            engine._uploader._meta = self.world.meta  # type: ignore[union-attr]

    @rule()
    def evict_caches(self) -> None:
        self.world.engine.evict(1 << 30)
        self.world.engine.blocks.clear()

    @rule(stream_id=_streams, part=st.floats(0, 1))
    def trim(self, stream_id: int, part: float) -> None:
        if stream_id in self.model:
            model = self.model[stream_id]
            target = int(part * model.acked_end)
            self.run(self.stream(stream_id).trim(target))
            model.start = max(model.start, target)

    @rule(stream_id=_streams, part=st.floats(0, 1), max_bytes=st.sampled_from((1, 1000, 20_000)))
    def read_somewhere(self, stream_id: int, part: float, max_bytes: int) -> None:
        if stream_id not in self.model:
            return
        model, stream = self.model[stream_id], self.stream(stream_id)
        offset = int(part * model.acked_end)
        if offset < model.start:
            with pytest.raises(OffsetOutOfRange):
                self.run(stream.read(offset, max_bytes, stream.durable_end))
            return
        expected = [batch for _, end, batch in model.batches if offset < end <= model.acked_end]
        got = [bytes(batch) for batch in self.run(stream.read(offset, max_bytes, stream.durable_end))]
        assert got == expected[: len(got)]
        assert bool(got) == bool(expected)
        assert len(got) <= 1 or sum(map(len, got)) <= max_bytes

    @rule(stream_id=_streams, timestamp=st.integers(0, 100))
    def look_up_a_timestamp(self, stream_id: int, timestamp: int) -> None:
        if stream_id not in self.model:
            return
        model, stream = self.model[stream_id], self.stream(stream_id)
        readable = [b for b in model.batches if model.start < b[1] <= model.acked_end]
        expected = next((b for b in readable if b[0] * 10 % 97 >= timestamp), None)
        hit = self.run(stream.offset_for_timestamp(timestamp))
        assert (hit and (hit.offset, bytes(hit.batch))) == (expected and (expected[0], expected[2]))
        newest = self.run(stream.max_timestamp())
        assert (newest and newest.timestamp_ms) == (max(b[0] * 10 % 97 for b in readable) if readable else None)

    @rule(stream_id=_streams)
    def read_all(self, stream_id: int) -> None:
        if stream_id in self.model:
            assert self.run(read_all(self.stream(stream_id), 5000)) == self.model[stream_id].readable()

    @precondition(lambda self: len(self.model) > 2)
    @rule(stream_id=_streams)
    def delete(self, stream_id: int) -> None:
        if self.model.pop(stream_id, None) is not None:
            stream = self.stream(stream_id)
            self.run(self.world.meta.delete_streams([stream_id], self.world.clock.now_ms()))
            self.run(self.world.engine.delete_streams([stream_id]))
            self.watermarks.pop(stream_id, None)
            with pytest.raises(NotFound):
                self.run(stream.read(0, 1, 1))

    @rule()
    def collect_garbage(self) -> None:
        self.run(self.world.engine.garbage.run_once())

    @rule()
    def crash(self) -> None:
        self.run(self.world.crash())
        self.run(self._start())
        for stream_id, model in self.model.items():
            stream = self.stream(stream_id)
            ends = {end for _, end, _ in model.batches} | {model.acked_end, model.start}
            assert stream.durable_end >= model.acked_end
            assert stream.durable_end in ends
            model.batches = [batch for batch in model.batches if batch[1] <= stream.durable_end]
            model.acked_end = stream.durable_end

    @rule()
    def close_and_start(self) -> None:
        self.run(self._sync())
        self.run(self.world.engine.close(upload=True))
        self.run(self.world.supervisor.close())
        assert not [frame for frame in self.world.disk.frames if frame.stream_id in self.model]
        self.run(self._start())
        for stream_id in self.model:
            assert self.stream(stream_id).next_offset == self.model[stream_id].next_offset

    @invariant()
    def books_agree(self) -> None:
        if not self.model:
            return
        engine, disk = self.world.engine, self.world.disk
        assert self.world.crashes == []
        assert engine.tail_bytes == engine.tail.unuploaded_bytes
        on_disk: dict[int, int] = {}
        for frame in disk.frames:
            on_disk.setdefault(frame.stream_id, frame.base_offset)
        for stream_id, model in self.model.items():
            stream = engine.stream(stream_id)
            if stream is None:
                continue
            now = (stream.start_offset, stream.uploaded_end, stream.durable_end, stream.next_offset)
            assert all(a >= b for a, b in zip(now, self.watermarks.get(stream_id, now), strict=True))
            self.watermarks[stream_id] = now
            assert stream.uploaded_end <= stream.durable_end <= stream.next_offset
            assert stream.start_offset == model.start
            assert stream.durable_end == max(model.acked_end, model.start)
            if stream.durable_end > max(stream.uploaded_end, stream.start_offset):
                assert on_disk[stream_id] <= max(stream.uploaded_end, stream.start_offset)

    def teardown(self) -> None:
        self.run(self.world.crash())
        self.run(self.world.meta.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


EngineMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEngineModel = EngineMachine.TestCase
