"""Results kept in the repository, by kind of machine, and the check of new ones against them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.bench import table
from benchmarks.bench.comparison import Regression, as_table, regressions
from benchmarks.bench.environment import machine_kind
from benchmarks.bench.errors import BenchError
from benchmarks.bench.result import Result
from benchmarks.bench.table import Table


def place(folder: Path, found: Table) -> Path:
    """Where a table is kept: one folder for each kind of machine."""
    return folder / machine_kind(found.environment.machine) / f"{found.name}.json"


def track(folder: Path, found: Result | Table, name: str) -> Path:
    """Keep a result as the one that later ones are checked against; its file."""
    kept = as_table(found)
    if name:
        kept = msgspec.structs.replace(kept, name=name)
    path = place(folder, kept)
    try:
        table.write(path, kept)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    return path


def check(folder: Path, found: Result | Table, name: str, floor: float) -> tuple[Path, list[Regression]]:
    """The tracked table that belongs to this result, and what is worse than in it beyond the noise."""
    now = as_table(found)
    path = place(folder, msgspec.structs.replace(now, name=name or now.name))
    if not path.is_file():
        raise BenchError(f"nothing is tracked for this machine and name: {path} does not exist")
    kept = table.read_any(path)
    if not isinstance(kept, Table):
        raise BenchError(f"{path}: not a tracked table")
    return path, regressions(kept, now, floor)
