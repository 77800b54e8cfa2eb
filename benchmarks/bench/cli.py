"""`weir bench`: the command, with `run` and `profiles`. Heavy modules are loaded by the command that needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bench.cli_brokers import run_matrix, sustain, versus
from benchmarks.bench.cli_results import check, compare, report, track
from benchmarks.bench.errors import BenchError
from benchmarks.bench.options import (
    Bootstrap,
    Changes,
    ClientOption,
    Cpus,
    Metrics,
    Pids,
    Prices,
    Profile,
    Quiet,
    bind,
    check_out,
    reported,
    target_of,
    workload_of,
    written,
)

app = typer.Typer(
    name="bench",
    help="Measure any Kafka-protocol broker: open-loop load, latencies, what the server used.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def run(
    profile: Profile = None,
    bootstrap: Bootstrap = "127.0.0.1:9092",
    name: Annotated[str, typer.Option("--name", help="What to call the broker in the result.")] = "",
    server_pid: Pids = None,
    metrics: Metrics = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the result as JSON.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report page.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Records per second over all producers; 0: as fast as possible.")
    ] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds measured.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Seconds before.")] = None,
    topics: Annotated[int | None, typer.Option()] = None,
    partitions: Annotated[int | None, typer.Option(help="Of each topic.")] = None,
    producers: Annotated[int | None, typer.Option()] = None,
    record_size: Annotated[int | None, typer.Option(help="Bytes of a value.")] = None,
    groups: Annotated[int | None, typer.Option(help="Consumer groups.")] = None,
    consumers: Annotated[int | None, typer.Option(help="In each group.")] = None,
    processes: Annotated[int | None, typer.Option(help="Client processes that produce.")] = None,
    backlog: Annotated[int | None, typer.Option(help="Bytes behind before the groups begin to read.")] = None,
    changes: Changes = None,
    client: ClientOption = None,
    price: Prices = None,
    cpus: Cpus = "",
    keep_topics: Annotated[bool, typer.Option("--keep-topics", help="Leave the topics behind.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a summary.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run one workload: a profile, options, or a profile with options over it."""
    import dataclasses

    from rich.console import Console

    from benchmarks.bench import summary
    from benchmarks.bench.run import run as run_workload

    with reported():
        options = {
            "load.rate": rate,
            "duration_s": duration,
            "warmup_s": warmup,
            "topics": topics,
            "partitions": partitions,
            "load.producers": producers,
            "load.record_size": record_size,
            "readers.groups": groups,
            "readers.consumers": consumers,
            "load.processes": processes,
            "backlog.bytes": backlog,
        }
        workload = workload_of(profile, changes, options)
        target = target_of(bootstrap, name, server_pid, metrics, client, price)
        target = dataclasses.replace(target, keep_topics=keep_topics)
        check_out(out)
        check_out(html)
        bind(cpus)
        console = Console(stderr=True, quiet=quiet)
        with summary.Progress(workload, name or bootstrap, console) as progress:
            result = run_workload(workload, target, progress)
        problems = written(result, out, html)  # before the figures: whoever reads them may close the pipe
        if as_json:
            import msgspec

            sys.stdout.write(msgspec.json.format(msgspec.json.encode(result)).decode() + "\n")
        else:
            summary.show(result, Console())
        if problems:
            raise BenchError("; ".join(problems))
        if not result.records_acked:
            raise BenchError("no record was acknowledged in the measured time")
        if any(each.startswith("LOST") for each in result.warnings):
            raise typer.Exit(3)


profiles_app = typer.Typer(help="The shipped workloads.", no_args_is_help=True)


@profiles_app.command("list")
def list_profiles() -> None:
    """Name them, with what each one shows."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.bench import profiles

    with reported():
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("profile", no_wrap=True)
        table.add_column("what it does")
        for each in profiles.names():
            table.add_row(each, profiles.load(profiles.locate(each)).text)
        Console().print(table, highlight=False)


@profiles_app.command("show")
def show_profile(profile: Annotated[str, typer.Argument(help="A profile's name.")]) -> None:
    """Print the file, to copy and change: `weir bench profiles show spike > mine.toml`."""
    from benchmarks.bench import profiles

    with reported():
        sys.stdout.write(profiles.locate(profile).read_text())


app.command()(run)
app.command()(sustain)
app.command()(versus)
app.command(name="matrix")(run_matrix)
app.command()(compare)
app.command()(report)
app.command()(track)
app.command()(check)
app.add_typer(profiles_app, name="profiles")
