"""The SQLite database behind the metadata: one file, one writer, owned by one broker at a time.

Durability: WAL journal with `synchronous=FULL`, so a committed command survives a power cut. Exclusion: the file is
locked exclusively for as long as it is open; a second process is refused with Invalid. Commands run whole, one after
the other, where the runner says: on one writer thread (`ThreadRunner`) or in the calling task (`InlineRunner`).
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from s3stream.durable_folder import make_folder_durable, sync_folder
from s3stream.errors import Fatal, Invalid, StreamError
from s3stream.meta.sqlite_errors import translate
from s3stream.meta.sqlite_runner import InlineRunner, Runner, ThreadRunner

__all__ = ["InlineRunner", "SqliteDatabase", "ThreadRunner", "open_sqlite"]

T = TypeVar("T")

_PLACEHOLDER = re.compile(r"\$(\d+)")
_BUSY_TIMEOUT_MS = 1000
_CACHE_SIZE_KIB = 8192
_JOURNAL_SIZE_LIMIT_BYTES = 64 << 20
_MAX_STATEMENTS = 512
_BLOB_TYPE = "BLOB"


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteTx:
    """One open transaction. Its coroutines never suspend, so a command is driven to its end in one hop."""

    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements

    async def fetch(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        statement, order = self._statements.translate(sql)
        return self._connection.execute(statement, [args[place] for place in order]).fetchall()

    async def execute(self, sql: str, *args: Any) -> int:
        statement, order = self._statements.translate(sql)
        return self._connection.execute(statement, [args[place] for place in order]).rowcount

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        statement, order = self._statements.translate(sql)
        if list(order) != list(range(len(order))):
            rows = [[row[place] for place in order] for row in rows]
        self._connection.executemany(statement, rows)


class Statements:
    """`$n` placeholders turned into SQLite's `?`, remembered per text (the texts are a fixed set; bounded anyway)."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, tuple[int, ...]]] = {}

    def translate(self, sql: str) -> tuple[str, tuple[int, ...]]:
        """The statement with `?` and, for each `?`, the index of its argument."""
        known = self._known.get(sql)
        if known is None:
            order = tuple(int(match) - 1 for match in _PLACEHOLDER.findall(sql))
            known = (_PLACEHOLDER.sub("?", sql), order)
            if len(self._known) >= _MAX_STATEMENTS:
                self._known.clear()
            self._known[sql] = known
        return known


class SqliteDatabase:
    """Implements `ports.Database`. Opens the file at the first call; `path` may be ":memory:" (simulation, tests).

    `now_ms` is the database's clock, the wall clock unless given.
    """

    def __init__(self, path: str, runner: Runner, now_ms: Callable[[], int] = _wall_clock_ms) -> None:
        self._path = path
        self._runner = runner
        self._now_ms = now_ms
        self._statements = Statements()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._broken: Fatal | None = None
        """The first error of the disk. Nobody knows what is on it since, so every later command gets it, too."""

    async def transact(self, command: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """See the port. Errors of the command roll back and pass through; Fatal if it awaits anything but `tx`."""
        return await self._runner.run(lambda: self._transact(command, args))

    async def migrate(self, package: str, migrations: Sequence[str]) -> None:
        """See the port. Each migration is one transaction. Invalid if the file was written by a newer version."""
        await self._runner.run(lambda: self._migrate(package, migrations))

    async def now_ms(self) -> int:
        return self._now_ms()

    async def close(self) -> None:
        """Finish what is queued, checkpoint, release the file. Nothing may be called after it."""
        if not self._closed:
            self._closed = True
            try:
                await self._runner.run(self._close)
            finally:
                await self._runner.close()

    def _transact(self, command: Callable[..., Coroutine[Any, Any, T]], args: Sequence[Any]) -> T:
        if self._broken is not None:
            raise self._broken
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = _drive(command(SqliteTx(connection, self._statements), *args))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            reason = translate(error, self._path)
            if isinstance(reason, Fatal):
                self._broken = reason  # before anything else can fail
            self._roll_back(connection)
            raise reason from error
        except BaseException:
            self._roll_back(connection)
            raise
        return result

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """SQLite may have rolled back on its own; what fails here is reported by the next BEGIN."""
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                self._broken = Fatal(f"a failed metadata transaction could not be rolled back: {error}")
                raise self._broken from error

    def _migrate(self, package: str, migrations: Sequence[str]) -> None:
        self._transact(_create_migration_table, ())
        applied = self._transact(_applied_migrations, (package,))
        if applied > len(migrations):
            raise Invalid(
                f"{self._path}: the {package} tables have schema {applied}, this version knows {len(migrations)};"
                " the file was written by a newer version of Weir: run that one"
            )
        for number in range(applied, len(migrations)):
            self._transact(_apply_migration, (package, number + 1, migrations[number].replace("{blob}", _BLOB_TYPE)))

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        if self._closed:
            raise Invalid(f"{self._path}: the metadata database is closed")
        connection: sqlite3.Connection | None = None
        try:
            if self._path != ":memory:":
                make_folder_durable(Path(self._path).parent)
            connection = sqlite3.connect(
                self._path,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_MAX_STATEMENTS,
                timeout=_BUSY_TIMEOUT_MS / 1000,
            )
            self._configure(connection)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise translate(error, self._path, opening=True) from error
        except OSError as error:
            raise Invalid(f"{self._path}: the directory of the metadata cannot be made: {error}") from error
        except StreamError:
            if connection is not None:
                connection.close()
            raise
        self._connection = connection
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        for pragma in (
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "locking_mode=EXCLUSIVE",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            f"cache_size=-{_CACHE_SIZE_KIB}",
            f"journal_size_limit={_JOURNAL_SIZE_LIMIT_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if self._path != ":memory:":
            if mode != "wal":
                raise Invalid(f"{self._path}: journal mode is {mode!r}, expected 'wal'; use a local file system")
            # A write transaction takes the lock; locking_mode keeps it.
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            sync_folder(Path(self._path).parent)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                raise translate(error, self._path) from error


async def open_sqlite(path: str | Path) -> SqliteDatabase:
    """The database in the file `path` with its writer thread, opened and locked; ":memory:" runs inline instead.

    Invalid if another process has it open, Corrupt if it is no database."""
    runner: Runner = InlineRunner() if str(path) == ":memory:" else ThreadRunner()
    database = SqliteDatabase(str(path), runner)
    try:
        await database.transact(_create_migration_table)
    except BaseException:
        await database.close()
        raise
    return database


def _drive(command: Coroutine[Any, Any, T]) -> T:
    try:
        command.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    command.close()
    raise Fatal(f"command {command} awaited something other than its transaction")


async def _create_migration_table(tx: SqliteTx) -> None:
    await tx.execute(
        "CREATE TABLE IF NOT EXISTS schema_migration (package TEXT NOT NULL, number INTEGER NOT NULL,"
        " PRIMARY KEY (package, number))"
    )


async def _applied_migrations(tx: SqliteTx, package: str) -> int:
    rows = await tx.fetch("SELECT COALESCE(MAX(number), 0) FROM schema_migration WHERE package = $1", package)
    return int(rows[0][0])


async def _apply_migration(tx: SqliteTx, package: str, number: int, script: str) -> None:
    for statement in split_statements(script):
        await tx.execute(statement)
    await tx.execute("INSERT INTO schema_migration (package, number) VALUES ($1, $2)", package, number)


def split_statements(script: str) -> list[str]:
    """The statements of a script; the driver's own script call would commit in between."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    if pending.strip():
        statements.append(pending.strip())
    return [statement for statement in statements if statement.strip(";").strip()]
