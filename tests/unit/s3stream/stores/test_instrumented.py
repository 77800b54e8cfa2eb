"""The counting store counts what happened and changes nothing."""

from __future__ import annotations

import asyncio

import pytest

from s3stream.errors import AlreadyExists, NotFound
from s3stream.stores.instrumented import InstrumentedObjectStore
from s3stream.stores.memory import MemoryObjectStore


class Slow(MemoryObjectStore):
    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        await asyncio.sleep(10)
        return await super().get(key, start, end)


async def test_counts_by_class_and_outcome() -> None:
    store = InstrumentedObjectStore(MemoryObjectStore(page_size=2))
    await store.put("a", [b"123", b"45"])
    await store.put("b", [b"1"], if_absent=True)
    with pytest.raises(AlreadyExists):
        await store.put("b", [b"1"], if_absent=True)
    assert bytes(await store.get("a", 1, 3)) == b"23"
    with pytest.raises(NotFound):
        await store.get("c")
    await store.put("c", [])
    assert [len(page) async for page in store.list("")] == [2, 1]
    await store.delete(["a"])
    assert [page async for page in store.list("nothing")] == []
    counters = store.counters
    assert counters.put.outcomes == {"ok": 2}
    assert counters.put.byte_count == 5
    assert counters.put_if_absent.outcomes == {"ok": 1, "AlreadyExists": 1}
    assert counters.put_if_absent.byte_count == 1
    assert counters.get.outcomes == {"ok": 1, "NotFound": 1}
    assert counters.get.byte_count == 2
    assert counters.list.outcomes == {"ok": 3}
    assert counters.delete.outcomes == {"ok": 1}
    assert all(operation.in_flight == 0 for operation in counters.by_name().values())


async def test_cancelled_calls_are_counted() -> None:
    store = InstrumentedObjectStore(Slow())
    call = asyncio.create_task(store.get("a"))
    await asyncio.sleep(0)
    assert store.counters.get.in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert store.counters.get.outcomes == {"cancelled": 1}
    assert store.counters.get.in_flight == 0
