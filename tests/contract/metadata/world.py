"""A broker's view of the metadata, to keep the tests short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from s3stream.meta import MetaStore
from s3stream.meta.rows import CommitResult, NewObject, ObjectCommit, RunRange
from s3stream.ports import Tx

BROKER = 1


@dataclass
class World:
    meta: MetaStore
    broker_epoch: int = 0
    wal_epoch: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    now_ms: int = 1_000_000

    @classmethod
    async def begin(cls, meta: MetaStore, streams: int = 3) -> World:
        world = cls(meta)
        await world.register("first")
        ids = list(await meta.allocate_ids("stream", streams))
        await meta.create_streams(ids)
        await world.open(ids)
        return world

    async def register(self, incarnation: str) -> None:
        self.broker_epoch = await self.meta.register_broker(BROKER, incarnation, self.now_ms)
        self.wal_epoch = (await self.meta.open_wal(BROKER, self.broker_epoch)).wal_epoch

    async def open(self, ids: Sequence[int]) -> None:
        for row in await self.meta.open_streams(BROKER, self.broker_epoch, ids):
            self.epochs[row.stream_id] = row.stream_epoch

    async def prepare(self, count: int = 1) -> list[int]:
        return await self.meta.prepare_objects(BROKER, self.broker_epoch, count, self.now_ms, 3_600_000)

    def run(self, stream_id: int, start: int, end: int, object_id: int, **changes: Any) -> RunRange:
        values = {
            "stream_id": stream_id, "stream_epoch": self.epochs[stream_id], "start_offset": start, "end_offset": end,
            "object_id": object_id, "position": 0, "size_bytes": (end - start) * 10,
            "max_timestamp_ms": self.now_ms, "flags": 0, "records": end - start, "state_position": 0, "state_size": 0,
        }  # fmt: skip
        return RunRange(**{**values, **changes})

    def commit_of(
        self, object_ids: Sequence[int], ranges: Sequence[RunRange], trim_lsn: int = 0, **changes: Any
    ) -> ObjectCommit:
        objects = [NewObject(object_id, f"key-{object_id}", 1, 1000) for object_id in object_ids]
        commit = ObjectCommit(BROKER, self.broker_epoch, self.wal_epoch, objects, ranges, trim_lsn, self.now_ms)
        return commit._replace(**changes)

    async def commit(self, *spans: tuple[int, int, int], trim_lsn: int = 0) -> tuple[int, CommitResult]:
        """One object with a run (stream, start, end) for each span."""
        (object_id,) = await self.prepare()
        ranges = [self.run(stream_id, start, end, object_id) for stream_id, start, end in spans]
        return object_id, await self.meta.commit_objects(self.commit_of([object_id], ranges, trim_lsn))

    async def rows(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """What a query finds, past the commands."""
        return await self.meta.db.transact(query, sql, *args)

    async def dump(self) -> list[list[tuple[Any, ...]]]:
        """Everything in the engine's tables."""
        tables = ("broker", "wal", "stream", "stream_epoch", "object", "object_range")
        return [sorted(await self.rows(f"SELECT * FROM {table}")) for table in tables]


async def query(tx: Tx, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    return await tx.fetch(sql, *args)
