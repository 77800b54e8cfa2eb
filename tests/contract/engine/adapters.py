"""The engine's world on real adapters: file WAL on memory or on a folder, bucket in memory or a folder, SQLite in
memory or a file. A crash drops the process's state and keeps what the adapters had made durable."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3stream.meta.sqlite import SqliteDatabase
from s3stream.meta.sqlite_runner import ThreadRunner
from s3stream.meta.store import MetaStore
from s3stream.ports import Done
from s3stream.settings import KIB
from s3stream.stores.folder import FolderObjectStore
from s3stream.wal.device_folder import FolderWalDevice
from s3stream.wal.device_memory import MemoryWalDevice
from s3stream.wal.file_wal import FileWal, FileWalSettings
from tests.unit.s3stream.engine.world import World

SEGMENT_BYTES = 256 * KIB
_WAL_SETTINGS = FileWalSettings(capacity_bytes=8 * SEGMENT_BYTES, grace_ms=600_000)


class CutDevice:
    """A device that a crash disconnects: nothing written after `cut()` arrives, nobody is told."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._cut = False
        self.segment_size_bytes = inner.segment_size_bytes

    def cut(self) -> None:
        self._cut = True

    def write(self, number: int, offset: int, buffers: Sequence[Any], done: Done) -> None:
        if not self._cut:
            self._inner.write(number, offset, buffers, lambda error: None if self._cut else done(error))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class MemoryWorld(World):
    """File WAL over memory; bucket and SQLite in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.device: Any = None
        self._memory = MemoryWalDevice(SEGMENT_BYTES)

    def make_wal(self, on_durable: Any, on_fatal: Any) -> Any:
        self.device = CutDevice(self.open_device())
        self.wal = FileWal(self.device, _WAL_SETTINGS, on_durable, on_fatal)
        return self.wal

    def open_device(self) -> Any:
        fresh = MemoryWalDevice(SEGMENT_BYTES)  # the one before may be told of a write that the crash cut off
        fresh.segments = self._memory.segments
        return fresh

    async def crash(self) -> None:
        self.device.cut()
        await self.supervisor.close()
        await self.wal._groups.keeper.close()


class FolderWorld(MemoryWorld):
    """Everything in a folder, with fsync."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.store = FolderObjectStore(path / "objects")
        self.meta = self._open_meta()

    def _open_meta(self) -> MetaStore:
        return MetaStore(SqliteDatabase(str(self._path / "meta.db"), ThreadRunner(), self.clock.now_ms))

    def open_device(self) -> Any:
        return FolderWalDevice(self._path / "wal", SEGMENT_BYTES)

    async def crash(self) -> None:
        await super().crash()
        await self.device.close()
        await self.meta.close()
        await self.store.close()
        self.store = FolderObjectStore(self._path / "objects")
        self.meta = self._open_meta()

    async def close(self) -> None:
        await super().close()
        with contextlib.suppress(RuntimeError):
            await self.store.close()
