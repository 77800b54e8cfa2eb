"""Thousands of idle streams cost next to nothing: no task, no timer, no row, little memory."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from tests.unit.s3stream.engine.world import World

_COUNT = 10_000


async def test_idle_streams_are_cheap_in_memory_and_have_no_tasks() -> None:
    world = World()
    await world.start()
    ids = list(range(1, _COUNT + 1))
    await world.meta.create_streams(ids)
    tasks = len(asyncio.all_tasks())
    gc.collect()
    tracemalloc.start()
    streams = await world.engine.open_streams(ids)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(streams) == _COUNT
    assert used / _COUNT < 3 * 1024
    assert len(asyncio.all_tasks()) == tasks
    assert len(world.engine._details) == 0
    await world.close()
