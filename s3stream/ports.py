"""The ports of the storage engine: what it needs from outside. Adapters live in `wal/`, `stores/` and `meta/`.

Everything that is not deterministic comes through here, so that the unmodified engine runs in a simulated world:
timers through the running event loop, wall time through `Clock`, randomness through a `random.Random`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from typing_extensions import Buffer

T = TypeVar("T")


class Clock(Protocol):
    """Wall time. Never used to order or to fence, only for timestamps, retention and leases."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""
        ...


class ObjectInfo(NamedTuple):
    key: str
    size_bytes: int
    modified_ms: int


class ObjectStore(Protocol):
    """A bucket. Each call has a time-out inside the adapter and raises only the kinds in `errors`.

    Retry = not applied, OutcomeUnknown = maybe applied (writes only), NotFound, AlreadyExists, Invalid (refused for
    good: credentials, bucket, key).
    """

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        """Store the concatenation of `body` under `key`, whole or not at all; the buffers must not change meanwhile.

        With `if_absent` a taken key raises AlreadyExists. Large bodies may be sent in parts by the adapter, unless
        `if_absent` (always one part).
        """
        ...

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """Bytes `[start, end)` of the object; a range past the end is PastEnd, a short answer of the store Retry."""
        ...

    def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Pages of objects in key order."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove the keys; a missing one is not an error."""
        ...

    async def close(self) -> None: ...


Done = Callable[[BaseException | None], None]
"""Called on the event loop with None, or with the error."""


class WalDevice(Protocol):
    """Numbered segment files of one fixed size, and a durable write. All calls come from the event loop."""

    segment_size_bytes: int

    async def list_segments(self) -> Sequence[int]:
        """Numbers of the existing segments, ascending."""
        ...

    async def read_segment(self, number: int, size_bytes: int | None = None) -> Buffer:
        """The content of a segment, all of it or its first `size_bytes`, for recovery."""
        ...

    async def create_segment(self, number: int) -> None:
        """Make segment `number`: full size, every block written (recycled content allowed), entry durable."""
        ...

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        """Write the buffers one after the other at `offset` and make them durable (fdatasync), then call `done`.

        The owner keeps at most one write under way. `done(error)` is final: a failed sync is never retried.
        """
        ...

    async def remove_segments(self, numbers: Sequence[int]) -> None:
        """Give segments back for recycling or delete them."""
        ...

    async def close(self) -> None: ...


class WalRecord(NamedTuple):
    """One frame as recovery returns it. `payload` is one whole RecordBatch v2 (or what the caller appended)."""

    lsn: int
    stream_id: int
    stream_epoch: int
    base_offset: int
    record_count: int
    max_timestamp_ms: int
    payload: memoryview


class Wal(Protocol):
    """The write-ahead log of one broker: all streams mixed, one order. See `wal/file_wal.py` for the file form.

    Life: construct, `recover()` once (returns what is not yet trimmed), `begin(wal_epoch, survivors)` which makes the
    survivors durable afresh under the new epoch, then `append` for ever. LSNs rise by one per frame and never repeat
    across epochs.
    """

    max_payload_bytes: int
    """A larger payload fits nowhere: whoever appends refuses it before it gets an offset."""

    async def recover(self, trim_lsn: int) -> Sequence[WalRecord]:
        """Every acknowledged frame at or above `trim_lsn`, in LSN order. Corrupt when one of them does not verify."""
        ...

    async def begin(self, wal_epoch: int, survivors: Sequence[WalRecord]) -> Sequence[int]:
        """Rewrite `survivors` under `wal_epoch` in fresh segments, seal, sync, drop older epochs; their new LSNs."""
        ...

    def free_bytes(self) -> int:
        """Payload bytes that `append` surely takes now; the caller refuses more before it assigns an offset."""
        ...

    def append(
        self,
        stream_id: int,
        stream_epoch: int,
        base_offset: int,
        record_count: int,
        max_timestamp_ms: int,
        payload: memoryview,
        entry: object,
    ) -> int:
        """Queue one frame, return its LSN; when its group is durable, `on_durable(entries of the group)` runs.

        Never waits and never refuses once `free_bytes` allowed it. `payload` must not change until durable.
        """
        ...

    def trim(self, lsn: int) -> None:
        """Frames below `lsn` are no longer needed: whole segments below it are recycled (after their grace)."""
        ...

    def next_lsn(self) -> int: ...

    def durable_lsn(self) -> int:
        """The highest LSN known durable (0 = none)."""
        ...

    async def close(self) -> None:
        """Sync what is queued and stop."""
        ...


class Tx(Protocol):
    """One open transaction. Placeholders are `$1`, `$2`, ... in every dialect; rows are tuples."""

    dialect: str  # "sqlite" or "postgresql"

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]: ...

    async def execute(self, sql: str, *args: Any) -> int:
        """Rows affected."""
        ...

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None: ...


class Database(Protocol):
    """Runs commands, each in one transaction. A command is `async def command(tx, *args)`: a deterministic function
    of the database and its arguments that awaits nothing but `tx`. (SQLite drives it to its end on its writer
    thread in one hop.)"""

    async def transact(self, command: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Result of the committed command. Retry = rolled back; OutcomeUnknown = maybe committed: repeat it, commands
        are idempotent by a natural key."""
        ...

    async def migrate(self, package: str, migrations: Sequence[str]) -> None:
        """Apply the forward-only migrations of one package that this database has not seen yet, in order."""
        ...

    async def now_ms(self) -> int:
        """The database's own clock (leases only)."""
        ...

    async def close(self) -> None: ...
