"""`weir bench`: the sub-commands. Heavy modules are loaded by the command that needs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.bench.errors import BenchError
from benchmarks.bench.workload import Workload

app = typer.Typer(
    name="bench",
    help="Measure any Kafka-protocol broker: open-loop load, latencies, what the server used.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextmanager
def reported() -> Iterator[None]:
    """Turn our errors into a message and exit status 1, an interrupt into 130."""
    from benchmarks.bench.librdkafka import ClientError

    try:
        yield
    except (BenchError, ClientError) as error:
        typer.echo(f"weir bench: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("weir bench: interrupted", err=True)
        raise typer.Exit(130) from None


Bootstrap = Annotated[str, typer.Option("--bootstrap", "-b", help="host:port of a broker, or several with commas.")]
Profile = Annotated[str | None, typer.Argument(help="A shipped profile's name, or the path of a .toml file.")]
Pids = Annotated[
    list[int] | None, typer.Option("--server-pid", help="A process of the broker; found by itself on loopback.")
]
Metrics = Annotated[
    str, typer.Option("--metrics", help="URL of Weir's /metrics, for object-store requests and their price.")
]
Changes = Annotated[list[str] | None, typer.Option("--set", "-s", help="Any key of a profile: load.linger_ms=0.")]
ClientOption = Annotated[list[str] | None, typer.Option("--client", "-X", help="librdkafka property for all clients.")]
Prices = Annotated[list[str] | None, typer.Option("--price", help="write_per_1000=0.005 and so on, in dollars.")]
Cpus = Annotated[str, typer.Option("--cpus", help="CPUs for the client processes, like 1 or 0-1.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """`key=value` options."""
    out = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise BenchError(f"{option} {text}: expected key=value")
        out[key] = value
    return out


def workload_of(profile: str | None, changes: list[str] | None, options: dict[str, Any]) -> Workload:
    """The profile with the options that were given."""
    from benchmarks.bench import profiles

    given = {key: value for key, value in options.items() if value is not None}
    given |= dict(profiles.parse_change(text) for text in changes or [])
    if profile is None:
        return profiles.build({}, given, "options")
    return profiles.load(profiles.locate(profile), given)


def target_of(
    bootstrap: str, name: str, pids: list[int] | None, metrics: str, client: list[str] | None, prices: list[str] | None
) -> Any:
    """The broker that the options name."""
    from benchmarks.bench.prices import DEFAULT
    from benchmarks.bench.run import Target

    stated = dict(DEFAULT)
    for key, value in pairs(prices, "--price").items():
        try:
            stated[key] = {**DEFAULT, key: float(value)}[key] if key in DEFAULT else _unknown_price(key)
        except ValueError:
            raise BenchError(f"--price {key}={value}: expected dollars") from None
    return Target(
        bootstrap=bootstrap,
        name=name,
        pids=tuple(pids or ()),
        metrics_url=metrics,
        client=pairs(client, "--client"),
        prices=stated,
    )


def _unknown_price(key: str) -> float:
    from benchmarks.bench.prices import DEFAULT

    raise BenchError(f"--price {key}: not known; there are {', '.join(DEFAULT)}")


def bind(cpus: str) -> None:
    """Bind this process, and so the client processes, to some CPUs."""
    import os

    from benchmarks.bench.server import parse_spans

    if not cpus:
        return
    try:
        os.sched_setaffinity(0, parse_spans(cpus))
    except (ValueError, OSError) as error:
        raise BenchError(f"--cpus {cpus}: {error}") from None


def save(path: Path, result: Any) -> None:
    """Write a result file; BenchError when it cannot be (a full disk, for one). The figures were printed before."""
    from benchmarks.bench.result import write

    try:
        write(path, result)
    except OSError as error:
        raise BenchError(f"the result could not be written to {path}: {error.strerror}") from None


def check_out(path: Path | None) -> None:
    """Find out before a long run whether its result can be written."""
    if path is None:
        return
    try:
        existed = path.exists()
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise BenchError(f"the result cannot be written to {path}: {error.strerror}") from None


@app.command()
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
        if as_json:
            import msgspec

            sys.stdout.write(msgspec.json.format(msgspec.json.encode(result)).decode() + "\n")
        else:
            summary.show(result, Console())
        if out is not None:
            save(out, result)
        if html is not None:
            from benchmarks.bench.report import page

            try:
                html.write_text(page([result], f"{workload.name} on {result.environment.broker or bootstrap}"))
            except OSError as error:
                raise BenchError(f"the page could not be written to {html}: {error.strerror}") from None
        if any(each.startswith("LOST") for each in result.warnings):
            raise typer.Exit(3)


profiles_app = typer.Typer(help="The shipped workloads.", no_args_is_help=True)
app.add_typer(profiles_app, name="profiles")


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


MATRICES = Path(__file__).resolve().parent.parent / "matrices"
_TREE = Path(__file__).resolve().parent.parent
RESULTS = _TREE / "results" if (_TREE.parent / "pyproject.toml").is_file() else Path("results")
"""Tracked results: in the checkout that this runs from, else in a folder of the working directory."""


def _measure(
    brokers: Any, plans: Any, rounds: int, name: str, text: str, cpus: str, server_cpus: str, out: Path | None
) -> None:
    """Run plans on brokers in turn and show the table."""
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
                table.write(out, found)
            except OSError as error:
                raise BenchError(f"the table could not be written to {out}: {error.strerror}") from None

    with Interleaved(brokers, pinned, lambda line: console.print(line, highlight=False)) as measured:
        measured.start(rounds)
        found = measured.measure(plans, rounds, save_table, name, text)
    comparison.show_table(found, Console())


@app.command()
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


@app.command(name="matrix")
def run_matrix(
    brokers: Annotated[Path, typer.Option("--brokers", help="A .toml file with one [[broker]] for each.")],
    file: Annotated[Path, typer.Argument(help="The cases.")] = MATRICES / "versus-kafka.toml",
    only: Annotated[str, typer.Option("--only", help="Cases by name, with * for anything.")] = "*",
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
        from benchmarks.bench.environment import machine, machine_kind
        from benchmarks.bench.profiles import parse_change

        cases, plans = matrices.load(file, only, dict(parse_change(text) for text in changes or []))
        name = name or cases.name
        out = out or RESULTS / machine_kind(machine()) / f"{name}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        _measure(
            matrices.load_brokers(brokers), plans, rounds or cases.rounds, name, cases.text, cpus, server_cpus, out
        )
        typer.echo(f"written to {out}")


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A result or a table.")],
    after: Annotated[Path, typer.Argument(help="Another one of the same kind.")],
) -> None:
    """Two results side by side, with the ratio of the second to the first."""
    with reported():
        from rich.console import Console

        from benchmarks.bench import comparison, table

        comparison.show_compared(table.read_any(before), table.read_any(after), Console())


@app.command()
def report(
    results: Annotated[list[Path] | None, typer.Argument(help="Results and tables; else all tracked ones.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("report.html"),
    title: Annotated[str, typer.Option("--title")] = "Benchmark report",
) -> None:
    """Write one self-contained HTML page."""
    with reported():
        from benchmarks.bench import table
        from benchmarks.bench.report import page

        paths = results or sorted(RESULTS.glob("*/*.json"))
        if not paths:
            raise BenchError(f"there are no results in {RESULTS}, and none were named")
        text = page([table.read_any(path) for path in paths], title)
        try:
            out.write_text(text)
        except OSError as error:
            raise BenchError(f"the page could not be written to {out}: {error.strerror}") from None
        typer.echo(f"written to {out}")


@app.command()
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


Floor = Annotated[float, typer.Option("--noise", help="The least noise granted to any figure, as a share.")]


@app.command()
def track(
    result: Annotated[Path, typer.Argument(help="A result or a table.")],
    name: Annotated[str, typer.Option("--name", help="Instead of its own name.")] = "",
    folder: Annotated[Path, typer.Option("--results", help="The folder of tracked results.")] = RESULTS,
) -> None:
    """Keep a result in the repository as the one that later ones are checked against."""
    with reported():
        from benchmarks.bench import table, tracking

        typer.echo(f"written to {tracking.track(folder, table.read_any(result), name)}")


@app.command()
def check(
    result: Annotated[Path, typer.Argument(help="A result or a table.")],
    name: Annotated[str, typer.Option("--name", help="The tracked one's name.")] = "",
    floor: Floor = 0.15,
    folder: Annotated[Path, typer.Option("--results", help="The folder of tracked results.")] = RESULTS,
) -> None:
    """Compare with the tracked result of this kind of machine; exit status 2 when something is worse."""
    with reported():
        from benchmarks.bench import table, tracking

        path, worse = tracking.check(folder, table.read_any(result), name, floor)
        for each in worse:
            typer.echo(str(each))
        typer.echo(f"{len(worse)} figures are worse than in {path} beyond the noise")
        if worse:
            raise typer.Exit(2)
