"""`Stream`: one append-only offset space as its owner sees it. Light: ten thousand idle ones cost a few MB in all."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from s3stream.errors import Invalid, OffsetOutOfRange
from s3stream.ports import Done

if TYPE_CHECKING:
    from s3stream.append_path import AppendPath
    from s3stream.read import Reader
    from s3stream.read_time import TimestampHit
    from s3stream.trim import Trimmer


class StreamListener(Protocol):
    """Who follows a stream: the broker's log, while somebody watches it."""

    def on_durable(self, stream: Stream) -> None:
        """`durable_end` moved; called once per flush group, after the `done` callbacks of the group."""
        ...

    def on_trimmed(self, stream: Stream) -> None:
        """`start_offset` moved."""
        ...


class Stream:
    """Offsets are half-open: `start_offset` <= readable < `durable_end` <= `next_offset`.

    `uploaded_end` is the end of what is committed to objects; what lies at or above it is in the WAL and in the tail
    cache, always. Invariants: `uploaded_end` <= `durable_end` <= `next_offset`, all three never go back while the
    stream is open. `start_offset` may be ahead of `uploaded_end` after a trim.
    """

    __slots__ = (
        "_appends",
        "_reads",
        "_trims",
        "committed_bytes",
        "dirty_since",
        "durable_end",
        "epoch",
        "gone",
        "listener",
        "next_offset",
        "start_offset",
        "stream_id",
        "tail_bytes",
        "uploaded_end",
        "waiters",
    )

    def __init__(
        self,
        stream_id: int,
        epoch: int,
        start_offset: int,
        end_offset: int,
        committed_bytes: int,
        appends: AppendPath,
        reads: Reader,
        trims: Trimmer,
    ) -> None:
        self.stream_id = stream_id
        self.epoch = epoch
        self.start_offset = start_offset
        self.uploaded_end = end_offset
        # A trim may have run past everything that was ever written: the log goes on at the start.
        self.durable_end = self.next_offset = max(start_offset, end_offset)
        self.committed_bytes = committed_bytes
        self.tail_bytes = 0
        self.dirty_since = 0.0
        self.listener: StreamListener | None = None
        self.waiters: list[tuple[int, Done]] | None = None
        self.gone: BaseException | None = None
        """Why nothing is appended or read any more: deleted, fenced, engine closed or failed."""
        self._appends = appends
        self._reads = reads
        self._trims = trims

    def __repr__(self) -> str:
        return (
            f"Stream({self.stream_id}, epoch {self.epoch}, [{self.start_offset}, {self.next_offset}), "
            f"uploaded {self.uploaded_end}, durable {self.durable_end})"
        )

    @property
    def size_bytes(self) -> int:
        """Committed bytes and those of the tail."""
        return self.committed_bytes + self.tail_bytes

    def append(self, payload: memoryview, record_count: int, max_timestamp_ms: int, done: Done | None) -> None:
        """Queue one whole RecordBatch v2 that covers `[next_offset, next_offset + record_count)`.

        The caller has written the base offset into it and must not change it any more. Never refuses after the
        engine's `admit()`; `done(None)` runs when it is durable, `done(error)` when that will never be known.
        """
        self._appends.append(self, payload, record_count, max_timestamp_ms, done)

    def after_last(self, done: Done) -> None:
        """Run `done` once everything that was appended so far, to this and any other stream, is durable; at once if it
        is. Cheaper than `when_durable` for one that has just appended to many streams."""
        self._appends.after_last(done)

    def when_durable(self, end_offset: int, done: Done) -> None:
        """Run `done` once everything below `end_offset` is durable; at once if it is, or if the stream is gone."""
        if end_offset <= self.durable_end:
            done(None)
        elif self.gone is not None:
            done(self.gone)
        elif end_offset > self.next_offset:
            raise Invalid(f"{self!r} has nothing at {end_offset - 1} to wait for")
        elif self.waiters is None:
            self.waiters = [(end_offset, done)]
        else:
            self.waiters.append((end_offset, done))

    def check_readable(self, offset: int) -> None:
        """OffsetOutOfRange below the start or above the end; what ended the stream if it is gone."""
        if self.gone is not None:
            raise self.gone
        if not self.start_offset <= offset <= self.next_offset:
            raise OffsetOutOfRange(f"offset {offset} is outside of [{self.start_offset}, {self.next_offset}]")

    def read_hot(self, offset: int, max_bytes: int, below: int) -> list[memoryview] | None:
        """As `read`, from memory and at once; None when memory cannot tell (then `read` can)."""
        return self._reads.read_hot(self, offset, max_bytes, below)

    def read(self, offset: int, max_bytes: int, below: int) -> Coroutine[Any, Any, list[memoryview]]:
        """Whole batches, one per view, from the first whose last offset is at or after `offset`.

        They end at or before `below` (the caller's high watermark or last stable offset) and have `max_bytes` in all,
        but the first one is returned whatever its size. May return less than there is; empty only if no batch ends
        in `(offset, below]`. Errors: OffsetOutOfRange, Corrupt, Retry (store or metadata not answering).
        """
        return self._reads.read(self, offset, max_bytes, below)

    def load_state(self) -> Coroutine[Any, Any, tuple[bytes | None, list[memoryview]]]:
        """The owner's state at `uploaded_end` and the batches after it, one per view."""
        return self._reads.load_state(self)

    def offset_for_timestamp(
        self, timestamp_ms: int, from_offset: int | None = None, below: int | None = None
    ) -> Coroutine[Any, Any, TimestampHit | None]:
        """The first batch at or after `from_offset` (default: the start) with a max timestamp of at least that.

        The record itself is the caller's to find inside the batch; one that lies below `start_offset` or `from_offset`
        does not count: ask again from the batch's end. `below` defaults to `durable_end`.
        """
        return self._reads.times.offset_for_timestamp(self, timestamp_ms, from_offset, below)

    def max_timestamp(self, below: int | None = None) -> Coroutine[Any, Any, TimestampHit | None]:
        """The first batch that holds the largest timestamp; None when there is no batch."""
        return self._reads.times.max_timestamp(self, below)

    def move_start(self, start_offset: int) -> None:
        """The metadata has it that the stream begins there; it never goes back."""
        if start_offset > self.start_offset:
            self.start_offset = start_offset
            if self.listener is not None:
                self.listener.on_trimmed(self)

    def trim(self, start_offset: int) -> Coroutine[Any, Any, None]:
        """Make everything below `start_offset` (at most `durable_end`) unreadable for good; idempotent."""
        return self._trims.trim(self, start_offset)

    def epochs(self) -> Coroutine[Any, Any, list[tuple[int, int]]]:
        """(stream epoch, start offset), ascending: the leader-epoch history."""
        return self._trims.epochs(self)
