"""Commands on streams: create, open, close, trim, delete, and the rows that a leader reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from s3stream.errors import Fenced, NotFound
from s3stream.meta.bulk import execute_in, fetch_in, locking
from s3stream.meta.commands_identity import check_broker
from s3stream.meta.rows import ObjectState, RangeRow, StreamRow, StreamState
from s3stream.ports import Tx

_RANGE_COLUMNS = (
    "SELECT r.stream_id, r.start_offset, r.end_offset, r.object_id, o.object_key, r.position, r.size_bytes,"
    " r.max_timestamp_ms, r.flags, r.records, r.state_position, r.state_size, o.size_bytes"
    " FROM object_range r JOIN object o ON o.object_id = r.object_id"
)
_NO_OWNER = -1


async def create_streams_in(tx: Tx, stream_ids: Sequence[int]) -> None:
    """New empty streams, closed, epoch 0. An existing one stays as it is."""
    await tx.execute_many(
        "INSERT INTO stream (stream_id, stream_epoch, state, owner_id, owner_epoch, start_offset, end_offset,"
        " size_bytes) VALUES ($1, 0, $2, $3, 0, 0, 0, 0) ON CONFLICT (stream_id) DO NOTHING",
        [(stream_id, int(StreamState.CLOSED), _NO_OWNER) for stream_id in stream_ids],
    )


async def open_streams(
    tx: Tx, broker_id: int, broker_epoch: int, stream_ids: Sequence[int], tail_ends: Mapping[int, int]
) -> list[StreamRow]:
    """Make the broker the owner, each stream under an epoch one higher; ascending rows of those that exist.

    `tail_ends` gives the end of what the caller holds durably beyond the committed end (its WAL tail): the new epoch
    starts there in the epoch history, where it replaces what began there or later: epochs that got no record, one of a
    start that died before it had made durable afresh what it had found. Natural key: the broker epoch; a stream that is
    already open under it keeps its stream epoch.
    """
    await check_broker(tx, broker_id, broker_epoch)
    rows = await fetch_in(
        tx,
        "SELECT stream_id, stream_epoch, start_offset, end_offset, size_bytes, state, owner_id, owner_epoch"
        " FROM stream WHERE stream_id IN ({ids}) ORDER BY stream_id" + locking(tx),
        sorted(set(stream_ids)),
    )
    opened: list[StreamRow] = []
    updates: list[tuple[int, int, int, int, int]] = []
    history: list[tuple[int, int, int]] = []
    owned = (int(StreamState.OPEN), broker_id, broker_epoch)
    for stream_id, epoch, start, end, size_bytes, state, owner_id, owner_epoch in rows:
        if (state, owner_id, owner_epoch) != owned:
            epoch += 1
            updates.append((stream_id, epoch, *owned))
            history.append((stream_id, max(start, end, tail_ends.get(stream_id, 0)), epoch))
        opened.append(StreamRow(stream_id, epoch, start, end, size_bytes))
    await tx.execute_many(
        "UPDATE stream SET stream_epoch = $2, state = $3, owner_id = $4, owner_epoch = $5 WHERE stream_id = $1", updates
    )
    await tx.execute_many(
        "DELETE FROM stream_epoch WHERE stream_id = $1 AND start_offset >= $2",
        [(stream_id, start) for stream_id, start, _ in history],
    )
    await tx.execute_many(
        "INSERT INTO stream_epoch (stream_id, start_offset, stream_epoch) VALUES ($1, $2, $3)", history
    )
    return opened


async def close_streams(tx: Tx, broker_id: int, broker_epoch: int, stream_ids: Sequence[int]) -> int:
    """Close those that this broker has open, return how many; the others are left alone."""
    await check_broker(tx, broker_id, broker_epoch)
    return await execute_in(
        tx,
        "UPDATE stream SET state = $1 WHERE state = $2 AND owner_id = $3 AND owner_epoch = $4 AND stream_id IN ({ids})",
        sorted(set(stream_ids)),
        int(StreamState.CLOSED),
        int(StreamState.OPEN),
        broker_id,
        broker_epoch,
    )


async def trim_stream(tx: Tx, stream_id: int, stream_epoch: int, new_start: int, now_ms: int) -> int:
    """Move the start up to `new_start` (never back, also beyond the committed end) and return the start.

    Ranges that end at or below it go, but for the last one of the stream if it holds its state: that range stays, of no
    bytes to the stream, until a commit brings the next state (an idempotent producer goes on after all of its records
    were deleted). Objects that lose their last range are destroyed as of `now_ms`. NotFound for a deleted stream,
    Fenced for an epoch that is not the current one.
    """
    rows = await tx.fetch(
        "SELECT stream_epoch, start_offset, end_offset FROM stream WHERE stream_id = $1" + locking(tx), stream_id
    )
    if not rows:
        raise NotFound(f"stream {stream_id} does not exist")
    if rows[0][0] != stream_epoch:
        raise Fenced(f"stream {stream_id} has epoch {rows[0][0]}, the caller has {stream_epoch}")
    _, old_start, end = rows[0]
    if new_start <= old_start:
        return int(old_start)
    passed = await tx.fetch(
        "SELECT COALESCE(SUM(size_bytes), 0) FROM object_range"
        " WHERE stream_id = $1 AND start_offset < $2 AND end_offset <= $2 AND end_offset > $3",
        stream_id,
        new_start,
        old_start,
    )
    await tx.execute(
        "UPDATE stream SET start_offset = $2, size_bytes = size_bytes - $3 WHERE stream_id = $1",
        stream_id,
        new_start,
        int(passed[0][0]),
    )
    await drop_ranges_in(
        tx,
        " WHERE stream_id = $1 AND start_offset < $2 AND end_offset <= $2 AND (end_offset < $3 OR state_size = 0)",
        (stream_id, new_start, end),
        now_ms,
    )
    await tx.execute(
        "DELETE FROM stream_epoch WHERE stream_id = $1 AND start_offset < (SELECT MAX(start_offset) FROM stream_epoch"
        " WHERE stream_id = $1 AND start_offset <= $2)",
        stream_id,
        new_start,
    )
    return new_start


async def drop_ranges_in(tx: Tx, where: str, args: Sequence[Any], now_ms: int) -> None:
    """Delete the ranges that `where` chooses; objects that lose their last one are destroyed as of `now_ms`."""
    dead = await tx.fetch(f"SELECT object_id, COUNT(*) FROM object_range{where} GROUP BY object_id", *args)
    if dead:
        await tx.execute(f"DELETE FROM object_range{where}", *args)
        await _drop_refs(tx, dead, now_ms)


async def delete_streams_in(tx: Tx, stream_ids: Sequence[int], now_ms: int) -> int:
    """Forget streams with their ranges and epochs, return how many there were; missing ones are not an error. Objects
    that lose their last range are destroyed as of `now_ms`."""
    ids = sorted(set(stream_ids))
    await fetch_in(tx, "SELECT stream_id FROM stream WHERE stream_id IN ({ids}) ORDER BY stream_id" + locking(tx), ids)
    dead = await fetch_in(
        tx, "SELECT object_id, COUNT(*) FROM object_range WHERE stream_id IN ({ids}) GROUP BY object_id", ids
    )
    await execute_in(tx, "DELETE FROM object_range WHERE stream_id IN ({ids})", ids)
    await execute_in(tx, "DELETE FROM stream_epoch WHERE stream_id IN ({ids})", ids)
    deleted = await execute_in(tx, "DELETE FROM stream WHERE stream_id IN ({ids})", ids)
    await _drop_refs(tx, dead, now_ms)
    return deleted


async def _drop_refs(tx: Tx, dead: Sequence[tuple[Any, ...]], now_ms: int) -> None:
    """`dead`: rows of (object id, dead ranges, ...), an object possibly several times."""
    counts: dict[int, int] = {}
    for row in dead:
        counts[row[0]] = counts.get(row[0], 0) + int(row[1])
    object_ids = sorted(counts)
    await tx.execute_many(
        "UPDATE object SET refs = refs - $2 WHERE object_id = $1", [(key, counts[key]) for key in object_ids]
    )
    await execute_in(
        tx,
        "UPDATE object SET state = $1, destroyed_ms = $2 WHERE state = $3 AND refs = 0 AND object_id IN ({ids})",
        object_ids,
        int(ObjectState.DESTROYED),
        now_ms,
        int(ObjectState.COMMITTED),
    )


async def epochs(tx: Tx, stream_id: int) -> list[tuple[int, int]]:
    """(stream epoch, its start offset), ascending; the first may start below the stream's start."""
    return [
        (epoch, start)
        for epoch, start in await tx.fetch(
            "SELECT stream_epoch, start_offset FROM stream_epoch WHERE stream_id = $1 ORDER BY start_offset", stream_id
        )
    ]


async def stream_rows(tx: Tx, stream_ids: Sequence[int]) -> list[StreamRow]:
    """Ascending rows of those that exist."""
    return [
        StreamRow(*row)
        for row in await fetch_in(
            tx,
            "SELECT stream_id, stream_epoch, start_offset, end_offset, size_bytes FROM stream"
            " WHERE stream_id IN ({ids}) ORDER BY stream_id",
            sorted(set(stream_ids)),
        )
    ]


async def range_rows(tx: Tx, stream_id: int, from_offset: int, limit: int) -> list[RangeRow]:
    """The range that contains `from_offset` and those after it, ascending, at most `limit`."""
    rows = await tx.fetch(
        _RANGE_COLUMNS + " WHERE r.stream_id = $1 AND r.end_offset > $2 AND r.start_offset >= COALESCE("
        "(SELECT MAX(start_offset) FROM object_range WHERE stream_id = $1 AND start_offset <= $2), 0)"
        " ORDER BY r.start_offset LIMIT $3",
        stream_id,
        from_offset,
        limit,
    )
    return [RangeRow(*row) for row in rows]
