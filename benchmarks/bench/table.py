"""The small JSON that is kept in the repository: medians of repeated runs of some cases on one or more brokers."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.bench.errors import BenchError
from benchmarks.bench.result import Environment, Result

SCHEMA = 1


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over the rounds; `noise` is relative to the median."""

    median: float
    low: float
    high: float
    noise: float = 0.0


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """The first broker's figure over another's."""

    value: float
    noise: float = 0.0


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One case on one broker."""

    case: str
    broker: str
    rounds: int
    figures: dict[str, Figure]
    ratios: dict[str, Ratio] = {}  # of the table's first broker to this one; empty for the first
    limited_by: str = ""
    failure: str = ""  # why there are no figures
    measured_at: str = ""  # and commit: when they are not the table's
    commit: str = ""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What a case does, and the ratios hoped for by broker and metric."""

    name: str
    text: str = ""
    section: str = ""
    x: float | None = None  # with a section's other cases, a place on a curve: partitions, connections, bytes
    goals: dict[str, dict[str, float]] = {}


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A set of rows measured in one go; rows that were measured again later say so."""

    kind: str = "table"
    schema: int = SCHEMA
    name: str
    text: str = ""
    measured_at: str
    environment: Environment
    brokers: tuple[str, ...]  # the first is the one that ratios are of
    cases: tuple[Case, ...]
    rows: tuple[Row, ...]

    def row(self, case: str, broker: str) -> Row | None:
        """The row of this case and broker."""
        return next((row for row in self.rows if row.case == case and row.broker == broker), None)


def merged(kept: Table, found: Table) -> Table:
    """`kept` with the cases of `found` in the place of its own ones of the same name, or behind them.

    BenchError: they were measured on other machines, CPUs or brokers, so that they cannot stand side by side.
    """
    for what, before, now in (
        ("brokers", ", ".join(kept.brokers), ", ".join(found.brokers)),
        ("machine", kept.environment.machine, found.environment.machine),
        ("CPUs of the client", kept.environment.cpuset_client, found.environment.cpuset_client),
        ("CPUs of the server", kept.environment.cpuset_server, found.environment.cpuset_server),
    ):
        if before != now:
            raise BenchError(f"table {kept.name} cannot take these cases in: its {what}: {before}; these: {now}")
    cases = {case.name: case for case in (*kept.cases, *found.cases)}
    again = {case.name for case in found.cases}
    when = {"measured_at": found.measured_at, "commit": found.environment.commit}
    rows = [row for row in kept.rows if row.case not in again]
    rows += [msgspec.structs.replace(row, **when) for row in found.rows]
    rows.sort(key=lambda row: list(cases).index(row.case))
    return msgspec.structs.replace(kept, cases=tuple(cases.values()), rows=tuple(rows))


def write(path: Path, table: Table) -> None:
    """Write as indented JSON; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n")


def read_any(path: Path) -> Result | Table:
    """A run's result or a table, whichever the file holds. BenchError names the file and what is wrong."""
    from benchmarks.bench import result

    try:
        body = path.read_bytes()
        head = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        if bytes(head.get("kind", msgspec.Raw(b""))) != b'"table"':
            return result.read(path)
        table = msgspec.json.decode(body, type=Table)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, result.NewerSchema) as error:
        raise BenchError(f"{path}: {error}") from None
    if table.schema > SCHEMA:
        raise BenchError(f"{path} has schema {table.schema}, this version reads up to {SCHEMA}")
    return table


_LEAST_COMMITS = 100
"""Fewer say nothing about latency, least of all of their p99."""


def figures_of(found: Result) -> dict[str, float]:
    """The figures of one run by which brokers are compared."""
    out = {"mb_per_s": found.bytes_per_s / 1e6, "records_per_s": found.records_per_s}
    if found.workload.readers.groups and found.catch_up is None:
        out["read_mb_per_s"] = found.read_bytes_per_s / 1e6
    commit = found.commit if found.commits >= _LEAST_COMMITS else None
    for name, latency in (("ack", found.ack), ("end_to_end", found.end_to_end), ("commit", commit)):
        if latency is not None:
            out |= {f"{name}_p50_ms": latency.p50, f"{name}_p99_ms": latency.p99, f"{name}_p999_ms": latency.p999}
    if found.commits >= _LEAST_COMMITS:
        out["commits_per_s"] = found.commits / found.seconds
    if found.server is not None:
        if found.server.cpu_s_per_gb is not None:
            out["cpu_us_per_mb"] = found.server.cpu_s_per_gb * 1000
        out["memory_mb"] = found.server.rss_max / 1e6
    if found.catch_up is not None:
        out["catch_up_mb_per_s"] = found.catch_up.read_bytes_per_s / 1e6
        if found.catch_up.server_cpu_s and found.catch_up.backlog_bytes:
            out["catch_up_cpu_us_per_mb"] = found.catch_up.server_cpu_s * 1e12 / found.catch_up.backlog_bytes
        if found.catch_up.ack_during is not None:
            out["ack_p99_during_ms"] = found.catch_up.ack_during.p99
    return out
