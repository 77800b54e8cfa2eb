"""How far to read ahead, per reader: a window that doubles while it is used and halves when it was for nothing.

A fetch carries no reader identity, so a reader is recognised by where it goes on: the one whose last read ended at the
offset that is asked for now. Streams remember a few readers each; a new offset replaces the one idle for longest.
"""

from __future__ import annotations

MAX_READERS = 8


class ReadAhead:
    """One sequential reader of one stream."""

    __slots__ = ("_max_bytes", "_min_bytes", "ahead_until", "next_offset", "trigger_offset", "window_bytes")

    def __init__(self, next_offset: int, min_bytes: int, max_bytes: int) -> None:
        self.next_offset = next_offset
        self.ahead_until = next_offset  # data below this offset was asked for already
        self.trigger_offset = next_offset  # a reader that gets here makes the next window start to load
        self._min_bytes, self._max_bytes = min_bytes, max_bytes
        self.window_bytes = min_bytes

    def asked(self, begin: int, until: int) -> None:
        """A read-ahead of one window, offsets `[begin, until)`, is on its way: the next one, asked for when the reader
        enters this one, is twice as large."""
        self.trigger_offset = begin
        self.ahead_until = max(self.ahead_until, until)
        self.window_bytes = min(self._max_bytes, self.window_bytes * 2)

    def wasted(self) -> None:
        """A block was evicted before it was read: the window was too large for the cache."""
        self.window_bytes = max(self._min_bytes, self.window_bytes // 2)


class Readers:
    """The readers of one stream that are remembered, least recently active first."""

    __slots__ = ("_max_bytes", "_min_bytes", "_readers")

    def __init__(self, min_bytes: int, max_bytes: int) -> None:
        self._readers: list[ReadAhead] = []
        self._min_bytes, self._max_bytes = min_bytes, max_bytes

    def at(self, offset: int) -> tuple[ReadAhead, bool]:
        """The reader that goes on at `offset`, and whether it is a known one; else a new one."""
        for number, reader in enumerate(self._readers):
            if reader.next_offset == offset:
                del self._readers[number]
                self._readers.append(reader)
                return reader, True
        reader = ReadAhead(offset, self._min_bytes, self._max_bytes)
        self._readers.append(reader)
        if len(self._readers) > MAX_READERS:
            del self._readers[0]
        return reader, False
