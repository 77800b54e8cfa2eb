"""A small program that lives on a file WAL and a SQLite database, for power cuts: says on stdout what it promised.

    python -m tests.faults.journal_program FOLDER COUNT [wal|sqlite]

Lines: `ready`, `wal N` (record N is durable in the WAL), `sql N` (row N is committed). The last argument plants a bug:
the WAL acknowledges before fdatasync, or SQLite runs without syncing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Buffer

from s3stream.ports import Done
from s3stream.wal.device_folder import FolderWalDevice
from s3stream.wal.file_wal import FileWal, FileWalSettings

SEGMENT = 64 * 1024
SETTINGS = FileWalSettings(capacity_bytes=8 * SEGMENT)


class AckBeforeSync(FolderWalDevice):
    """The planted bug."""

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        super().write(number, offset, buffers, lambda error: None)
        asyncio.get_running_loop().call_soon(done, None)


def open_database(path: Path, *, synchronous: str = "FULL") -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute("PRAGMA wal_autocheckpoint=20")
    database.execute("CREATE TABLE IF NOT EXISTS row (n INTEGER PRIMARY KEY, filler BLOB)")
    database.execute(
        "CREATE TABLE IF NOT EXISTS head (id INTEGER PRIMARY KEY, epoch INTEGER, trim_lsn INTEGER, base INTEGER)"
    )
    database.execute("INSERT OR IGNORE INTO head VALUES (1, 0, 0, 0)")
    return database


def say(line: str) -> None:
    print(line, flush=True)


async def run(folder: Path, count: int, planted: str) -> None:
    database = open_database(folder / "meta.db", synchronous="OFF" if planted == "sqlite" else "FULL")
    database.execute("UPDATE head SET epoch = epoch + 1")
    epoch, trim_lsn, base = database.execute("SELECT epoch, trim_lsn, base FROM head").fetchone()
    device = (AckBeforeSync if planted == "wal" else FolderWalDevice)(folder / "wal", SEGMENT)
    acked: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    lsns: dict[int, int] = {}

    def durable(entries: Sequence[object]) -> None:
        for number in entries:
            say(f"wal {number}")
            if isinstance(number, int) and number % 20 == 0:
                acked.put_nowait((number, lsns.pop(number)))

    wal = FileWal(device, SETTINGS, durable, lambda error: sys.exit(f"fatal: {error}"))
    records = await wal.recover(trim_lsn)
    await wal.begin(epoch, records)
    say("ready")
    first = (records[-1].base_offset if records else base) + 1
    for number in range(first, first + count):
        payload = memoryview(b"%08d" % number + bytes([number % 256]) * (number * 37 % 3000))
        lsn = wal.append(1, epoch, number, 1, 0, payload, number)
        if number % 20 == 0:
            lsns[number] = lsn
        if number % 3 == 0:
            await asyncio.sleep(0.001)
        while not acked.empty():
            row, lsn = acked.get_nowait()
            database.execute("INSERT INTO row VALUES (?, ?)", (row, bytes(row % 5000)))
            say(f"sql {row}")
            if row % 100 == 0:
                database.execute("UPDATE head SET trim_lsn = ?, base = ?", (lsn + 1, row))
                wal.trim(lsn + 1)
    await wal.close()
    database.close()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""))
