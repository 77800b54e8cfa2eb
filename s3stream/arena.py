"""The receive memory of a broker: recycled, pre-faulted chunks that requests are received into.

One copy of a batch serves the whole process: the slice that the socket filled is what the tail cache holds, the WAL
writes and the upload sends. So nobody can say when it is "done with"; a chunk goes back into use when no memoryview of
it exists any more, and Python itself knows that: each use of a chunk has an exporter object of its own, every view and
slice of a view keeps it alive, and its weak reference calls back at its end (on whatever thread drops the last view).

Invariants: a chunk is never handed out again while a view of its former use lives; the chunks that exist never exceed
`max_bytes` (a request above the chunk size has a chunk of its own, which is returned to the system after use). Free
chunks are kept for the next round, since pages that were faulted in cost as much as the bytes that are received into
them; those that no round needs go back to the system by `release_idle`. One small long-lived view holds its
whole chunk: whoever keeps views for long evicts the oldest first.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections import deque
from typing import Final

from s3stream.errors import Invalid, Retry

_ALIGNMENT: Final = 16
_PAGE: Final = mmap.PAGESIZE
_POPULATE: Final = getattr(mmap, "MAP_POPULATE", 0)  # Linux; elsewhere the first use of a page faults it in


class Arena:
    """Allocates writable memoryviews (format B) from chunks of `chunk_size_bytes`, at most `max_bytes` of them in all.

    `spare_bytes` bounds the free chunks that are kept for recycling; beyond that they go back to the system.
    """

    def __init__(self, chunk_size_bytes: int, max_bytes: int, spare_bytes: int | None = None) -> None:
        if chunk_size_bytes < _PAGE or chunk_size_bytes % _PAGE:
            raise Invalid(f"an arena chunk is a multiple of {_PAGE} bytes, not {chunk_size_bytes}")
        if max_bytes < chunk_size_bytes:
            raise Invalid(f"an arena of at most {max_bytes} bytes cannot hold one chunk of {chunk_size_bytes}")
        self.chunk_size_bytes = chunk_size_bytes
        self.max_bytes = max_bytes
        self.chunks_made = 0
        self.chunks_recycled = 0
        self._max_spares = (max_bytes if spare_bytes is None else spare_bytes) // chunk_size_bytes
        self._spares: deque[mmap.mmap] = deque()
        self._fewest_spares = 0
        # By the identity of the weak reference to a use's exporter, which it keeps: exporters cannot be hashed.
        self._uses: dict[int, tuple[weakref.ref[object], mmap.mmap]] = {}
        self._large: dict[int, tuple[weakref.ref[object], int]] = {}  # its bytes; the chunk goes with its exporter
        self._view: memoryview = memoryview(b"")
        self._position = 0
        self._end = 0

    # -- what lives

    @property
    def in_use_bytes(self) -> int:
        """Bytes of the chunks that hold at least one view, the one that allocations come from included."""
        in_use = len(self._uses) * self.chunk_size_bytes
        if self._large:
            # A copy first: another thread may end a use meanwhile.
            in_use += sum([size for _, size in list(self._large.values())])
        return in_use

    @property
    def spare_bytes(self) -> int:
        """Bytes of the free chunks that are kept."""
        return len(self._spares) * self.chunk_size_bytes

    def has_room(self, size: int) -> bool:
        """Whether `allocate(size)` would succeed now."""
        if self._position + size <= self._end:
            return True
        return self.in_use_bytes - self._idle_current() + _whole_chunks(size, self.chunk_size_bytes) <= self.max_bytes

    # -- allocation

    def allocate(self, size: int) -> memoryview:
        """`size` writable bytes with any content. Retry when all chunks are in use: stop reading until some are not."""
        start = self._position
        end = start + size
        if end <= self._end:
            self._position = (end + _ALIGNMENT - 1) & -_ALIGNMENT
            return self._view[start:end]
        if size > self.chunk_size_bytes:
            return self._open(_whole_chunks(size, self.chunk_size_bytes))[:size]
        self._replace_current()
        self._position = (size + _ALIGNMENT - 1) & -_ALIGNMENT
        return self._view[:size]

    def reserve(self, min_size: int) -> memoryview:
        """All that is left of the current chunk, at least `min_size` (at most a chunk): receive into it, then `commit`.

        Nothing is allocated by it: the next `allocate` or `reserve` hands out the same bytes unless `commit` kept some.
        """
        if min_size > self.chunk_size_bytes:
            raise Invalid(f"cannot reserve {min_size} bytes in chunks of {self.chunk_size_bytes}")
        if self._end - self._position < min_size:
            self._replace_current()
        return self._view[self._position : self._end]

    def commit(self, reserved: memoryview, used: int) -> None:
        """Keep the first `used` bytes of the latest `reserve` as allocated.

        Does nothing for a view of a chunk that has been replaced since: it keeps that one alive by itself. Invalid if
        the bytes were handed out a second time between the two calls.
        """
        if reserved.obj is not self._view.obj or not used:
            return
        start = self._end - len(reserved)
        if start != self._position or used > len(reserved):
            raise Invalid(
                f"commit of {used} bytes at {start}: the arena has moved on to {self._position} since reserve"
            )
        self._position = (start + used + _ALIGNMENT - 1) & -_ALIGNMENT

    def shrink(self, view: memoryview, size: int) -> memoryview:
        """The first `size` bytes of `view`; the rest is given back if `view` is the latest allocation.

        The caller drops `view` and every slice of its tail.
        """
        if size > len(view):
            raise Invalid(f"cannot shrink {len(view)} bytes to {size}")
        kept = view[:size]
        if view.obj is self._view.obj and self._position:
            start = self._position - ((len(view) + _ALIGNMENT - 1) & -_ALIGNMENT)
            # The latest allocation begins exactly where the position would be without it.
            if start >= 0 and len(view) and _address(self._view[start : start + 1]) == _address(view):
                self._position = (start + size + _ALIGNMENT - 1) & -_ALIGNMENT
        return kept

    def release_idle(self) -> None:
        """Called now and then: half of the chunks that were free all the time since the last call go back."""
        idle = min(self._fewest_spares, len(self._spares))
        for _ in range((idle + 1) // 2):
            self._spares.popleft()
        self._fewest_spares = len(self._spares)

    def close(self) -> None:
        """Give back what is free. Views that live stay valid."""
        self._view = memoryview(b"")
        self._position = self._end = 0
        self._max_spares = 0
        self._spares.clear()

    # -- chunks

    def _replace_current(self) -> None:
        # Dropped first: if nobody else has a view of it, the very same chunk comes back.
        self._view = memoryview(b"")
        self._position = self._end = 0
        self._view = self._open(self.chunk_size_bytes)
        self._end = len(self._view)

    def _idle_current(self) -> int:
        """Bytes of the current chunk if dropping it would free it: nothing was allocated from it."""
        return self._end if self._position == 0 else 0

    def _open(self, size: int) -> memoryview:
        """A whole chunk under a new use."""
        chunk = None
        if size == self.chunk_size_bytes and self._spares:
            chunk = self._spares.pop()  # the latest: its pages may still be in the processor's cache
            self.chunks_recycled += 1
            if len(self._spares) < self._fewest_spares:
                self._fewest_spares = len(self._spares)
        else:
            while self._spares and self.in_use_bytes + self.spare_bytes + size > self.max_bytes:
                self._spares.popleft()
            in_use = self.in_use_bytes
            if in_use + size > self.max_bytes:
                raise Retry(f"the arena is full: {in_use} of {self.max_bytes} bytes in use, {size} more needed")
            chunk = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _POPULATE)
            self.chunks_made += 1
        exporter = (ctypes.c_char * size).from_buffer(chunk)
        use: weakref.ref[object] = weakref.ref(exporter, self._ended)
        if size == self.chunk_size_bytes:
            self._uses[id(use)] = use, chunk
        else:
            self._large[id(use)] = use, size
        return memoryview(exporter).cast("B")

    def _ended(self, use: weakref.ref[object]) -> None:
        """No view of that use exists any more. May run on any thread, at any allocation: atomic steps only."""
        ended = self._uses.pop(id(use), None)
        if ended is None:
            del self._large[id(use)]
        elif len(self._spares) < self._max_spares:
            self._spares.append(ended[1])


def _whole_chunks(size: int, chunk_size: int) -> int:
    """Bytes of the chunk that an allocation of `size` opens."""
    return chunk_size if size <= chunk_size else (size + _PAGE - 1) // _PAGE * _PAGE


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
