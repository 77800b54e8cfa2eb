"""What the sub-commands of `weir bench` share: options, how they become a workload and a target, errors, files."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.bench.errors import BenchError
from benchmarks.bench.result import Result
from benchmarks.bench.workload import Workload

MATRICES = Path(__file__).resolve().parent.parent / "matrices"
_TREE = Path(__file__).resolve().parent.parent
RESULTS = _TREE / "results" if (_TREE.parent / "pyproject.toml").is_file() else Path("results")
"""Tracked results: in the checkout that this runs from, else in a folder of the working directory."""


@contextmanager
def reported() -> Iterator[None]:
    """Turn our errors into a message and exit status 1, an interrupt into 130. SIGTERM is one, too: what was started
    for the run must not outlive it."""
    from benchmarks.bench.librdkafka import ClientError

    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (BenchError, ClientError) as error:
        typer.echo(f"weir bench: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("weir bench: interrupted", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, former)


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
    from benchmarks.bench.target import Target

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


def save(path: Path, result: Result) -> None:
    """Write a result file; BenchError when it cannot be (a full disk, for one)."""
    from benchmarks.bench.result import write

    try:
        write(path, result)
    except OSError as error:
        raise BenchError(f"the result could not be written to {path}: {error.strerror}") from None


def written(result: Result, out: Path | None, html: Path | None) -> list[str]:
    """Write what was asked for; what could not be written. The figures can still be printed."""
    from benchmarks.bench.report import page

    problems = []
    try:
        if out is not None:
            save(out, result)
    except BenchError as error:
        problems.append(str(error))
    try:
        if html is not None:
            html.write_text(
                page([result], f"{result.workload.name} on {result.environment.broker or result.bootstrap}")
            )
    except OSError as error:
        problems.append(f"the page could not be written to {html}: {error.strerror}")
    return problems


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
