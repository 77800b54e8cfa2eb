"""An object store in memory: for tests, the simulation and `memory://`. Deterministic; loses everything at its end."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Callable, Sequence

from typing_extensions import Buffer

from s3stream.errors import AlreadyExists, NotFound
from s3stream.ports import ObjectInfo
from s3stream.stores.keys import body_views, check_key, check_range, check_range_within


class MemoryObjectStore:
    """Implements `ports.ObjectStore`. No call suspends; `now_ms` stamps objects; listings have `page_size` entries."""

    def __init__(self, now_ms: Callable[[], int] = lambda: 0, page_size: int = 1000) -> None:
        self._now_ms = now_ms
        self._page_size = page_size
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._keys: list[str] = []

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        check_key(key)
        if key in self._objects:
            if if_absent:
                raise AlreadyExists(f"{key} exists")
        else:
            insort(self._keys, key)
        self._objects[key] = (b"".join(body_views(body)), self._now_ms())

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        check_key(key)
        check_range(key, start, end)
        if key not in self._objects:
            raise NotFound(f"{key} does not exist")
        content = self._objects[key][0]
        check_range_within(key, start, end, len(content))
        return memoryview(content)[start:end]

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        after = start_after
        while True:
            first = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after) if after else 0)
            page = [key for key in self._keys[first : first + self._page_size] if key.startswith(prefix)]
            if not page:
                return
            yield [ObjectInfo(key, len(self._objects[key][0]), self._objects[key][1]) for key in page]
            after = page[-1]

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        for key in keys:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    async def close(self) -> None:
        return None
