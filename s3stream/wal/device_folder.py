"""A WAL device on a folder: one file per segment, one thread that does nothing but write and fdatasync.

The I/O thread takes one write at a time from a queue, `pwritev` + `fdatasync`, and hands the completion to the loop. It
writes past the page cache (`direct_write.py`) where the file system allows it: nobody reads a segment before the next
start. So a block that one group ends in is written again by the next one, with the same bytes in front of it. A
second thread creates, reads and removes files, so that zeroing a new segment never stands in front of a group commit.
New segments are written with zeros, since fdatasync of a merely allocated file also commits its extents, and appear
under their name only when whole (temporary name, fsync, rename, fsync of the folder). Removed ones are kept as `.spare`
files and renamed into the next: their content does not matter (`frame.py`). The first segment of a process without a
spare is allocated but not zeroed, so that start-up does not wait for it.

A lock file keeps a second process out of the folder.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
import queue
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import Buffer

from s3stream.direct_write import BLOCK_BYTES, IOV_MAX, DirectWriter, bypass_page_cache, can_bypass, pwritev_all
from s3stream.durable_folder import make_folder_durable, sync_folder
from s3stream.errors import Fatal, Invalid, Retry
from s3stream.ports import Done

T = TypeVar("T")
_Job = tuple[asyncio.AbstractEventLoop, int, int, int, Sequence[Buffer], Done]
"""Where to report, segment, descriptor, offset, bytes, and whom to tell."""

_CHUNK = 1024 * 1024
_SYNC_EVERY_CHUNKS = 4
_MAX_GAP = 8
_NAME = re.compile(r"(\d{16})\.wal")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class FolderWalDevice:
    """`WalDevice` over `path`, which is created. Invalid when another process holds it or the size is unusable.

    Errors of the calls: Retry (no space for a new segment, nothing was applied), Fatal (any other error of the disk).
    At most `max_spares` removed segments are kept for recycling. `direct` False: through the page cache in any case.
    """

    def __init__(
        self, path: str | os.PathLike[str], segment_size_bytes: int, max_spares: int = 2, *, direct: bool = True
    ) -> None:
        if segment_size_bytes < 65536 or segment_size_bytes % 4096:
            raise Invalid(f"a WAL segment is a multiple of 4096 bytes, at least 65536, not {segment_size_bytes}")
        self.segment_size_bytes = segment_size_bytes
        self.path = Path(path)
        self._max_spares = max_spares
        make_folder_durable(self.path)
        self._lock = _lock(self.path)
        self._spares = self._clean()
        self._direct = direct and can_bypass(self.path)
        self._hurry = True
        self._descriptors: dict[int, int] = {}
        self._closing = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._files = ThreadPoolExecutor(1, thread_name_prefix="wal-files")
        self._io = threading.Thread(target=_write_for_ever, args=(self._jobs, self._direct), name="wal-io", daemon=True)
        self._io.start()

    # -- the port

    async def list_segments(self) -> Sequence[int]:
        return await self._run(self._list)

    async def read_segment(self, number: int, size_bytes: int | None = None) -> Buffer:
        return await self._run(self._read, number, size_bytes)

    async def create_segment(self, number: int) -> None:
        await self._run(self._create, number)

    async def remove_segments(self, numbers: Sequence[int]) -> None:
        if numbers:
            await self._run(self._remove, list(numbers))

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        descriptor = self._descriptors.get(number)
        if descriptor is None or self._closing:
            raise Invalid(f"WAL segment {number} was not created by this device, or it is closed")
        self._jobs.put((asyncio.get_running_loop(), number, descriptor, offset, buffers, done))

    async def close(self) -> None:
        """Wait for what is under way, close the files and let go of the folder."""
        if self._closing:
            return
        self._closing = True
        self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(self._files, self._io.join)
        self._files.shutdown(wait=True)
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        os.close(self._lock)

    # -- on the thread for files

    async def _run(self, call: Callable[..., T], *args: Any) -> T:
        if self._closing:
            raise Invalid(f"the WAL folder {self.path} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._files, call, *args)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise Retry(f"no space for a WAL segment in {self.path}: {error}", 1000) from error
            raise Fatal(f"WAL folder {self.path}: {error}") from error

    def _name(self, number: int) -> Path:
        return self.path / f"{number:016d}.wal"

    def _clean(self) -> list[Path]:
        """Remove what a crash left half made; the spares that are there."""
        for half_made in self.path.glob("*.tmp"):
            half_made.unlink()
        return sorted(self.path.glob("*.spare"))

    def _list(self) -> list[int]:
        found = (_NAME.fullmatch(entry) for entry in os.listdir(self.path))
        return sorted(int(match.group(1)) for match in found if match)

    def _read(self, number: int, size_bytes: int | None) -> Buffer:
        with self._name(number).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            content = bytearray(size if size_bytes is None else min(size, size_bytes))
            view, filled = memoryview(content), 0
            while filled < len(content):
                count = file.readinto(view[filled:])
                if not count:
                    raise OSError(errno.EIO, f"{file.name} ends after {filled} of {len(content)} bytes")
                filled += count
        return content

    def _create(self, number: int) -> None:
        final = self._name(number)
        if final.exists():
            raise Invalid(f"WAL segment {number} exists already in {self.path}")
        if not self._recycle(final):
            half_made = final.with_suffix(".tmp")
            try:
                self._make(half_made)
                half_made.rename(final)
            except BaseException:
                half_made.unlink(missing_ok=True)
                raise
        self._hurry = False
        sync_folder(self.path)
        descriptor = os.open(final, os.O_RDWR | os.O_CLOEXEC)
        self._descriptors[number] = descriptor
        if self._direct:
            bypass_page_cache(descriptor)

    def _recycle(self, final: Path) -> bool:
        while self._spares:
            spare = self._spares.pop()
            if spare.stat().st_size == self.segment_size_bytes:
                spare.rename(final)
                return True
            spare.unlink()  # of another segment size
        return False

    def _make(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.segment_size_bytes)
            if not self._hurry:
                if self._direct:
                    bypass_page_cache(descriptor)
                self._zero(descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _zero(self, descriptor: int) -> None:
        zeros = memoryview(mmap.mmap(-1, _CHUNK))  # at a page boundary, as direct writes need it
        for index, offset in enumerate(range(0, self.segment_size_bytes, _CHUNK), 1):
            if self._closing:
                raise Retry("the WAL folder is being closed")
            pwritev_all(descriptor, offset, [zeros[: self.segment_size_bytes - offset]])
            if index % _SYNC_EVERY_CHUNKS == 0:
                os.fdatasync(descriptor)  # in small pieces: one large sync would hold up those of the groups

    def _remove(self, numbers: list[int]) -> None:
        for number in numbers:
            descriptor = self._descriptors.pop(number, None)
            if descriptor is not None:
                os.close(descriptor)
            segment = self._name(number)
            if not segment.exists():
                continue
            if len(self._spares) < self._max_spares and segment.stat().st_size == self.segment_size_bytes:
                spare = segment.with_suffix(".spare")
                segment.rename(spare)
                self._spares.append(spare)
            else:
                segment.unlink()


class _CachedWriter:
    """Writes through the page cache."""

    def write(self, number: int, descriptor: int, offset: int, buffers: Sequence[Buffer]) -> None:
        for first in range(0, len(buffers), IOV_MAX):
            part = [memoryview(buffer) for buffer in buffers[first : first + IOV_MAX]]
            pwritev_all(descriptor, offset, part)
            offset += sum(view.nbytes for view in part)

    def close(self) -> None: ...


class _DirectSegmentWriter:
    """Writes past the page cache. Remembers the last block that was begun: the next group goes on in it."""

    def __init__(self) -> None:
        self._writer = DirectWriter()
        self._number = -1
        self._end = 0
        self._begun = b""

    def write(self, number: int, descriptor: int, offset: int, buffers: Sequence[Buffer]) -> None:
        # A group begins at a multiple of 8, up to 7 bytes behind the one before.
        gap = offset - self._end
        if number == self._number and 0 <= gap < _MAX_GAP and len(self._begun) + gap < BLOCK_BYTES:
            head = self._begun + bytes(gap)
        else:
            head = self._writer.read_head(descriptor, offset)
        self._number = -1  # after an error nothing is known
        self._begun = self._writer.write(descriptor, offset, buffers, head)
        self._end = offset + sum(memoryview(buffer).nbytes for buffer in buffers)
        self._number = number

    def close(self) -> None:
        self._writer.close()


def _write_for_ever(jobs: queue.SimpleQueue[_Job | None], direct: bool) -> None:
    """The I/O thread. Keeps no buffer while it waits: they are views of arena chunks."""
    writer = _DirectSegmentWriter() if direct else _CachedWriter()
    while (job := jobs.get()) is not None:
        loop, number, descriptor, offset, buffers, done = job
        error: Fatal | None = None
        try:
            writer.write(number, descriptor, offset, buffers)
            os.fdatasync(descriptor)
        except OSError as reason:
            error = Fatal(f"the WAL could not be written and synced: {reason}")
        del job, buffers
        try:
            loop.call_soon_threadsafe(done, error)
        except RuntimeError:
            break  # the loop was closed without closing the device: nobody is left to tell
        del loop, done
    writer.close()


def _lock(path: Path) -> int:
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Invalid(
            f"the WAL folder {path} is in use by another process (pid {holder}); each broker needs one of its own"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
