"""Commands that take objects out of the world, and the counts that metrics show.

The order of a deletion: DESTROYED (grace) -> `mark_deleting` -> removed from the store -> `forget_objects`. A deleter
that dies in between is followed by another one that finds the same objects again.
"""

from __future__ import annotations

from collections.abc import Sequence

from s3stream.meta.bulk import execute_in, fetch_in, locking
from s3stream.meta.rows import DoomedObject, MetaCounts, ObjectState
from s3stream.ports import Tx


async def drop_expired_prepared(tx: Tx, now_ms: int, limit: int, in_use: Sequence[int] = ()) -> list[int]:
    """Destroy objects that were prepared and not committed in time; their ids, at most `limit`, oldest first. Those
    `in_use` are on their way still, however late: what is put under an id that is forgotten would be an orphan."""
    rows = await tx.fetch(
        "SELECT object_id FROM object WHERE state = 0 AND expires_ms <= $1 ORDER BY expires_ms, object_id LIMIT $2"
        + locking(tx),
        now_ms,
        limit + len(in_use),
    )
    object_ids = sorted([row[0] for row in rows if row[0] not in in_use][:limit])
    await execute_in(
        tx,
        "UPDATE object SET state = $1, destroyed_ms = $2 WHERE object_id IN ({ids})",
        object_ids,
        int(ObjectState.DESTROYED),
        now_ms,
    )
    return object_ids


async def destroyed_objects(tx: Tx, before_ms: int, limit: int) -> list[DoomedObject]:
    """Objects destroyed at or before `before_ms` (now less the grace) and not yet forgotten, oldest first."""
    rows = await tx.fetch(
        "SELECT object_id, object_key, size_bytes FROM object WHERE state >= 2 AND destroyed_ms <= $1"
        " ORDER BY destroyed_ms, object_id LIMIT $2",
        before_ms,
        limit,
    )
    return [DoomedObject(*row) for row in rows]


async def mark_deleting(tx: Tx, object_ids: Sequence[int]) -> list[int]:
    """Announce the removal of destroyed objects; the ids that may be removed from the store now, ascending."""
    ids = sorted(set(object_ids))
    await execute_in(
        tx,
        "UPDATE object SET state = $1 WHERE state = $2 AND object_id IN ({ids})",
        ids,
        int(ObjectState.DELETING),
        int(ObjectState.DESTROYED),
    )
    rows = await fetch_in(
        tx, "SELECT object_id FROM object WHERE state = $1 AND object_id IN ({ids})", ids, int(ObjectState.DELETING)
    )
    return sorted({row[0] for row in rows})


async def forget_objects(tx: Tx, object_ids: Sequence[int]) -> int:
    """Drop the rows of objects whose removal was announced and carried out; how many there were."""
    return await execute_in(
        tx,
        "DELETE FROM object WHERE state = $1 AND object_id IN ({ids})",
        sorted(set(object_ids)),
        int(ObjectState.DELETING),
    )


async def counts(tx: Tx) -> MetaCounts:
    """Counts rows: takes time in proportion to the ranges, so not for every second."""
    streams = int((await tx.fetch("SELECT COUNT(*) FROM stream"))[0][0])
    ranges = int((await tx.fetch("SELECT COUNT(*) FROM object_range"))[0][0])
    objects = dict.fromkeys(ObjectState, 0)
    object_bytes = dict.fromkeys(ObjectState, 0)
    for state, count, size in await tx.fetch("SELECT state, COUNT(*), SUM(size_bytes) FROM object GROUP BY state"):
        objects[ObjectState(state)] = int(count)
        object_bytes[ObjectState(state)] = int(size)
    return MetaCounts(streams, ranges, objects, object_bytes)
