"""`MetaStore`: the engine's metadata commands on any `Database`; every method is one idempotent transaction.

Errors: those of the command (its docstring), and `Retry` or `OutcomeUnknown` of the database: repeat the same call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3stream.meta import commands_gc as gc
from s3stream.meta import commands_identity as identity
from s3stream.meta import commands_objects as objects
from s3stream.meta import commands_retention as retention
from s3stream.meta import commands_streams as streams
from s3stream.meta.migrations import MIGRATIONS, PACKAGE
from s3stream.meta.rows import (
    CommitResult,
    DoomedObject,
    MetaCounts,
    ObjectCommit,
    RangeRow,
    RetentionLimit,
    StreamRow,
    WalGrant,
)
from s3stream.ports import Database


class MetaStore:
    """The docstrings are those of the commands in `commands_*.py`; arguments are passed through."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def migrate(self) -> None:
        """Bring the engine's own tables up to this code's schema; call once before anything else."""
        await self.db.migrate(PACKAGE, MIGRATIONS)

    async def register_broker(self, broker_id: int, incarnation: str, now_ms: int) -> int:
        return await self.db.transact(identity.register_broker, broker_id, incarnation, now_ms)

    async def open_wal(self, broker_id: int, broker_epoch: int) -> WalGrant:
        return await self.db.transact(identity.open_wal, broker_id, broker_epoch)

    async def trim_wal(self, broker_id: int, broker_epoch: int, wal_epoch: int, trim_lsn: int) -> None:
        await self.db.transact(identity.trim_wal, broker_id, broker_epoch, wal_epoch, trim_lsn)

    async def allocate_ids(self, kind: str, count: int) -> range:
        return await self.db.transact(identity.allocate_ids_in, kind, count)

    async def revision(self) -> int:
        return await self.db.transact(identity.revision_in)

    async def create_streams(self, stream_ids: Sequence[int]) -> None:
        await self.db.transact(streams.create_streams_in, stream_ids)

    async def open_streams(
        self,
        broker_id: int,
        broker_epoch: int,
        stream_ids: Sequence[int],
        tail_ends: Mapping[int, int] | None = None,
    ) -> list[StreamRow]:
        return await self.db.transact(streams.open_streams, broker_id, broker_epoch, stream_ids, tail_ends or {})

    async def close_streams(self, broker_id: int, broker_epoch: int, stream_ids: Sequence[int]) -> int:
        return await self.db.transact(streams.close_streams, broker_id, broker_epoch, stream_ids)

    async def trim_stream(self, stream_id: int, stream_epoch: int, new_start: int, now_ms: int) -> int:
        return await self.db.transact(streams.trim_stream, stream_id, stream_epoch, new_start, now_ms)

    async def delete_streams(self, stream_ids: Sequence[int], now_ms: int) -> int:
        return await self.db.transact(streams.delete_streams_in, stream_ids, now_ms)

    async def stream_rows(self, stream_ids: Sequence[int]) -> list[StreamRow]:
        return await self.db.transact(streams.stream_rows, stream_ids)

    async def epochs(self, stream_id: int) -> list[tuple[int, int]]:
        return await self.db.transact(streams.epochs, stream_id)

    async def range_rows(self, stream_id: int, from_offset: int, limit: int) -> list[RangeRow]:
        return await self.db.transact(streams.range_rows, stream_id, from_offset, limit)

    async def prepare_objects(
        self, broker_id: int, broker_epoch: int, count: int, now_ms: int, ttl_ms: int
    ) -> list[int]:
        return await self.db.transact(objects.prepare_objects, broker_id, broker_epoch, count, now_ms, ttl_ms)

    async def commit_objects(self, commit: ObjectCommit) -> CommitResult:
        return await self.db.transact(objects.commit_objects, commit)

    async def retention_candidates(self, limits: Sequence[RetentionLimit]) -> list[tuple[int, int]]:
        return await self.db.transact(retention.retention_candidates, limits)

    async def drop_expired_prepared(self, now_ms: int, limit: int, in_use: Sequence[int] = ()) -> list[int]:
        return await self.db.transact(gc.drop_expired_prepared, now_ms, limit, in_use)

    async def destroyed_objects(self, before_ms: int, limit: int) -> list[DoomedObject]:
        return await self.db.transact(gc.destroyed_objects, before_ms, limit)

    async def mark_deleting(self, object_ids: Sequence[int]) -> list[int]:
        return await self.db.transact(gc.mark_deleting, object_ids)

    async def forget_objects(self, object_ids: Sequence[int]) -> int:
        return await self.db.transact(gc.forget_objects, object_ids)

    async def counts(self) -> MetaCounts:
        return await self.db.transact(gc.counts)

    async def close(self) -> None:
        await self.db.close()
