"""The simulated metadata database: the real SQLite adapter in memory, behind outages and lost or refused commits.

A `MetadataFile` outlives its processes, as a database file with synchronous=FULL does: a transaction is there whole or
not at all. `client()` gives one process its `Database`. Each command runs in one instant of virtual time; a kill may
fall before it, or after it but before its answer.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from benchmarks.verify.inside import EpochUse, RemovalFacts
from s3stream.errors import OutcomeUnknown, Retry, StreamError
from s3stream.meta.rows import ObjectCommit
from s3stream.meta.sqlite import InlineRunner, SqliteDatabase
from s3stream.ports import Clock, Tx
from tests.simulation.errors import NotSimulated
from tests.simulation.loop import SimulatedLoop

_T = TypeVar("_T")


@dataclass
class DatabaseSettings:
    """Latencies in seconds, shares of the transactions from 0 to 1."""

    latency_min_s: float = 0.0005
    latency_max_s: float = 0.005
    conflict_share: float = 0.0  # run and rolled back, as by a serialization failure: Retry
    lost_before_commit_share: float = 0.0  # the connection breaks before the commit: rolled back, outcome unknown
    unknown_commit_share: float = 0.0  # committed, but the answer is lost
    request_timeout_s: float = 5.0


class MetadataFile:
    """The database of one world."""

    def __init__(
        self,
        loop: SimulatedLoop,
        rng: random.Random,
        clock: Clock,
        fired: Counter[str],
        settings: DatabaseSettings | None = None,
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.clock = clock
        self.fired = fired
        self.settings = settings if settings is not None else DatabaseSettings()
        self.database = SqliteDatabase(":memory:", InlineRunner(), clock.now_ms)
        self._down_until_s = 0.0
        self.partitions: dict[int, tuple[str, UUID, int]] = {}  # stream id -> topic, its id, partition
        self.epoch_uses: list[EpochUse] = []
        self.committed_at_s: dict[str, tuple[int, float]] = {}  # key -> object id, and when
        self.removals: dict[int, RemovalFacts] = {}

    def client(self) -> SimulatedDatabase:
        return SimulatedDatabase(self)

    def go_down(self, duration_s: float) -> None:
        """Answer nothing for a while: each call ends by its time-out, and nothing is applied."""
        self._down_until_s = max(self._down_until_s, self.loop.time() + duration_s)

    def end_troubles(self) -> None:
        self.settings = DatabaseSettings()
        self._down_until_s = 0.0

    def down(self) -> bool:
        return self.loop.time() < self._down_until_s

    def forget(self) -> None:
        """Drop the content; the world is over."""
        closing = self.database.close()
        try:
            closing.send(None)  # the inline runner never waits
        except StopIteration:
            return
        raise NotSimulated("closing the database waits for something")

    async def note(self, command: str, args: Sequence[Any], began_s: float) -> None:
        """Keep for checkers what the tables forget: the streams of deleted topics, and who committed when."""
        if command in ("create_topics", "create_partitions"):
            rows = await self.query(
                "SELECT stream_id, name, topic.topic_id, partition_index FROM partition JOIN topic USING (topic_id)"
            )
            self.partitions.update({row[0]: (row[1], UUID(hex=row[2]), row[3]) for row in rows})
        elif command == "commit_objects":
            commit: ObjectCommit = args[0]
            resource, now_s = f"broker {commit.broker_id}", self.loop.time()
            self.epoch_uses.append(EpochUse(resource, commit.broker_epoch, began_s, now_s))
            for item in commit.objects:
                self.committed_at_s.setdefault(item.key, (item.object_id, now_s))
        elif command == "mark_deleting":
            for object_id, destroyed_ms in await self.query(
                "SELECT object_id, destroyed_ms FROM object WHERE state = 3"
            ):
                if object_id in args[0]:
                    self.removals.setdefault(object_id, RemovalFacts(object_id, destroyed_ms, self.clock.now_ms()))

    async def query(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """Look from outside, without faults, for checkers."""
        return await self.database.transact(_query, sql, *args)


async def _then_roll_back(
    tx: Tx, command: Callable[..., Coroutine[Any, Any, Any]], args: Sequence[Any], error: StreamError
) -> None:
    """The command does all of its work, and then the transaction ends without a commit."""
    await command(tx, *args)
    raise error


async def _query(tx: Tx, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    return await tx.fetch(sql, *args)


class SimulatedDatabase:
    """One process's `Database`."""

    def __init__(self, file: MetadataFile) -> None:
        self._file = file
        self._unsettled: set[str] = set()  # commands whose last commit is unknown to the caller; never iterated

    async def transact(self, command: Callable[..., Coroutine[Any, Any, _T]], *args: Any) -> _T:
        file = self._file
        settings = file.settings
        name = command.__qualname__
        await self._reach()
        fate = file.rng.random()
        if fate < settings.conflict_share:
            file.fired["metadata: transaction refused"] += 1
            await file.database.transact(_then_roll_back, command, args, Retry("serialization failure"))
        elif fate < settings.conflict_share + settings.lost_before_commit_share:
            file.fired["metadata: connection lost before commit"] += 1
            self._unsettled.add(name)
            lost = OutcomeUnknown("connection lost before the commit")
            await file.database.transact(_then_roll_back, command, args, lost)
        began_s = file.loop.time()
        result = await file.database.transact(command, *args)
        await file.note(name, args, began_s)
        file.loop.trace.add(f"  metadata {name}")
        await self._wait()
        if file.rng.random() < settings.unknown_commit_share:
            file.fired["metadata: commit unknown"] += 1
            self._unsettled.add(name)
            raise OutcomeUnknown("connection lost during commit")
        if name in self._unsettled:
            self._unsettled.discard(name)
            file.fired["rare: unknown commit settled by a repeat"] += 1
        return result

    async def migrate(self, package: str, migrations: Sequence[str]) -> None:
        await self._reach()
        await self._file.database.migrate(package, migrations)
        await self._wait()

    async def now_ms(self) -> int:
        await self._reach()
        return await self._file.database.now_ms()

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def _reach(self) -> None:
        """The way there. Retry when nobody answers: nothing was applied."""
        file = self._file
        if file.down():
            file.fired["metadata: down"] += 1
            await asyncio.sleep(file.settings.request_timeout_s)
            raise Retry("the metadata database does not answer")
        await self._wait()

    async def _wait(self) -> None:
        settings = self._file.settings
        await asyncio.sleep(self._file.rng.uniform(settings.latency_min_s, settings.latency_max_s))
