"""Medians, spreads and ratios of repeated figures. Pure.

The noise of a median is half the distance between the quartiles of the values, relative to the median; that of a ratio
of two brokers is taken from the ratios of the rounds, in which both were measured one right after the other: what
slows a shared machine down for a minute slows both, and does not count as a difference.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.bench.table import Figure, Ratio

HIGHER_IS_BETTER = frozenset(
    {"mb_per_s", "records_per_s", "read_mb_per_s", "catch_up_mb_per_s", "sustained_mb_per_s", "commits_per_s"}
)
FLOOR = 0.05
"""No figure is trusted closer than this, however well a few rounds agree."""


def figure(values: Sequence[float]) -> Figure:
    """The median of some rounds. ValueError when there are none."""
    ordered = sorted(values)
    middle = statistics.median(ordered)
    return Figure(
        median=_rounded(middle), low=_rounded(ordered[0]), high=_rounded(ordered[-1]), noise=_noise(ordered, middle)
    )


def _noise(ordered: Sequence[float], middle: float) -> float:
    if len(ordered) < 2 or not middle:
        return 0.0
    if len(ordered) < 4:
        return round((ordered[-1] - ordered[0]) / 2 / abs(middle), 4)
    low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return round((high - low) / 2 / abs(middle), 4)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Ours over theirs: the median of the rounds' ratios; None when a value of theirs is 0 or nothing is common."""
    rounds = [a / b for a, b in zip(ours, theirs, strict=False) if b]
    if not rounds:
        return None
    found = figure(rounds)
    return Ratio(value=found.median, noise=found.noise)


def meets(metric: str, value: float, goal: float) -> bool:
    """Whether a ratio reaches its goal: at least, where more is better; else at most."""
    return value >= goal if metric in HIGHER_IS_BETTER else value <= goal


def worse_by(metric: str, before: float, now: float) -> float:
    """How much worse a figure has become, as a share of the earlier one; negative: better."""
    if not before:
        return 0.0
    change = now / before - 1
    return -change if metric in HIGHER_IS_BETTER else change
