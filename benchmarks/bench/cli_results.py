"""Sub-commands on results that exist: `compare`, `report`, `track`, `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bench.errors import BenchError
from benchmarks.bench.options import RESULTS, reported


def compare(
    before: Annotated[Path, typer.Argument(help="A result or a table.")],
    after: Annotated[Path, typer.Argument(help="Another one of the same kind.")],
) -> None:
    """Two results side by side, with the ratio of the second to the first."""
    with reported():
        from rich.console import Console

        from benchmarks.bench import comparison, table

        comparison.show_compared(table.read_any(before), table.read_any(after), Console())


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


Floor = Annotated[float, typer.Option("--noise", help="The least noise granted to any figure, as a share.")]


def track(
    result: Annotated[Path, typer.Argument(help="A result or a table.")],
    name: Annotated[str, typer.Option("--name", help="Instead of its own name.")] = "",
    folder: Annotated[Path, typer.Option("--results", help="The folder of tracked results.")] = RESULTS,
) -> None:
    """Keep a result in the repository as the one that later ones are checked against."""
    with reported():
        from benchmarks.bench import table, tracking

        typer.echo(f"written to {tracking.track(folder, table.read_any(result), name)}")


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
