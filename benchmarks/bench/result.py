"""What a benchmark run found: the structure of the JSON result, and how it is written and read.

`schema` grows when a field changes its meaning; readers refuse a newer one. All latencies are milliseconds from the
moment a record was due, all sizes bytes, all times seconds; `at_s` counts from the start of the measured time.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.bench.workload import Workload

SCHEMA = 1


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of one HDR histogram, in ms; `histogram` is its standard base64 encoding (values in us)."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    p9999: float
    max: float
    histogram: str = ""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the run."""

    at_s: float
    due: int = 0  # records that were due
    acked: int = 0
    acked_bytes: int = 0
    failed: int = 0
    read: int = 0
    read_bytes: int = 0
    lag_records: int = 0  # acknowledged and not yet read by the slowest group
    ack_p50_ms: float = 0.0
    ack_p99_ms: float = 0.0
    end_to_end_p50_ms: float = 0.0
    end_to_end_p99_ms: float = 0.0
    server_cpu_s: float = 0.0  # CPU seconds used in this second, all broker processes
    server_rss: int = 0
    client_cpu_s: float = 0.0
    late_ms: float = 0.0  # how far behind its schedule the slowest producer was


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker's processes used, wherever their pids are known, and what its metrics say."""

    pids: tuple[int, ...]
    cpu_s: float
    cpu_s_per_gb: float | None
    rss_max: int
    context_switches: int
    requests: dict[str, int] = {}  # object-store requests by class
    request_bytes: dict[str, int] = {}
    dollars_per_gb: float | None = None  # with the prices below
    prices: dict[str, float] = {}


class CatchUp(msgspec.Struct, frozen=True, kw_only=True):
    """The catch-up phase."""

    backlog_records: int
    backlog_bytes: int
    seconds: float
    read_bytes_per_s: float
    complete: bool
    server_cpu_s: float = 0.0  # of the broker, while the groups caught up
    ack_before: Latency | None = None
    ack_during: Latency | None = None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    machine: str  # kind of machine: CPU model x cores, memory
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    librdkafka: str
    commit: str  # of Weir's tree, with "+" when it is changed
    broker: str  # what the broker says of itself, or the name given
    cpuset_client: str
    cpuset_server: str
    load_before: float
    python_loop_ns: float  # calibration: ns per turn of an empty counting loop, before and after
    steal_share: float
    others_share: float = 0.0  # of the CPU time while measuring, used by neither the broker nor the clients


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one workload against one broker."""

    schema: int = SCHEMA
    started_at: str  # ISO 8601, UTC
    bootstrap: str
    workload: Workload
    environment: Environment
    seconds: float  # measured, without warm-up
    records_acked: int
    bytes_acked: int
    records_failed: int
    records_read: int
    bytes_read: int
    records_per_s: float
    bytes_per_s: float
    read_bytes_per_s: float
    ack: Latency | None
    end_to_end: Latency | None
    commits: int = 0  # offset commits answered
    commit: Latency | None = None
    catch_up: CatchUp | None = None
    server: Server | None = None
    errors: dict[str, int] = {}
    limited_by: str  # "broker", "client" or "rate": what kept the run from being faster
    warnings: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()


class NewerSchema(Exception):
    """The file was written by a later version."""


def write(path: Path, result: Result) -> None:
    """Write as indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))


def read(path: Path) -> Result:
    """Read one result. NewerSchema, or msgspec.ValidationError with the place of what is wrong."""
    body = path.read_bytes()
    schema = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).get("schema", msgspec.Raw(b"0"))
    if int(bytes(schema)) > SCHEMA:
        raise NewerSchema(f"{path} has schema {bytes(schema).decode()}, this version reads up to {SCHEMA}")
    return msgspec.json.decode(body, type=Result)
