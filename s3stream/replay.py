"""Decides what of a recovered WAL is still alive: a pure function of its frames and the metadata's stream rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from s3stream.errors import Corrupt
from s3stream.meta.rows import StreamRow
from s3stream.ports import WalRecord


class Replay(NamedTuple):
    """`survivors` keep their order; `tail_ends` is where the log of each of their streams ends."""

    survivors: Sequence[WalRecord]
    tail_ends: Mapping[int, int]
    dropped_deleted: int
    dropped_committed: int


def plan_replay(records: Sequence[WalRecord], rows: Mapping[int, StreamRow]) -> Replay:
    """Drop frames of streams that are not in `rows` (deleted, or no longer ours) and those below the committed end;
    what is left of a stream must go on exactly there and have no gap. Corrupt otherwise: acknowledged data is missing.

    After a trim past the committed end the log may go on anywhere up to the start offset.
    """
    survivors: list[WalRecord] = []
    ends: dict[int, int] = {}
    deleted = committed = 0
    for record in records:
        row = rows.get(record.stream_id)
        if row is None:
            deleted += 1
            continue
        base, end = record.base_offset, record.base_offset + record.record_count
        if record.stream_epoch > row.stream_epoch:
            raise Corrupt(
                f"WAL frame {record.lsn} of stream {record.stream_id} has epoch {record.stream_epoch}, the metadata "
                f"know only {row.stream_epoch}: they are older than the WAL"
            )
        if end <= row.end_offset:
            committed += 1
            continue
        reached = ends.get(record.stream_id)
        low = row.end_offset if reached is None else reached
        high = max(low, row.start_offset) if reached is None else low
        if not low <= base <= high:
            raise Corrupt(
                f"WAL frame {record.lsn} of stream {record.stream_id} covers [{base}, {end}), but the log goes on at "
                f"{low}" + (f" to {high}" if high > low else "")
            )
        survivors.append(record)
        ends[record.stream_id] = end
    return Replay(survivors, ends, deleted, committed)
