"""Statements over many rows in every dialect: `IN` lists of a few fixed lengths, so few statements are prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from s3stream.ports import Tx

_LENGTHS = (1, 16, 256, 1024)


def in_lists(sql: str, ids: Sequence[int], *fixed: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements and arguments that together cover `ids`. `sql` names the list as `IN ({ids})`; its own placeholders
    `$1`... are `fixed`. A list is filled up by repeating its last id."""
    position = 0
    while position < len(ids):
        part = tuple(ids[position : position + _LENGTHS[-1]])
        position += len(part)
        length = next(length for length in _LENGTHS if length >= len(part))
        part += (part[-1],) * (length - len(part))
        first = len(fixed) + 1
        places = ", ".join(f"${number}" for number in range(first, first + length))
        yield sql.replace("{ids}", places), (*fixed, *part)


async def fetch_in(tx: Tx, sql: str, ids: Sequence[int], *fixed: Any) -> list[tuple[Any, ...]]:
    """Rows of a SELECT over an id list; the order is that of the statement within 1,024 ids, then of the ids."""
    rows: list[tuple[Any, ...]] = []
    for statement, arguments in in_lists(sql, ids, *fixed):
        rows += await tx.fetch(statement, *arguments)
    return rows


async def execute_in(tx: Tx, sql: str, ids: Sequence[int], *fixed: Any) -> int:
    """Rows affected by a statement over an id list."""
    affected = 0
    for statement, arguments in in_lists(sql, ids, *fixed):
        affected += await tx.execute(statement, *arguments)
    return affected


def locking(tx: Tx) -> str:
    """The clause that locks the rows of a SELECT; SQLite has one writer and needs none."""
    return " FOR UPDATE" if tx.dialect == "postgresql" else ""
