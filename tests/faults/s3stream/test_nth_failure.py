"""One scripted run of the engine; the 1st, 2nd, 3rd ... call of each port fails, until the fault no longer fires.

Checked after every run: everything acknowledged is read back once, in order, whether from memory or from objects,
before and after a crash; nothing below the start is served; the bucket holds what the metadata know, no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from s3stream.errors import OutcomeUnknown, Retry
from s3stream.stream import Stream
from tests.faults.s3stream.faulty import META_METHODS, MODES, STORE_METHODS, Fault, FaultyPort
from tests.unit.s3stream.engine.world import World, append_durably, read_all

_MAX_CALLS = 400


async def _again(call: Callable[[], Awaitable[Any]]) -> Any:
    """What a caller of the engine does with an error that invites to it."""
    for _ in range(20):
        try:
            return await call()
        except (Retry, OutcomeUnknown):
            await asyncio.sleep(0.001)
    raise AssertionError("still failing after 20 tries")


class Run:
    """The script, and the list model beside it: per stream the batches that were acknowledged."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acked: dict[int, list[bytes]] = {}
        self.starts: dict[int, int] = {}

    async def stream(self, stream_id: int) -> Stream:
        (stream,) = await _again(lambda: self.world.engine.open_streams([stream_id]))
        return stream

    async def append(self, stream_id: int, batches: int) -> None:
        stream = await self.stream(stream_id)
        for number in range(batches):
            batch = await append_durably(stream, 1 + number % 2, number, 400)
            self.acked.setdefault(stream_id, []).append(batch)

    async def check(self) -> None:
        for stream_id, batches in self.acked.items():
            stream = await self.stream(stream_id)
            start = self.starts.get(stream_id, 0)
            assert stream.start_offset == start
            expected = [batch for batch in batches if int.from_bytes(batch[:8], "big") >= start]
            assert await _again(lambda s=stream: read_all(s, 2_000)) == expected
            _, tail = await _again(stream.load_state)
            assert [bytes(b) for b in tail] == [
                b for b in batches if int.from_bytes(b[:8], "big") >= max(stream.uploaded_end, 0)
            ]

    async def play(self) -> None:
        world = self.world
        await world.start()
        await self.append(1, 20)
        await self.append(2, 5)
        await self.append(3, 60)
        await world.engine.flush()
        world.engine.tail.evict(1 << 30)
        await self.check()
        await self.append(1, 4)
        await self.append(2, 4)
        await _again(lambda: self.trim(1, 10))
        await self.restart()
        await self.check()
        await world.engine.flush()
        await _again(lambda: self.trim(3, 90))
        await self.delete(2)
        await self.append(1, 3)
        await world.engine.flush()
        await _again(world.engine.garbage.run_once)
        world.engine.tail.evict(1 << 30)
        world.engine.blocks.clear()
        await self.check()
        await self.restart()
        await self.check()

    async def trim(self, stream_id: int, offset: int) -> None:
        await (await self.stream(stream_id)).trim(offset)
        self.starts[stream_id] = offset

    async def delete(self, stream_id: int) -> None:
        await self.world.raw_meta.delete_streams([stream_id], self.world.clock.now_ms())
        await self.world.engine.delete_streams([stream_id])
        del self.acked[stream_id]

    async def restart(self) -> None:
        await self.world.crash()
        await self.world.start()


async def _play_with(fault: Fault, port: str) -> None:
    world = World()
    world.raw_meta = world.meta
    await world.meta.migrate()
    await world.meta.create_streams([1, 2, 3])
    store = world.store
    if port == "store":
        world.store = FaultyPort(world.store, fault, STORE_METHODS)
    else:
        world.meta = FaultyPort(world.meta, fault, META_METHODS)
    run = Run(world)
    try:
        await asyncio.wait_for(run.play(), 20)
        assert world.crashes == []
        keys = [info.key async for page in store.list("") for info in page]
        counts = await world.raw_meta.counts()
        assert len(keys) <= sum(counts.objects.values()), "the bucket holds objects that nobody knows"
    finally:
        await world.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("port", ["store", "meta"])
async def test_nth_failure(port: str, mode: str) -> None:
    for at in range(1, _MAX_CALLS):
        fault = Fault(at, mode, burst=1 if at % 2 else 3)
        try:
            await _play_with(fault, port)
        except Exception as error:
            raise AssertionError(f"call {at} ({fault.names[at - 1 : at + 2]}) of {port}, {mode}") from error
        if not fault.fired:
            assert at > 5, "the script hardly uses this port"
            return
    raise AssertionError("the fault never stops firing")
