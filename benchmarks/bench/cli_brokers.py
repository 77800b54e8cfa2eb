"""Sub-commands that run a workload many times: `versus`, `matrix`, `sustain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.bench.errors import BenchError
from benchmarks.bench.options import (
    MATRICES,
    RESULTS,
    Bootstrap,
    Changes,
    ClientOption,
    Cpus,
    Pids,
    Profile,
    bind,
    check_out,
    reported,
    save,
    target_of,
    workload_of,
)


def _measure(
    brokers: Any,
    plans: Any,
    rounds: int,
    name: str,
    text: str,
    cpus: str,
    server_cpus: str,
    out: Path | None,
    into: Any = None,
) -> None:
    """Run plans on brokers in turn and show the table. `into`: a table whose other cases stay in what is written."""
    from rich.console import Console

    from benchmarks.bench import comparison, table
    from benchmarks.bench.interleaved import Interleaved
    from benchmarks.bench.server import parse_spans

    check_out(out)
    bind(cpus)
    try:
        pinned = parse_spans(server_cpus) if server_cpus else set()
    except ValueError:
        raise BenchError(f"--server-cpus {server_cpus}: expected numbers like 0 or 0-1,3") from None
    console = Console(stderr=True)

    def save_table(found: Any) -> None:
        if out is not None:
            try:
                table.write(out, table.merged(into, found) if into is not None else found)
            except OSError as error:
                raise BenchError(f"the table could not be written to {out}: {error.strerror}") from None

    with Interleaved(brokers, pinned, lambda line: console.print(line, highlight=False)) as measured:
        measured.start(rounds)
        found = measured.measure(plans, rounds, save_table, name, text)
    comparison.show_table(found, Console())


def versus(
    brokers: Annotated[
        list[str], typer.Argument(help="NAME=HOST:PORT[,pid=N][,metrics=URL][,topic.CONFIG=VALUE], two or more.")
    ],
    profile: Annotated[str, typer.Option("--profile", "-p", help="The workload.")] = "throughput",
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    changes: Changes = None,
    cpus: Cpus = "",
    server_cpus: Annotated[str, typer.Option("--server-cpus", help="Bind the brokers to these CPUs.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the table as JSON.")] = None,
) -> None:
    """Run one workload on several brokers in turn; medians, and the first broker's ratios to the others."""
    with reported():
        from benchmarks.bench import matrix
        from benchmarks.bench.interleaved import Plan
        from benchmarks.bench.table import Case

        workload = workload_of(profile, changes, {})
        plan = Plan(Case(name=workload.name, text=workload.text), workload)
        _measure(
            [matrix.parse_broker(each) for each in brokers],
            [plan],
            rounds,
            workload.name,
            workload.text,
            cpus,
            server_cpus,
            out,
        )


def run_matrix(
    brokers: Annotated[Path, typer.Option("--brokers", help="A .toml file with one [[broker]] for each.")],
    file: Annotated[Path, typer.Argument(help="The cases.")] = MATRICES / "versus-kafka.toml",
    only: Annotated[
        str, typer.Option("--only", help="Cases by name, with * for anything; the table's others are kept.")
    ] = "*",
    rounds: Annotated[int, typer.Option(help="Instead of the file's number.")] = 0,
    changes: Annotated[list[str] | None, typer.Option("--set", "-s", help="Any key, for every case.")] = None,
    cpus: Cpus = "",
    server_cpus: Annotated[str, typer.Option("--server-cpus", help="Bind the brokers to these CPUs.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The table; else results/MACHINE/NAME.json.")] = None,
    name: Annotated[str, typer.Option("--name", help="The table's name instead of the file's.")] = "",
) -> None:
    """Run the cases of a file on several brokers in turn and keep a small table of the medians."""
    with reported():
        from benchmarks.bench import matrix as matrices
        from benchmarks.bench import table
        from benchmarks.bench.environment import machine, machine_kind
        from benchmarks.bench.profiles import parse_change

        cases, plans = matrices.load(file, only, dict(parse_change(text) for text in changes or []))
        name = name or cases.name
        out = out or RESULTS / machine_kind(machine()) / f"{name}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        kept = table.read_any(out) if only != "*" and out.exists() else None
        if kept is not None and not isinstance(kept, table.Table):
            raise BenchError(f"{out} is the result of a run: no table that could take cases in")
        _measure(
            matrices.load_brokers(brokers),
            plans,
            rounds or cases.rounds,
            name,
            cases.text,
            cpus,
            server_cpus,
            out,
            kept,
        )
        typer.echo(f"written to {out}")


def sustain(
    profile: Profile = None,
    bootstrap: Bootstrap = "127.0.0.1:9092",
    bound_ms: Annotated[float, typer.Option("--bound-ms", help="The latency that must not be exceeded.")] = 50.0,
    metric: Annotated[str, typer.Option(help="Which one: p50, p90, p99, p999 or max.")] = "p99",
    start_rate: Annotated[float, typer.Option("--start-rate", help="Records per second tried first.")] = 10_000,
    precision: Annotated[float, typer.Option(help="How close the answer is, as a share.")] = 0.05,
    duration: Annotated[float, typer.Option(help="Seconds measured in each run.")] = 10,
    warmup: Annotated[float, typer.Option(help="Seconds before each.")] = 3,
    name: Annotated[str, typer.Option("--name", help="What to call the broker.")] = "",
    server_pid: Pids = None,
    changes: Changes = None,
    client: ClientOption = None,
    cpus: Cpus = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the best run's result as JSON.")] = None,
) -> None:
    """Find the highest rate that is sustained under a latency bound."""
    with reported():
        from rich.console import Console

        from benchmarks.bench import figures, summary
        from benchmarks.bench import sustain as searching

        if metric not in ("p50", "p90", "p99", "p999", "max"):
            raise BenchError(f"--metric {metric}: expected p50, p90, p99, p999 or max")
        if start_rate < 1 or bound_ms <= 0 or precision <= 0:
            raise BenchError("--start-rate must be at least 1, --bound-ms and --precision above 0")
        workload = workload_of(profile, changes, {"duration_s": duration, "warmup_s": warmup, "load.rate": start_rate})
        check_out(out)
        bind(cpus)
        console = Console(stderr=True)

        def told(attempt: searching.Attempt) -> None:
            sign = "[green]kept[/green]" if attempt.sustained else "[red]not kept[/red]"
            rate = attempt.result.workload.load.rate
            volume = figures.megabytes(rate * attempt.result.workload.load.record_size)
            limit = ", limited by the client" if attempt.result.limited_by == "client" else ""
            console.print(f"{figures.rate(rate)} ({volume}): {sign}, {attempt.why}{limit}", highlight=False)

        target = target_of(bootstrap, name, server_pid, "", client, None)
        best = searching.sustain(workload, target, bound_ms, metric, start_rate, precision, told)
        if best is None:
            raise BenchError(f"no rate was sustained with {metric} under {bound_ms:g} ms")
        summary.show(best, Console())
        if out is not None:
            save(out, best)
