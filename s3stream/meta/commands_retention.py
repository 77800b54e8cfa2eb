"""The command that finds what retention may drop, from range rows alone: no object is read."""

from __future__ import annotations

from collections.abc import Sequence

from s3stream.errors import Invalid
from s3stream.meta.bulk import fetch_in
from s3stream.meta.rows import RetentionLimit
from s3stream.ports import Tx

_PAGE_ROWS = 1000


async def retention_candidates(tx: Tx, limits: Sequence[RetentionLimit]) -> list[tuple[int, int]]:
    """(stream id, new start offset), ascending, for each stream whose oldest ranges are past its limits; nothing is
    changed, the leader trims.

    As Kafka's log cleaner: from the oldest range on, a range goes while its newest record is older than
    `drop_before_ms`, or while at least `keep_bytes` stay without it. A range without timestamps counts by the time of
    its commit. One page of rows per stream and call is looked at; the next call goes on.
    """
    by_stream = {limit.stream_id: limit for limit in limits}
    if len(by_stream) != len(limits):
        raise Invalid("retention_candidates takes each stream once")
    stream_ids = sorted(by_stream)
    rows = await fetch_in(
        tx,
        "SELECT s.stream_id, s.size_bytes, r.size_bytes, r.max_timestamp_ms, o.committed_ms FROM stream s"
        " JOIN object_range r ON r.stream_id = s.stream_id AND r.start_offset ="
        " (SELECT MIN(start_offset) FROM object_range WHERE stream_id = s.stream_id)"
        " JOIN object o ON o.object_id = r.object_id WHERE s.stream_id IN ({ids}) ORDER BY s.stream_id",
        stream_ids,
    )
    candidates = []
    for stream_id, total_bytes, size_bytes, max_timestamp_ms, committed_ms in rows:
        limit = by_stream[stream_id]
        if _goes(limit, total_bytes, size_bytes, max_timestamp_ms, committed_ms):
            candidates.append((stream_id, await _new_start(tx, limit, total_bytes)))
    return candidates


async def _new_start(tx: Tx, limit: RetentionLimit, total_bytes: int) -> int:
    rows = await tx.fetch(
        "SELECT r.end_offset, r.size_bytes, r.max_timestamp_ms, o.committed_ms FROM object_range r"
        " JOIN object o ON o.object_id = r.object_id WHERE r.stream_id = $1 ORDER BY r.start_offset LIMIT $2",
        limit.stream_id,
        _PAGE_ROWS,
    )
    new_start = 0
    for end_offset, size_bytes, max_timestamp_ms, committed_ms in rows:
        if not _goes(limit, total_bytes, size_bytes, max_timestamp_ms, committed_ms):
            break
        new_start = end_offset
        total_bytes -= size_bytes
    return new_start


def _goes(limit: RetentionLimit, total_bytes: int, size_bytes: int, max_timestamp_ms: int, committed_ms: int) -> bool:
    newest_ms = max_timestamp_ms if max_timestamp_ms >= 0 else committed_ms
    too_old = limit.drop_before_ms is not None and newest_ms < limit.drop_before_ms
    too_large = limit.keep_bytes is not None and total_bytes - size_bytes >= limit.keep_bytes
    return too_old or too_large
