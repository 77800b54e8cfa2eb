"""The SQLite database: exclusion, durability settings, errors by kind, migrations, the writer thread."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from s3stream.errors import Corrupt, Fatal, Invalid, OutcomeUnknown, Retry
from s3stream.meta import InlineRunner, MetaStore, SqliteDatabase, ThreadRunner, open_sqlite
from s3stream.meta.sqlite import Statements, split_statements
from s3stream.meta.sqlite_errors import translate
from s3stream.ports import Tx


async def query(tx: Tx, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    return await tx.fetch(sql, *args)


async def execute(tx: Tx, sql: str, *args: Any) -> int:
    return await tx.execute(sql, *args)


@pytest.mark.parametrize(("name", "value"), [
    ("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("locking_mode", "exclusive"),
])  # fmt: skip
async def test_pragmas(tmp_path: Path, name: str, value: object) -> None:
    database = await open_sqlite(tmp_path / "new" / "metadata.db")
    assert await database.transact(query, f"PRAGMA {name}") == [(value,)]
    await database.close()


async def test_one_broker_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    first = await open_sqlite(path)
    with pytest.raises(Invalid, match="another process has this metadata file open"):
        await open_sqlite(path)
    program = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('SELECT * FROM sqlite_master')"
    other = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "database is locked" in other.stderr
    await first.close()
    second = await open_sqlite(path)
    await second.close()


async def test_committed_data_outlives_the_process(tmp_path: Path) -> None:
    path = str(tmp_path / "metadata.db")
    program = (
        "import asyncio, os\n"
        "from s3stream.meta import MetaStore, open_sqlite\n"
        "async def main():\n"
        f"    meta = MetaStore(await open_sqlite({path!r}))\n"
        "    await meta.migrate()\n"
        "    print(list(await meta.allocate_ids('stream', 5)))\n"
        "    os._exit(9)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (9, "")
    meta = MetaStore(await open_sqlite(path))
    await meta.migrate()
    assert list(await meta.allocate_ids("stream", 1)) == [6]
    await meta.close()


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to look at" * 100, b"SQLite format 3\0" * 99]
)
async def test_damaged_file_is_corrupt_and_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metadata.db"
    path.write_bytes(content)
    with pytest.raises(Corrupt, match=r"keep a copy.*recover"):
        await open_sqlite(path)


async def test_path_that_cannot_be_opened_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid):
        await open_sqlite(tmp_path / "file" / "metadata.db")
    with pytest.raises(Invalid):
        await open_sqlite(tmp_path)


async def test_full_disk_is_retry_and_applies_nothing(tmp_path: Path) -> None:
    database = SqliteDatabase(str(tmp_path / "metadata.db"), InlineRunner())
    await database.transact(execute, "CREATE TABLE t (x BLOB)")
    [(pages,)] = await database.transact(query, "PRAGMA page_count")
    await database.transact(query, f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Retry, match="no space left"):
        await database.transact(execute, "INSERT INTO t VALUES ($1)", bytes(100_000))
    assert await database.transact(query, "SELECT COUNT(*) FROM t") == [(0,)]
    await database.transact(execute, "INSERT INTO t VALUES ($1)", b"small")
    await database.close()


def test_errors_by_kind() -> None:
    def error(code: int) -> sqlite3.OperationalError:
        made = sqlite3.OperationalError("text")
        made.sqlite_errorcode = code
        made.sqlite_errorname = "NAME"
        return made

    assert type(translate(error(sqlite3.SQLITE_BUSY), "p")) is Retry
    assert type(translate(error(sqlite3.SQLITE_BUSY_SNAPSHOT), "p")) is Retry
    assert type(translate(error(sqlite3.SQLITE_BUSY), "p", opening=True)) is Invalid
    assert type(translate(error(sqlite3.SQLITE_IOERR_FSYNC), "p")) is Fatal
    assert type(translate(error(sqlite3.SQLITE_IOERR_NOMEM), "p")) is Retry
    assert type(translate(error(sqlite3.SQLITE_READONLY), "p")) is Invalid
    assert type(translate(error(sqlite3.SQLITE_CORRUPT), "p")) is Corrupt
    assert type(translate(sqlite3.ProgrammingError("no code"), "p")) is Invalid


async def test_migrations_apply_once_in_order_per_package(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    first = ["CREATE TABLE a (x {blob});\nINSERT INTO a VALUES ('1;2');"]
    second = [*first, "INSERT INTO a VALUES ('second')"]
    database = await open_sqlite(path)
    await database.migrate("package", first)
    await database.migrate("other", ["CREATE TABLE b (x TEXT)"])
    await database.migrate("package", second)
    await database.migrate("package", second)
    assert await database.transact(query, "SELECT x FROM a") == [("1;2",), ("second",)]
    with pytest.raises(Invalid, match=r"have schema 2, this version knows 1.*newer version of Weir"):
        await database.migrate("package", first)
    await database.close()


async def test_a_failed_migration_leaves_nothing() -> None:
    database = SqliteDatabase(":memory:", InlineRunner())
    with pytest.raises(Invalid):
        await database.migrate("package", ["CREATE TABLE a (x TEXT);\nCREATE TABLE a (x TEXT);"])
    await database.migrate("package", ["CREATE TABLE a (x TEXT);"])
    await database.close()


def test_statements_are_split() -> None:
    assert split_statements("A;\n\nINSERT INTO a VALUES ('x;\ny');\nB") == [
        "A;",
        "INSERT INTO a VALUES ('x;\ny');",
        "B",
    ]


def test_placeholders_may_repeat_and_come_in_any_order() -> None:
    statements = Statements()
    assert statements.translate("a $2 b $1 c $2 d $11") == ("a ? b ? c ? d ?", (1, 0, 1, 10))
    for number in range(2000):
        statements.translate(f"SELECT {number}")
    assert statements.translate("SELECT $1") == ("SELECT ?", (0,))


async def test_execute_many_with_repeated_placeholders() -> None:
    database = SqliteDatabase(":memory:", InlineRunner())

    async def command(tx: Tx) -> list[tuple[Any, ...]]:
        await tx.execute("CREATE TABLE a (x INTEGER, y INTEGER, z INTEGER)")
        await tx.execute_many("INSERT INTO a VALUES ($2, $1, $2)", [(1, 2), (3, 4)])
        await tx.execute_many("INSERT INTO a VALUES ($1, $2, $3)", [])
        assert await tx.execute("UPDATE a SET x = $1", 9) == 2
        return await tx.fetch("SELECT * FROM a ORDER BY y")

    assert await database.transact(command) == [(9, 1, 2), (9, 3, 4)]
    await database.close()


async def test_a_command_may_await_nothing_but_its_transaction() -> None:
    database = SqliteDatabase(":memory:", InlineRunner())
    await database.transact(execute, "CREATE TABLE a (x INTEGER)")

    async def command(tx: Tx) -> None:
        await tx.execute("INSERT INTO a VALUES (1)")
        await asyncio.sleep(0)

    with pytest.raises(Fatal, match="something other than its transaction"):
        await database.transact(command)
    assert await database.transact(query, "SELECT COUNT(*) FROM a") == [(0,)]
    await database.close()


async def test_closed_database_refuses(tmp_path: Path) -> None:
    for path, runner in ((tmp_path / "metadata.db", ThreadRunner()), (":memory:", InlineRunner())):
        database = SqliteDatabase(str(path), runner)
        await database.transact(query, "SELECT 1")
        await database.close()
        await database.close()
        with pytest.raises(Invalid, match="closed"):
            await database.transact(query, "SELECT 1")


async def test_commands_run_in_the_order_they_were_given(tmp_path: Path) -> None:
    database = await open_sqlite(tmp_path / "metadata.db")
    await database.transact(execute, "CREATE TABLE a (x INTEGER)")
    await asyncio.gather(*(database.transact(execute, "INSERT INTO a VALUES ($1)", number) for number in range(50)))
    assert await database.transact(query, "SELECT x FROM a ORDER BY rowid") == [(number,) for number in range(50)]
    await database.close()


async def test_the_queue_of_the_writer_thread_is_bounded_in_length_and_time() -> None:
    runner = ThreadRunner(max_queued=2, timeout_s=0.1)
    release = threading.Event()
    running = asyncio.create_task(runner.run(release.wait))
    waiting = asyncio.create_task(runner.run(lambda: None))
    await asyncio.sleep(0)
    with pytest.raises(Retry, match="queued already"):
        await runner.run(lambda: None)
    with pytest.raises(OutcomeUnknown, match="did not end"):
        await running
    with pytest.raises(Retry, match="did not begin"):
        await waiting
    release.set()
    assert await runner.run(lambda: 5) == 5
    await runner.close()
    with pytest.raises(Invalid):
        await runner.run(lambda: 5)


async def test_the_clock_can_be_given() -> None:
    database = SqliteDatabase(":memory:", InlineRunner(), now_ms=lambda: 42)
    assert await database.now_ms() == 42
    await database.close()


async def test_nothing_is_committed_after_an_error_of_the_disk(tmp_path: Path) -> None:
    """A failed sync is never followed by another one that proves nothing."""
    database = await open_sqlite(tmp_path / "metadata.db")
    await database.transact(execute, "CREATE TABLE t (x INTEGER)")

    async def fails(tx: Tx) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    with pytest.raises(Fatal, match="cannot be kept durable"):
        await database.transact(fails)
    with pytest.raises(Fatal, match="cannot be kept durable"):
        await database.transact(execute, "INSERT INTO t VALUES (1)")
    await database.close()
    database = await open_sqlite(tmp_path / "metadata.db")
    assert await database.transact(query, "SELECT * FROM t") == []
    await database.close()
