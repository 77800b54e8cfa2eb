"""Hand-made histories, step by step."""

from __future__ import annotations

from benchmarks.verify.history import History, Operation, Outcome, Partition

P = Partition("t", 0)


def add(
    history: History, operation: Operation, began_s: float, ended_s: float | None, outcome: Outcome = Outcome.OK
) -> None:
    """One operation from `began_s` to `ended_s`; None: it never ended."""
    history.invoke(operation, began_s)
    if ended_s is not None:
        history.end(operation, outcome, ended_s)
