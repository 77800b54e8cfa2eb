"""The simulated metadata database: real SQLite in memory, behind commits that are refused, lost or unknown.

A `MetadataFile` outlives its processes, as a database file with synchronous=FULL does: a transaction is there whole or
not at all. `client()` gives one process its `Database`. Each command runs in one instant of virtual time; a kill may
fall before it, or after it but before its answer.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from s3stream.errors import OutcomeUnknown, Retry
from s3stream.ports import Clock
from tests.simulation.errors import NotSimulated
from tests.simulation.loop import SimulatedLoop

_T = TypeVar("_T")


@dataclass
class DatabaseSettings:
    """Latencies in seconds, shares of the transactions from 0 to 1."""

    latency_min_s: float = 0.0005
    latency_max_s: float = 0.005
    conflict_share: float = 0.0  # rolled back: Retry
    unknown_commit_share: float = 0.0  # committed, but the answer is lost


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
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys=ON")
        self.connection.execute("CREATE TABLE simulated_migrations (package TEXT PRIMARY KEY, applied INTEGER)")

    def client(self) -> SimulatedDatabase:
        return SimulatedDatabase(self)

    def query(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """Look from outside, for checkers."""
        return self.connection.execute(sql, args).fetchall()

    def close(self) -> None:
        self.connection.close()


class _Transaction:
    """The `Tx` of one command. SQLite knows `$1` as a parameter named "1"."""

    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, _named(args)).fetchall()

    async def execute(self, sql: str, *args: Any) -> int:
        return self._connection.execute(sql, _named(args)).rowcount

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.executemany(sql, [_named(row) for row in rows])


def _named(args: Sequence[Any]) -> dict[str, Any]:
    return {str(number): value for number, value in enumerate(args, 1)}


class SimulatedDatabase:
    """One process's `Database`."""

    def __init__(self, file: MetadataFile) -> None:
        self._file = file

    async def transact(self, command: Callable[..., Coroutine[Any, Any, _T]], *args: Any) -> _T:
        file = self._file
        settings = file.settings
        await self._wait()
        if file.rng.random() < settings.conflict_share:
            file.fired["metadata: transaction refused"] += 1
            raise Retry("database is locked")
        result = self._run(command, args)
        file.loop.trace.add(f"  metadata {command.__qualname__}")
        await self._wait()
        if file.rng.random() < settings.unknown_commit_share:
            file.fired["metadata: commit unknown"] += 1
            raise OutcomeUnknown("connection lost during commit")
        return result

    def _run(self, command: Callable[..., Coroutine[Any, Any, _T]], args: tuple[Any, ...]) -> _T:
        """Drive the command to its end in one step, as the writer thread of the real adapter does."""
        connection = self._file.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            coroutine = command(_Transaction(connection), *args)
            try:
                coroutine.send(None)
            except StopIteration as end:
                result: _T = end.value
            else:
                coroutine.close()
                raise NotSimulated(f"{command.__qualname__} awaits something other than its transaction")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return result

    async def migrate(self, package: str, migrations: Sequence[str]) -> None:
        await self._wait()
        connection = self._file.connection
        rows = connection.execute("SELECT applied FROM simulated_migrations WHERE package = ?", (package,)).fetchall()
        applied = rows[0][0] if rows else 0
        for number, migration in enumerate(migrations[applied:], applied + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {migration}; COMMIT")
            connection.execute("INSERT OR REPLACE INTO simulated_migrations VALUES (?, ?)", (package, number))
        await self._wait()

    async def now_ms(self) -> int:
        await self._wait()
        return self._file.clock.now_ms()

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def _wait(self) -> None:
        settings = self._file.settings
        await asyncio.sleep(self._file.rng.uniform(settings.latency_min_s, settings.latency_max_s))
