"""Writing past the page cache, for files that this process does not read soon: WAL segments and objects.

A write through the page cache costs the copy into it, and a page that has to be found (on a virtual machine: faulted in
by the host) for every 4 KiB that was not cached: 800 to 1,200 us of CPU per MB of a new file. Here the bytes are
gathered in a small stage that stays in the processor's cache and go to the device from there: 290 us per MB, and no
memory but the stage (both measured on 2 cores with ext4). Gathering is one `pwritev` to an anonymous file that is
mapped: the interpreter's lock is free meanwhile, as it is not when slices are assigned.

Synchronous; a `DirectWriter` belongs to one thread at a time. Linux only; `can_bypass` says whether a folder's file
system takes it, callers write through the page cache where it does not.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import Buffer

BLOCK_BYTES = 4096
"""Offsets, lengths and addresses of direct writes are multiples of this: no disk has larger logical blocks."""
_STAGE_BYTES = 1 << 20
IOV_MAX = 1024


def bypass_page_cache(descriptor: int) -> None:
    """Writes to (and reads from) `descriptor` are direct from now on. OSError (EINVAL) where that is not possible."""
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_DIRECT)


def can_bypass(folder: Path) -> bool:
    """Whether one block can be written directly to a file in `folder`. Other errors than a refusal: OSError."""
    if not hasattr(os, "O_DIRECT") or not hasattr(os, "memfd_create"):
        return False
    descriptor, name = tempfile.mkstemp(prefix="direct-", suffix=".tmp", dir=folder)
    try:
        bypass_page_cache(descriptor)
        with DirectWriter(BLOCK_BYTES) as writer:
            writer.write(descriptor, BLOCK_BYTES, [b"1"])
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        return False
    finally:
        os.close(descriptor)
        os.unlink(name)
    return True


class DirectWriter:
    """Writes buffers of any size and place to descriptors that `bypass_page_cache` was called for."""

    def __init__(self, stage_bytes: int = _STAGE_BYTES) -> None:
        self._size = stage_bytes
        self._file = os.memfd_create("weir-stage", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._file, stage_bytes)
            self._map = mmap.mmap(self._file, stage_bytes)
        except BaseException:
            os.close(self._file)
            raise
        self._stage = memoryview(self._map)

    def __enter__(self) -> DirectWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the stage back."""
        self._stage.release()
        self._map.close()
        os.close(self._file)

    def read_head(self, descriptor: int, offset: int) -> bytes:
        """What the file holds between the last block boundary and `offset`."""
        size = offset % BLOCK_BYTES
        if size and os.preadv(descriptor, [self._stage[:BLOCK_BYTES]], offset - size) < size:
            raise OSError(errno.EIO, f"the file ends before offset {offset}")
        return bytes(self._stage[:size])

    def write(self, descriptor: int, offset: int, buffers: Sequence[Buffer], head: bytes = b"") -> bytes:
        """Write all of `buffers` back to back at `offset`, however little the system takes at once.

        `head` is what the file holds between the last block boundary and `offset`; it is written again. Up to the next
        boundary behind the end zeros are written. Returns the bytes since the last boundary: the `head` of a write that
        goes on there. OSError as of `pwritev`, part of the bytes may have been written.
        """
        position, filled = offset - len(head), len(head)
        stage = self._stage
        stage[:filled] = head
        pending = [view for buffer in buffers if (view := memoryview(buffer)).nbytes]
        pending.reverse()
        while pending:
            part: list[memoryview] = []
            room = self._size - filled
            while pending and room and len(part) < IOV_MAX:
                view = pending.pop()
                if view.nbytes > room:
                    pending.append(view[room:])
                    view = view[:room]
                part.append(view)
                room -= view.nbytes
            pwritev_all(self._file, filled, part)
            filled = self._size - room
            if not room:
                pwritev_all(descriptor, position, [stage])
                position += self._size
                filled = 0
        begun = filled % BLOCK_BYTES
        if filled:
            end = filled + (BLOCK_BYTES - begun if begun else 0)
            stage[filled:end] = bytes(end - filled)
            pwritev_all(descriptor, position, [stage[:end]])
        return bytes(stage[filled - begun : filled])


class DirectWriters:
    """As many writers as there are threads that write at the same time; thread-safe."""

    def __init__(self) -> None:
        self._idle: deque[DirectWriter] = deque()

    @contextmanager
    def borrow(self) -> Iterator[DirectWriter]:
        try:
            writer = self._idle.pop()
        except IndexError:
            writer = DirectWriter()
        try:
            yield writer
        finally:
            self._idle.append(writer)

    def close(self) -> None:
        """Give the stages back; nobody writes any more."""
        while self._idle:
            self._idle.pop().close()


def pwritev_all(descriptor: int, offset: int, parts: list[memoryview]) -> None:
    """`pwritev` at most 1,024 views, again and again until all is written. OSError also when there is no progress."""
    left = sum(view.nbytes for view in parts)
    while left:
        written = os.pwritev(descriptor, parts, offset)
        if written <= 0:
            raise OSError(errno.EIO, "a write made no progress")
        offset += written
        left -= written
        if left:
            parts = _behind(parts, written)


def _behind(parts: list[memoryview], written: int) -> list[memoryview]:
    """What is left of `parts` after their first `written` bytes."""
    for index, view in enumerate(parts):
        if written < view.nbytes:
            return [view[written:], *parts[index + 1 :]]
        written -= view.nbytes
    return []
