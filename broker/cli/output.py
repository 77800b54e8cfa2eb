"""What the commands print: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDE = 10_000


def console() -> Console:
    """Standard output; wide when it is not a terminal, so that programs get whole lines."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Numbers to the right; None is shown as `-`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[place], (int, float)) or row[place] is None for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_text(cell)) for cell in row))
    console().print(table)


def print_json(value: Any) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_records(columns: Sequence[str], rows: Sequence[Sequence[object]], *, as_json: bool) -> None:
    """The same rows as a table, or as a list of objects whose names are the columns in lower case."""
    if as_json:
        names = [column.lower().replace(" ", "_") for column in columns]
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


def say(text: str) -> None:
    """A line for people."""
    console().print(escape(text), soft_wrap=True)


def fail(text: str, code: int = 1) -> typer.Exit:
    """The exit to raise after telling what went wrong."""
    Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
    return typer.Exit(code)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.1f}"
    return str(cell)
