"""The write side: append to the WAL and the tail cache, acknowledge by flush group. No task, no future per append.

Invariants: a frame enters WAL and tail cache in one step, in offset order per stream; `durable_end` moves only when
the WAL says so; after a WAL failure nothing is acknowledged ever again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from s3stream.errors import Fatal
from s3stream.metrics import EngineMetrics
from s3stream.ports import Done, Wal
from s3stream.stream import Stream
from s3stream.tail_cache import TailCache

Entry = tuple[Stream, int, int, int]
"""(stream, end offset, bytes, how many appends there were with it): what the WAL hands back when a frame is durable."""


class AppendPath:
    """Owns the order of appends, the acknowledgements and the book of un-uploaded bytes."""

    def __init__(
        self,
        tail: TailCache,
        metrics: EngineMetrics,
        on_group: Callable[[], None],
        on_failure: Callable[[Fatal], None],
    ) -> None:
        self._tail = tail
        self._metrics = metrics
        self._on_group, self._on_failure = on_group, on_failure
        self._wal: Wal | None = None
        self._append_frame: Callable[[int, int, int, int, int, memoryview, object], int] = _no_wal
        self._appended = self._durable = 0  # frames so far
        self._acks: deque[tuple[int, Done]] = deque()
        """Who is told when so many frames are durable; the numbers never fall."""
        self._group_since = 0.0
        self._dirty: dict[int, Stream] = {}
        self.tail_bytes = 0
        self.pending_bytes = 0
        """Of the appends that are not durable yet."""
        self.failure: Fatal | None = None

    def attach(self, wal: Wal) -> None:
        """The WAL needs `on_durable` of this object to exist first, so it comes second."""
        self._wal = wal
        self._append_frame = wal.append

    @property
    def attached(self) -> bool:
        return self._wal is not None

    @property
    def wal(self) -> Wal:
        if self._wal is None:
            raise Fatal("no WAL attached yet")
        return self._wal

    @property
    def dirty(self) -> Iterable[Stream]:
        """Streams with bytes that are in no committed object, longest dirty first."""
        return self._dirty.values()

    @property
    def pending(self) -> int:
        """Appends that are not durable yet."""
        return self._appended - self._durable if self.failure is None else 0

    def append(
        self, stream: Stream, payload: memoryview, record_count: int, max_timestamp_ms: int, done: Done | None
    ) -> None:
        """See `Stream.append`. On a stream that is gone nothing is written and `done` gets the reason."""
        if stream.gone is not None:
            if done is not None:
                asyncio.get_running_loop().call_soon(done, stream.gone)
            return
        stream_id = stream.stream_id
        base = stream.next_offset
        end = base + record_count
        size = len(payload)
        before = self._appended
        appended = before + 1
        entry = (stream, end, size, appended)
        lsn = self._append_frame(stream_id, stream.epoch, base, record_count, max_timestamp_ms, payload, entry)
        stream.next_offset = end
        if before == self._durable:
            self._group_since = asyncio.get_running_loop().time()
        self._appended = appended
        if done is not None:
            self._acks.append((appended, done))
        # As `_add_to_tail`, without the call.
        self._tail.append(stream_id, base, end, max_timestamp_ms, lsn, payload)
        self.pending_bytes += size
        if not stream.tail_bytes:
            stream.dirty_since = asyncio.get_running_loop().time()
            self._dirty[stream_id] = stream
        stream.tail_bytes += size
        self.tail_bytes += size
        self._metrics.append_bytes += size

    def after_last(self, done: Done) -> None:
        """Run `done` once everything appended so far, to any stream, is durable; at once if it is."""
        if self.failure is not None:
            done(self.failure)
        elif self._appended > self._durable:
            self._acks.append((self._appended, done))
        else:
            done(None)

    def restore(
        self, stream: Stream, base: int, end: int, max_timestamp_ms: int, lsn: int, payload: memoryview
    ) -> None:
        """Take a frame that recovery found: durable already."""
        self._add_to_tail(stream, base, end, max_timestamp_ms, lsn, payload)
        stream.next_offset = stream.durable_end = end

    def _add_to_tail(
        self, stream: Stream, base: int, end: int, max_timestamp_ms: int, lsn: int, payload: memoryview
    ) -> None:
        self._tail.append(stream.stream_id, base, end, max_timestamp_ms, lsn, payload)
        size = len(payload)
        if not stream.tail_bytes:
            stream.dirty_since = asyncio.get_running_loop().time()
            self._dirty[stream.stream_id] = stream
        stream.tail_bytes += size
        self.tail_bytes += size

    def on_durable(self, group: Sequence[object]) -> None:
        """The WAL's callback: one flush group is durable. Ends first, then `done` in order, then each listener once."""
        if self.failure is not None:
            return
        entries = cast("Sequence[Entry]", group)  # what `append` gave to the WAL
        loop = asyncio.get_running_loop()
        touched: dict[Stream, None] = {}
        acked: list[Done] = []
        durable, settled_bytes = self._durable, 0
        for stream, end, size, number in entries:
            durable += 1
            if number != durable:
                self.fail(Fatal(f"the WAL reports append {number} durable, expected {durable}"))
                return
            settled_bytes += size
            stream.durable_end = end
            if stream.listener is not None or stream.waiters is not None:
                touched[stream] = None
        self.pending_bytes -= settled_bytes
        self._durable = durable
        acks = self._acks
        while acks and acks[0][0] <= durable:
            acked.append(acks.popleft()[1])
        now = loop.time()
        self._metrics.appends = durable
        self._metrics.wal_groups += 1
        self._metrics.wal_group_entries.observe(len(entries))
        self._metrics.ack_seconds.observe(now - self._group_since)
        self._group_since = now
        for stream in touched:
            if stream.waiters is not None:
                acked.extend(_take_reached(stream))
        _call_all(loop, acked, None)
        for stream in touched:
            if stream.listener is not None:
                try:
                    stream.listener.on_durable(stream)
                except Exception as error:  # noqa: BLE001 - a listener's bug must not cost others their acknowledgement
                    _report(loop, f"listener of stream {stream.stream_id}", error)
        self._on_group()

    def fail(self, cause: BaseException) -> None:
        """The WAL cannot promise anything any more: every waiting append gets Fatal, its outcome is unknown."""
        if self.failure is not None:
            return
        self.failure = failure = cause if isinstance(cause, Fatal) else Fatal(f"the WAL failed: {cause!r}")
        self._metrics.wal_failures += 1
        self._on_failure(failure)  # marks every stream as gone before anybody is told
        waiting = [done for _, done in self._acks]
        self._acks.clear()
        self.pending_bytes = 0
        _call_all(asyncio.get_running_loop(), waiting, failure)

    def end_stream(self, stream: Stream, reason: BaseException) -> None:
        """Forget a stream that is deleted, fenced or closed: its waiters get `reason`.

        Appends under way are not waited out: their frames become durable like any other and `done` tells so.
        """
        stream.gone = reason
        if stream.waiters is not None:
            waiting = [done for _, done in stream.waiters]
            stream.waiters = None
            _call_all(asyncio.get_running_loop(), waiting, reason)

    def drop_tail(self, stream: Stream) -> None:
        """The stream's un-uploaded bytes are of no use to anybody any more."""
        self._tail.drop(stream.stream_id)
        if self._dirty.pop(stream.stream_id, None) is not None:
            self.tail_bytes -= stream.tail_bytes
            stream.tail_bytes = 0

    def postpone(self, stream: Stream) -> None:
        """An upload had to leave the stream out: the others come before it in the next one."""
        if self._dirty.pop(stream.stream_id, None) is not None:
            stream.dirty_since = asyncio.get_running_loop().time()
            self._dirty[stream.stream_id] = stream

    def uploaded(self, stream: Stream, end_offset: int, size_bytes: int) -> None:
        """Everything of the stream below `end_offset`, `size_bytes` of batches, is settled by a commit."""
        stream.uploaded_end = end_offset
        self._tail.mark_uploaded(stream.stream_id, end_offset)
        if self._dirty.pop(stream.stream_id, None) is None:
            return
        stream.tail_bytes -= size_bytes
        self.tail_bytes -= size_bytes
        if stream.tail_bytes:
            stream.dirty_since = asyncio.get_running_loop().time()
            self._dirty[stream.stream_id] = stream


def _no_wal(*_: object) -> int:
    raise Fatal("no WAL attached yet")


def _take_reached(stream: Stream) -> list[Done]:
    waiters = stream.waiters or []
    reached = [done for end, done in waiters if end <= stream.durable_end]
    left = [waiter for waiter in waiters if waiter[0] > stream.durable_end]
    stream.waiters = left or None
    return reached


def _call_all(loop: asyncio.AbstractEventLoop, callbacks: Sequence[Done], outcome: BaseException | None) -> None:
    for done in callbacks:
        try:
            done(outcome)
        except Exception as error:  # noqa: BLE001 - one callback's bug must not cost others their answer
            _report(loop, "a durability callback", error)


def _report(loop: asyncio.AbstractEventLoop, who: str, error: BaseException) -> None:
    loop.call_exception_handler({"message": f"{who} raised", "exception": error})
