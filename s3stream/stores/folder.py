"""An object store in a local folder: each object a file, visible whole or not at all, durable when `put` returns.

The asynchronous shell: it runs the file work of `folder_files.py` on a few threads and puts time limits on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from typing_extensions import Buffer

from s3stream.errors import Invalid, OutcomeUnknown, Retry
from s3stream.ports import ObjectInfo
from s3stream.stores.folder_files import FolderFiles
from s3stream.stores.keys import body_views, check_key, check_range

T = TypeVar("T")
_THREADS = 4


class FolderObjectStore:
    """Implements `ports.ObjectStore` under `root`, which is made if it does not exist.

    At most four calls are on threads at a time, the others wait on the loop. One key must not be the folder of another
    ("a" and "a/b"): Invalid. No space: Retry.
    """

    def __init__(self, root: Path, timeout_s: float = 60.0, page_size: int = 1000) -> None:
        self._files = FolderFiles(root)
        self._timeout_s = timeout_s
        self._page_size = page_size
        self._executor = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="weir-folder-store")
        self._slots = asyncio.Semaphore(_THREADS)
        self._closed = False

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        check_key(key)
        views = body_views(body)
        await self._run(True, lambda: self._files.put(key, views, if_absent))

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        check_key(key)
        check_range(key, start, end)
        return await self._run(False, lambda: self._files.get(key, start, end))

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        entries = self._files.walk(prefix, start_after)
        while page := await self._run(False, lambda: list(islice(entries, self._page_size))):
            yield page

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        await self._run(True, lambda: self._files.delete(keys))

    async def close(self) -> None:
        """Let running calls end and give the temporary folder back."""
        if self._closed:
            return
        await self._run(False, self._files.close)
        self._closed = True
        self._executor.shutdown()

    async def _run(self, writes: bool, work: Callable[[], T]) -> T:
        if self._closed:
            raise Invalid("the folder store is closed")
        async with self._slots:
            future = self._executor.submit(work)
            try:
                # Not wait_for: before Python 3.12 it loses a cancellation that meets the result.
                async with asyncio.timeout(self._timeout_s):
                    return await asyncio.wrap_future(future)
            except TimeoutError as error:
                kind = OutcomeUnknown if writes and not future.cancelled() else Retry
                raise kind(f"the folder store took more than {self._timeout_s} s") from error
