"""What a start found: for the log line and for tests."""

from __future__ import annotations

from typing import NamedTuple


class RecoveryReport(NamedTuple):
    """`frames` came out of the WAL, `survivors` of them (`survivor_bytes`, of `streams` streams) were not in an object
    yet; the others belong to deleted streams or are committed."""

    broker_epoch: int
    wal_epoch: int
    frames: int
    survivors: int
    survivor_bytes: int
    streams: int
    dropped_deleted: int
    dropped_committed: int
    seconds: float
