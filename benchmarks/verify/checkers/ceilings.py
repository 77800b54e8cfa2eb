"""Checker: no resource ever went beyond its declared ceiling."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.verify.history import Anomaly, Partition
from benchmarks.verify.inside import Usage

NAME = "ceilings"


def check(usages: Sequence[Usage]) -> list[Anomaly]:
    """One anomaly per resource, for the worst moment. Anomalies carry the resource as their topic."""
    worst: dict[str, Usage] = {}
    for each in usages:
        known = worst.get(each.resource)
        if each.used > each.limit and (known is None or each.used - each.limit > known.used - known.limit):
            worst[each.resource] = each
    return [
        Anomaly(NAME, Partition(resource, 0), f"{each.used} at {each.at_s:.3f} s, the ceiling is {each.limit}")
        for resource, each in sorted(worst.items())
    ]
