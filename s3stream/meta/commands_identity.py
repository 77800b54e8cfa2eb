"""Commands that hand out identity: ids, revisions, broker epochs, WAL epochs; and the checks against them."""

from __future__ import annotations

from s3stream.errors import Fenced, Invalid
from s3stream.meta.bulk import locking
from s3stream.meta.rows import WalGrant
from s3stream.ports import Tx


async def allocate_ids_in(tx: Tx, kind: str, count: int) -> range:
    """`count` fresh ids of a kind, never given out again, from 1 up; an unknown kind starts at 1. Not idempotent, and
    need not be: ids of a lost answer are simply never used."""
    if count < 1:
        raise Invalid(f"allocate_ids needs a count of at least 1, got {count}")
    rows = await tx.fetch(
        "INSERT INTO meta_head (kind, value) VALUES ($1, $2)"
        " ON CONFLICT (kind) DO UPDATE SET value = meta_head.value + excluded.value RETURNING value",
        kind,
        count,
    )
    last = int(rows[0][0])
    return range(last - count + 1, last + 1)


async def next_revision_in(tx: Tx) -> int:
    """The revision of the change that this transaction makes: one above the last."""
    return (await allocate_ids_in(tx, "revision", 1))[0]


async def revision_in(tx: Tx) -> int:
    """The revision of the last committed change."""
    return int((await tx.fetch("SELECT value FROM meta_head WHERE kind = $1", "revision"))[0][0])


async def register_broker(tx: Tx, broker_id: int, incarnation: str, now_ms: int) -> int:
    """A broker epoch above all given so far; it fences the former holder of `broker_id`. Natural key: `incarnation`,
    which a process chooses at random at its start: the same one gets the same epoch again."""
    rows = await tx.fetch("SELECT broker_epoch, incarnation FROM broker WHERE broker_id = $1" + locking(tx), broker_id)
    if rows and rows[0][1] == incarnation:
        return int(rows[0][0])
    (epoch,) = await allocate_ids_in(tx, "broker_epoch", 1)
    await tx.execute(
        "INSERT INTO broker (broker_id, broker_epoch, incarnation, registered_ms) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (broker_id) DO UPDATE SET broker_epoch = excluded.broker_epoch,"
        " incarnation = excluded.incarnation, registered_ms = excluded.registered_ms",
        broker_id,
        epoch,
        incarnation,
        now_ms,
    )
    return epoch


async def check_broker(tx: Tx, broker_id: int, broker_epoch: int) -> None:
    """Fenced unless `broker_epoch` is the current one."""
    rows = await tx.fetch("SELECT broker_epoch FROM broker WHERE broker_id = $1" + locking(tx), broker_id)
    if not rows:
        raise Fenced(f"broker {broker_id} is not registered")
    if rows[0][0] != broker_epoch:
        raise Fenced(f"broker {broker_id} has epoch {rows[0][0]}, the caller has {broker_epoch}")


async def open_wal(tx: Tx, broker_id: int, broker_epoch: int) -> WalGrant:
    """A WAL epoch above all given so far, and the trim point, which outlives epochs. Natural key: the broker epoch."""
    await check_broker(tx, broker_id, broker_epoch)
    rows = await tx.fetch(
        "SELECT broker_epoch, wal_epoch, trim_lsn FROM wal WHERE broker_id = $1" + locking(tx), broker_id
    )
    if rows and rows[0][0] == broker_epoch:
        return WalGrant(rows[0][1], rows[0][2])
    (epoch,) = await allocate_ids_in(tx, "wal_epoch", 1)
    await tx.execute(
        "INSERT INTO wal (broker_id, broker_epoch, wal_epoch, trim_lsn) VALUES ($1, $2, $3, 0)"
        " ON CONFLICT (broker_id) DO UPDATE SET broker_epoch = excluded.broker_epoch, wal_epoch = excluded.wal_epoch",
        broker_id,
        broker_epoch,
        epoch,
    )
    return WalGrant(epoch, int(rows[0][2]) if rows else 0)


async def move_trim_point(tx: Tx, broker_id: int, wal_epoch: int, trim_lsn: int) -> None:
    """Raise the trim point of the WAL to `trim_lsn`; it never moves back. Fenced unless `wal_epoch` is current."""
    rows = await tx.fetch("SELECT wal_epoch, trim_lsn FROM wal WHERE broker_id = $1" + locking(tx), broker_id)
    if not rows or rows[0][0] != wal_epoch:
        current = rows[0][0] if rows else "none"
        raise Fenced(f"the WAL epoch of broker {broker_id} is {current}, the caller has {wal_epoch}")
    if trim_lsn > rows[0][1]:
        await tx.execute("UPDATE wal SET trim_lsn = $2 WHERE broker_id = $1", broker_id, trim_lsn)


async def trim_wal(tx: Tx, broker_id: int, broker_epoch: int, wal_epoch: int, trim_lsn: int) -> None:
    """Raise the trim point without a commit: what lies below is committed or belongs to streams that do not exist any
    more. Natural key: the LSN."""
    await check_broker(tx, broker_id, broker_epoch)
    await move_trim_point(tx, broker_id, wal_epoch, trim_lsn)
