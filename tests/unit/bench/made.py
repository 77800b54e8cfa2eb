"""Results and tables for the tests, made up."""

from __future__ import annotations

from benchmarks.bench import histogram, noise
from benchmarks.bench.result import CatchUp, Environment, Result, Sample, Server
from benchmarks.bench.table import Case, Row, Table
from benchmarks.bench.workload import Load, Readers, Workload

ENVIRONMENT = Environment(
    machine="Processor x 2, 4 GiB",
    cores=2,
    memory_bytes=4 << 30,
    kernel="6.1",
    python="CPython 3.11.7",
    librdkafka="2.16.0",
    commit="abc",
    broker="Weir <1>",
    cpuset_client="1",
    cpuset_server="0",
    load_before=0.5,
    python_loop_ns=20.0,
    steal_share=0.0,
)


def result(p99_ms: float = 5.0, mb_per_s: float = 10.0, seconds: int = 5) -> Result:
    """A run of five seconds."""
    ack = histogram.latency({1000: 980, int(p99_ms * 1000): 20})
    samples = tuple(
        Sample(at_s=at, due=100, acked=100, acked_bytes=10_000, ack_p50_ms=1.0, ack_p99_ms=p99_ms, server_rss=1 << 20)
        for at in range(seconds)
    )
    return Result(
        started_at="2026-01-01T00:00:00+00:00",
        bootstrap="127.0.0.1:9092",
        workload=Workload(name="made", text="a & b", load=Load(rate=100), readers=Readers(groups=1)),
        environment=ENVIRONMENT,
        seconds=seconds,
        records_acked=500,
        bytes_acked=50_000,
        records_failed=0,
        records_read=500,
        bytes_read=50_000,
        records_per_s=100,
        bytes_per_s=mb_per_s * 1e6,
        read_bytes_per_s=1e4,
        ack=ack,
        end_to_end=ack,
        catch_up=CatchUp(backlog_records=1, backlog_bytes=100, seconds=1, read_bytes_per_s=100, complete=True),
        server=Server(pids=(1,), cpu_s=1, cpu_s_per_gb=2, rss_max=1 << 20, context_switches=3, requests={"put": 4}),
        errors={"<MSG>": 2},
        limited_by="rate",
        warnings=("late & slow",),
        samples=samples,
    )


def table(ours: list[float], theirs: list[float], metric: str = "mb_per_s", goal: float = 1.0) -> Table:
    """One case on two brokers."""
    return Table(
        name="made",
        text="made up",
        measured_at="2026-01-01",
        environment=ENVIRONMENT,
        brokers=("weir", "kafka"),
        cases=(Case(name="one", text="the case", section="produce", goals={"kafka": {metric: goal}}),),
        rows=(
            Row(case="one", broker="weir", rounds=len(ours), figures={metric: noise.figure(ours)}),
            Row(
                case="one",
                broker="kafka",
                rounds=len(theirs),
                figures={metric: noise.figure(theirs)},
                ratios={metric: found} if (found := noise.ratio(ours, theirs)) else {},
            ),
        ),
    )
