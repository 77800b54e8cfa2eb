"""Seeds that found something, kept for good: every fast run replays them. An entry says what was mended.

A seed means the same only as long as workload and faults are drawn in the same order. Who changes that looks for a seed
that fails without the fix, and puts it in the old one's place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Regression:
    """One run of `seconds` simulated seconds under faults."""

    scenario: str
    seed: int
    seconds: float
    reason: str


REGRESSIONS: tuple[Regression, ...] = (
    Regression(
        "metadata-outage",
        47002,
        15.0,
        "a metadata connection that broke while a group partition was loaded ended the broker",
    ),
    Regression(
        "store-lies",
        8,
        15.0,
        "a truncated body that came while a group partition was loaded left it without coordinator until a restart",
    ),
    Regression(
        "power-cuts",
        48000,
        60.0,
        "a start that lost power between opening its logs and making them durable left an epoch ahead of the log",
    ),
)
