"""`weir verify`: options, progress, exit codes. Everything heavy is loaded by the command itself."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.verify.plan import Plan
    from benchmarks.verify.stored import Run

NOTHING_FOUND, VIOLATIONS, USAGE, NO_VERDICT = 0, 1, 2, 3
_SAY_EVERY_S = 5.0

app = typer.Typer(name="verify", add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True, subcommand_metavar="")
def verify(
    context: typer.Context,
    bootstrap: Annotated[
        str,
        typer.Option(
            "--bootstrap", "-b", envvar="WEIR_BOOTSTRAP", help="host:port of a broker, or several with commas."
        ),
    ] = "",
    judge: Annotated[
        Path | None, typer.Option("--judge", help="Judge this stored history; no cluster is needed.")
    ] = None,
    duration: Annotated[float, typer.Option("--duration", help="Seconds of load.")] = 60.0,
    producers: Annotated[int, typer.Option("--producers", help="How many, of each kind in turn.")] = 6,
    kinds: Annotated[
        str, typer.Option("--kinds", help="idempotent, plain (acks=all), acks1; with commas.")
    ] = "idempotent,plain,acks1",
    topics: Annotated[int, typer.Option("--topics", help="Topics to create.")] = 2,
    partitions: Annotated[int, typer.Option("--partitions", help="Partitions of each topic.")] = 3,
    replication: Annotated[
        int, typer.Option("--replication", help="Replicas of each partition; -1: the broker's default.")
    ] = -1,
    members: Annotated[int, typer.Option("--members", help="Members of the consumer group; 0: no group.")] = 2,
    rate: Annotated[float, typer.Option("--rate", help="Records per second, of all producers together.")] = 1000.0,
    record_bytes: Annotated[int, typer.Option("--record-bytes", help="Largest record value.")] = 100,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the workload's choices; what the cluster does stays its own.")
    ] = 0,
    chaos: Annotated[
        str,
        typer.Option(
            "--chaos",
            help="A shell command to run again and again under load, such as one that kills a broker and starts it.",
        ),
    ] = "",
    chaos_every: Annotated[float, typer.Option("--chaos-every", help="Seconds between two runs of it.")] = 10.0,
    heal_timeout: Annotated[
        float, typer.Option("--heal-timeout", help="Seconds that the cluster may need to be whole after the load.")
    ] = 60.0,
    min_acked: Annotated[
        int, typer.Option("--min-acked", help="Fewer acknowledged records than this are no verdict.")
    ] = 100,
    history: Annotated[
        Path | None, typer.Option("--history", help="Write the history here as JSON lines, as it comes.")
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option("--client", "-X", help="librdkafka property for every client: name=value.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Do not delete the topics afterwards.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Does a cluster keep its promises? Load any Kafka cluster, break it meanwhile, judge what it told its clients.

    Exit codes: 0 nothing found, 1 violations, 2 wrong usage, 3 no verdict: it could not run, or too little happened.
    """
    from benchmarks.verify.plan import Kind, Plan

    source = context.get_parameter_source("bootstrap")
    if judge is not None and source is not None and source.name != "COMMANDLINE":
        bootstrap = ""  # from the environment, for other commands
    if (judge is None) == (not bootstrap):
        raise _usage("give either --bootstrap HOST:PORT or --judge FILE")
    try:
        if judge is not None:
            _judge_stored(judge, min_acked)
        plan = Plan(
            bootstrap=bootstrap,
            duration_s=duration,
            producers=producers,
            topics=topics,
            partitions=partitions,
            rate_per_s=rate,
            record_bytes=record_bytes,
            kinds=tuple(Kind(each.strip()) for each in kinds.split(",")),
            members=members,
            replication=replication,
            seed=seed,
            chaos=chaos,
            chaos_every_s=chaos_every,
            heal_timeout_s=heal_timeout,
            min_acked=min_acked,
            keep=keep,
            client=_properties(client or []),
        )
    except ValueError as error:
        raise _usage(str(error)) from None
    _run(plan, history, quiet=quiet)


def _judge_stored(path: Path, min_acked: int) -> None:
    from benchmarks.verify import stored

    with _explained():
        _report(stored.load(path), min_acked)


def _run(plan: Plan, history: Path | None, *, quiet: bool) -> None:
    try:
        from benchmarks.verify.run import conduct
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "confluent_kafka":
            raise
        typer.echo("weir verify needs the Python package confluent-kafka: pip install 'weir[bench]'", err=True)
        raise typer.Exit(NO_VERDICT) from None
    with _explained():
        with _opened(history) as file, _Progress(quiet=quiet) as progress:
            run = conduct(plan, progress.say, file)
        _report(run, plan.min_acked)


def _report(run: Run, min_acked: int) -> None:
    from benchmarks.verify.report import show
    from benchmarks.verify.verdict import judge

    verdict = judge(run, min_acked)
    console = _console(sys.stdout)
    with console.capture() as captured:
        show(console, run, verdict)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    raise typer.Exit(int(verdict.result))


class _Progress:
    """The newest line on a terminal; elsewhere a line every few seconds. On standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = _console(sys.stderr)
        self._quiet = quiet
        self._status = self._console.status("") if self._console.is_terminal and not quiet else None
        self._said_s = float("-inf")
        self._last = ""

    def __enter__(self) -> _Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """Ticks begin with a digit and are thinned out; everything else is printed."""
        from rich.markup import escape

        if self._quiet:
            return
        if self._status is not None and text[:1].isdigit():
            self._status.update(escape(text))
        elif not text[:1].isdigit() or time.monotonic() - self._said_s >= _SAY_EVERY_S:
            self._console.print(escape(text), highlight=False)
            if text[:1].isdigit():
                self._said_s = time.monotonic()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Whatever keeps us from a verdict ends with 3: 1 means violations and nothing else."""
    from benchmarks.verify.errors import VerifyError

    try:
        yield
    except (VerifyError, OSError) as error:
        typer.echo(f"weir verify: {error}", err=True)
        raise typer.Exit(NO_VERDICT) from None
    except KeyboardInterrupt:
        typer.echo("weir verify: interrupted before there was a verdict", err=True)
        raise typer.Exit(NO_VERDICT) from None
    except typer.Exit:
        raise
    except Exception:  # noqa: BLE001 - shown whole: a fault of our own
        traceback.print_exc()
        raise typer.Exit(NO_VERDICT) from None


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO | None]:
    if path is None:
        yield None
        return
    with path.open("wb") as file:
        yield file


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else 160, highlight=False, soft_wrap=not stream.isatty())


def _properties(items: list[str]) -> dict[str, str]:
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--client {item}: expected name=value")
        found[name] = value
    return found


def _usage(text: str) -> typer.Exit:
    typer.echo(f"weir verify: {text}", err=True)
    return typer.Exit(USAGE)
