"""The probe refuses stores that only look as if they could carry the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from typing_extensions import Buffer

from s3stream.errors import AlreadyExists, Invalid, Retry
from s3stream.ports import ObjectInfo
from s3stream.stores.memory import MemoryObjectStore
from s3stream.stores.probe import probe_store


class IgnoresHeader(MemoryObjectStore):
    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        await super().put(key, body)


class RefusesHeader(MemoryObjectStore):
    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        if if_absent:
            raise Invalid("501 NotImplemented")
        await super().put(key, body)


class ManyWinners(MemoryObjectStore):
    """Checks, then writes: right one after the other, wrong in a race."""

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        if if_absent and key.endswith("absent") and key in self._objects:
            raise AlreadyExists(key)
        await super().put(key, body)


class StaleList(MemoryObjectStore):
    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        for page in list[list[ObjectInfo]]():
            yield page


class NoRanges(MemoryObjectStore):
    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        return await super().get(key)


class Busy(MemoryObjectStore):
    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        if key.endswith("race"):
            raise Retry("SlowDown")
        await super().put(key, body, if_absent=if_absent)


@pytest.mark.parametrize(
    ("store", "problem"),
    [
        (IgnoresHeader(), "the store ignores the header"),
        (RefusesHeader(), "was refused: 501"),
        (ManyWinners(), "8 of 8 racing PUTs"),
    ],
)
async def test_store_without_put_if_absent_serves_only_a_file_wal(store: MemoryObjectStore, problem: str) -> None:
    report = await probe_store(store, "t")
    assert report.problems == ()
    assert problem in report.put_if_absent_problem
    report.require(put_if_absent=False)
    with pytest.raises(Invalid, match="cannot be used"):
        report.require(put_if_absent=True)


@pytest.mark.parametrize(("store", "problem"), [(StaleList(), "a listing right after"), (NoRanges(), "bytes 5 to 10")])
async def test_store_that_is_no_use_at_all(store: MemoryObjectStore, problem: str) -> None:
    report = await probe_store(store, "t")
    with pytest.raises(Invalid, match=problem):
        report.require(put_if_absent=False)


async def test_store_that_does_not_answer_is_retry() -> None:
    store = Busy()
    with pytest.raises(Retry):
        await probe_store(store, "t")
    assert [page async for page in store.list("")] == []
