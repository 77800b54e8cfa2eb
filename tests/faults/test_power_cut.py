"""Power cuts of a program on a file WAL and SQLite: everything it promised is there, and planted bugs are caught."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from s3stream.errors import Corrupt, Invalid
from s3stream.ports import WalRecord
from s3stream.wal.device_folder import FolderWalDevice
from s3stream.wal.file_wal import FileWal
from tests.faults.crash_images import Event, power_cuts, read_log
from tests.faults.journal_program import SEGMENT, SETTINGS, open_database
from tests.faults.power_cut import compiler, recorder, recording

pytestmark = pytest.mark.skipif(compiler() is None, reason="the recorder needs gcc or cc")
ROOT = Path(__file__).parents[2]


class Run(NamedTuple):
    """What a program promised, and when it was heard."""

    events: list[Event]
    promises: list[tuple[int, str, int]]  # (time_ns, "wal" or "sql", number)


def run_recorded(tmp_path: Path, counts: Sequence[int], planted: str = "") -> Run:
    """The program, once per count, on the same folder; a slow disk leaves time for a cut inside of a sync."""
    data, log = tmp_path / "data", tmp_path / "log"
    env = recording(recorder(tmp_path), data, log, sync_delay_us=3000)
    promises: list[tuple[int, str, int]] = []
    for count in counts:
        argv = [sys.executable, "-m", "tests.faults.journal_program", str(data), str(count), planted]
        with subprocess.Popen(argv, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                kind, _, number = line.strip().partition(" ")
                if number:
                    promises.append((time.monotonic_ns(), kind, int(number)))
        assert process.returncode == 0
    return Run(read_log(log), promises)


def broken_promises(run: Run, count: int, tmp_path: Path, rng: random.Random) -> Iterator[str]:
    for number, cut in enumerate(power_cuts(run.events, count, rng)):
        image = tmp_path / f"image{number}"
        cut.write_image(image)
        promised = [(kind, n) for time_ns, kind, n in run.promises if time_ns < cut.time_ns]
        missing = asyncio.run(look(image, promised))
        if missing:
            yield f"{cut}: {missing}"


async def look(image: Path, promised: list[tuple[str, int]]) -> str:
    """Start on the image; what is missing or wrong, empty for nothing."""
    try:
        database = open_database(image / "meta.db")
    except sqlite3.DatabaseError as error:
        return f"SQLite: {error}"
    try:
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
        rows = {n for (n,) in database.execute("SELECT n FROM row")}
        epoch, trim_lsn, base = database.execute("SELECT epoch, trim_lsn, base FROM head").fetchone()
    finally:
        database.close()
    lost = [n for kind, n in promised if kind == "sql" and n not in rows]
    if verdict != "ok" or lost:
        return f"SQLite: {verdict}, lost rows {lost[:5]}"
    device = FolderWalDevice(image / "wal", SEGMENT)
    wal = FileWal(device, SETTINGS, lambda entries: None, lambda error: None)
    try:
        records = await wal.recover(trim_lsn)
        await wal.begin(epoch + 1, records)
    except (Corrupt, Invalid) as error:
        return str(error)
    finally:
        await wal.close()
    return wrong(records, max((n for kind, n in promised if kind == "wal"), default=0), base)


def wrong(records: Sequence[WalRecord], acked: int, base: int) -> str:
    numbers = [record.base_offset for record in records]
    if numbers and numbers[0] != base + 1:
        return f"records begin at {numbers[0]}, everything up to {base} was trimmed"
    for record in records:
        n = record.base_offset
        if record.payload != b"%08d" % n + bytes([n % 256]) * (n * 37 % 3000):
            return f"record {n} has other bytes"
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return f"records are not in order: {numbers[:10]}"
    last = numbers[-1] if numbers else base
    if last < acked:
        return f"record {acked} was acknowledged, the last one found is {last}"
    return ""


def test_nothing_promised_is_lost(tmp_path: Path) -> None:
    run = run_recorded(tmp_path, [220, 120])  # the second run recovers and rewrites what the first left
    assert len(run.promises) > 340
    assert list(broken_promises(run, 40, tmp_path, random.Random(1))) == []


@pytest.mark.parametrize("planted", ["wal", "sqlite"])
def test_a_planted_lie_is_caught(tmp_path: Path, planted: str) -> None:
    run = run_recorded(tmp_path, [150], planted)
    found = next(broken_promises(run, 40, tmp_path, random.Random(1)), None)
    assert found is not None, "the power cuts did not notice it"
    assert ("SQLite" in found or "the metadata is older" in found) == (planted == "sqlite")
