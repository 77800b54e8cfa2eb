"""Values that the metadata commands take and return. Offsets are half-open, times are wall milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import NamedTuple


class StreamState(IntEnum):
    """CLOSED: no broker appends. OPEN: its owner does, under the stream epoch."""

    CLOSED = 0
    OPEN = 1


class ObjectState(IntEnum):
    """PREPARED: id given, maybe uploaded. COMMITTED: visible. DESTROYED: nothing refers to it, in its grace time.
    DELETING: being removed from the store; forgotten after that."""

    PREPARED = 0
    COMMITTED = 1
    DESTROYED = 2
    DELETING = 3


class Verdict(Enum):
    """What a commit did with the run of one stream. All but COMMITTED mean that its bytes are dead."""

    COMMITTED = "committed"
    DELETED = "deleted"
    BELOW_START = "below_start"
    FENCED = "fenced"


class WalGrant(NamedTuple):
    """The right to append under `wal_epoch`; frames below `trim_lsn` are committed to objects."""

    wal_epoch: int
    trim_lsn: int


class StreamRow(NamedTuple):
    """`end_offset` is the end of what is committed to objects. It is below `start_offset` while a trim ran past it."""

    stream_id: int
    stream_epoch: int
    start_offset: int
    end_offset: int
    size_bytes: int


class RangeRow(NamedTuple):
    """One run of one stream in one object. `[position, position + size_bytes)` are its data blocks; its STATE block is
    at `[state_position, state_position + state_size)` (size 0: none). `flags`: object_format.RANGE_HAS_*.
    `object_size_bytes` is that of the whole object: its footer and index are found from its end."""

    stream_id: int
    start_offset: int
    end_offset: int
    object_id: int
    object_key: str
    position: int
    size_bytes: int
    max_timestamp_ms: int
    flags: int
    records: int
    state_position: int
    state_size: int
    object_size_bytes: int


class RunRange(NamedTuple):
    """A run to commit: a range row to be, and the stream epoch under which its owner appended."""

    stream_id: int
    stream_epoch: int
    start_offset: int
    end_offset: int
    object_id: int
    position: int
    size_bytes: int
    max_timestamp_ms: int
    flags: int
    records: int
    state_position: int
    state_size: int


class NewObject(NamedTuple):
    """An uploaded object to commit. `kind`: object_format.KIND_*."""

    object_id: int
    key: str
    kind: int
    size_bytes: int


class ObjectCommit(NamedTuple):
    """One upload: objects and their runs become visible together and the WAL may be trimmed below `trim_lsn`."""

    broker_id: int
    broker_epoch: int
    wal_epoch: int
    objects: Sequence[NewObject]
    ranges: Sequence[RunRange]
    trim_lsn: int
    now_ms: int


class CommitResult(NamedTuple):
    """`already_done`: an earlier call of the same commit was applied; the verdicts are then looked up afresh."""

    already_done: bool
    verdicts: Mapping[int, Verdict]


class RetentionLimit(NamedTuple):
    """What a stream may keep: rows whose newest record is older than `drop_before_ms` go, and the oldest rows go as
    long as more than `keep_bytes` of committed data would stay. None: no such limit."""

    stream_id: int
    drop_before_ms: int | None
    keep_bytes: int | None


class DoomedObject(NamedTuple):
    """An object to be removed from the store. `key` is "" if it was never committed: its prefix has to be listed."""

    object_id: int
    key: str
    size_bytes: int


class MetaCounts(NamedTuple):
    """Rows and bytes, for metrics. `objects` and `object_bytes` by state."""

    streams: int
    ranges: int
    objects: Mapping[ObjectState, int]
    object_bytes: Mapping[ObjectState, int]
