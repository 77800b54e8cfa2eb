"""An object store that counts what passes through it; the counters are plain numbers that others read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from typing_extensions import Buffer

from s3stream.errors import StreamError
from s3stream.ports import ObjectInfo, ObjectStore

OK = "ok"
CANCELLED = "cancelled"
OTHER = "other"


@dataclass(slots=True)
class OperationCounters:
    """Of one class of calls, since the start. `outcomes`: "ok", the name of the error kind, "cancelled" or "other".
    `byte_count`: of bodies that arrived. `seconds`: from call to end, waiting for the byte budget included."""

    outcomes: dict[str, int] = field(default_factory=dict)
    byte_count: int = 0
    seconds: float = 0.0
    in_flight: int = 0


@dataclass(slots=True)
class StoreCounters:
    """By class: `put_if_absent` apart from `put`; a `list` counts per page."""

    put: OperationCounters = field(default_factory=OperationCounters)
    put_if_absent: OperationCounters = field(default_factory=OperationCounters)
    get: OperationCounters = field(default_factory=OperationCounters)
    list: OperationCounters = field(default_factory=OperationCounters)
    delete: OperationCounters = field(default_factory=OperationCounters)

    def by_name(self) -> dict[str, OperationCounters]:
        """Each class under the name that metrics show."""
        return {
            "put": self.put,
            "put_if_absent": self.put_if_absent,
            "get": self.get,
            "list": self.list,
            "delete": self.delete,
        }


class InstrumentedObjectStore:
    """Implements `ports.ObjectStore` by `inner`; changes nothing but `counters`."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.counters = StoreCounters()

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        operation = self.counters.put_if_absent if if_absent else self.counters.put
        with _counted(operation):
            await self.inner.put(key, body, if_absent=if_absent)
        operation.byte_count += sum([memoryview(buffer).nbytes for buffer in body])

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        with _counted(self.counters.get):
            content = await self.inner.get(key, start, end)
        self.counters.get.byte_count += len(content)
        return content

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        pages = aiter(self.inner.list(prefix, start_after))
        seen = False
        while True:
            with _counted(self.counters.list):
                page = await anext(pages, None)
            if page is None:
                if seen:
                    self.counters.list.outcomes[OK] -= 1  # the end came with the last page
                return
            seen = True
            yield page

    async def delete(self, keys: Sequence[str]) -> None:
        with _counted(self.counters.delete):
            await self.inner.delete(keys)

    async def close(self) -> None:
        await self.inner.close()


@contextmanager
def _counted(operation: OperationCounters) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    operation.in_flight += 1
    outcome = OTHER
    try:
        yield
        outcome = OK
    except StreamError as error:
        outcome = type(error).__name__
        raise
    except asyncio.CancelledError:
        outcome = CANCELLED
        raise
    finally:
        operation.in_flight -= 1
        operation.seconds += loop.time() - began
        operation.outcomes[outcome] = operation.outcomes.get(outcome, 0) + 1
