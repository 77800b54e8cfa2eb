"""What only somebody inside a broker's world can know, as plain values for checkers: durability, metadata, objects.

A simulated world fills them from its devices, an audit from a real database and bucket. Times named `_s` are on the
clock of the history, those named `_ms` on the wall clock of the metadata.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.verify.history import Partition


@dataclass(frozen=True)
class Durable:
    """The records `[start, end)` of a partition were durable from `at_s` on, whoever fails."""

    partition: Partition
    start: int
    end: int
    at_s: float


@dataclass(frozen=True)
class StreamFacts:
    """One stream in the metadata. `epochs`: (first offset, epoch), in order of the offsets."""

    stream_id: int
    epoch: int
    start_offset: int
    end_offset: int
    epochs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class RangeFacts:
    """`[start_offset, end_offset)` of a stream lies in an object."""

    stream_id: int
    start_offset: int
    end_offset: int
    object_id: int


@dataclass(frozen=True)
class ObjectFacts:
    """One object in the metadata. `due_ms`: from then on its row and its bytes may be removed; None while it is live.
    `referable`: it is committed, so that ranges may point to it."""

    object_id: int
    key: str
    size_bytes: int
    references: int
    referable: bool
    due_ms: int | None = None


@dataclass(frozen=True)
class CommitFacts:
    """An object was committed at `at_s`; its bytes were in the bucket from `stored_s` on, None: never."""

    object_id: int
    at_s: float
    stored_s: float | None


@dataclass(frozen=True)
class RemovalFacts:
    """A dead object was released for removal at `at_ms`; nothing referred to it from `destroyed_ms` on."""

    object_id: int
    destroyed_ms: int
    at_ms: int


@dataclass(frozen=True)
class StoredFacts:
    """One key in the bucket. `problem`: why its content does not verify, empty for good ones. `runs`: (stream id,
    first offset, end offset) of what it holds. `excused`: the world put it there behind everybody's back."""

    key: str
    size_bytes: int
    problem: str = ""
    runs: tuple[tuple[int, int, int], ...] = ()
    excused: bool = False


@dataclass(frozen=True)
class EpochUse:
    """Something that is only allowed under the newest epoch of `resource` was granted under `epoch`."""

    resource: str
    epoch: int
    invoked_s: float
    ended_s: float


@dataclass(frozen=True)
class Usage:
    """`used` of a resource whose declared ceiling is `limit`, at one moment."""

    resource: str
    used: int
    limit: int
    at_s: float
