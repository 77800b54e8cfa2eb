"""Whether runs and searches were about anything: the least a run must have done, and what a search must have met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from tests.simulation.run import RunResult
from tests.simulation.scenarios import SCENARIOS, Scenario

LEAST_SECONDS = 60.0
LEAST_ACKED_BATCHES = 1_000
LEAST_FAULTS = 20
RUNS_TO_EXPECT_EVERYTHING = 20
"""Of one scenario: with fewer, a fault of a few percent may well not come up."""

_NO_FAULTS = ("rare: ", "broker: started", "disk: segment recycled")


def faults(fired: Mapping[str, int]) -> int:
    """How many faults happened; rare paths and what is ordinary are counted by name only."""
    return sum(count for name, count in fired.items() if not name.startswith(_NO_FAULTS))


def too_little(result: RunResult) -> list[str]:
    """What a run of full length fell short of; empty for one that is worth counting."""
    short = []
    if result.simulated_s < LEAST_SECONDS:
        short.append(f"{result.simulated_s:.0f} simulated seconds, {LEAST_SECONDS:.0f} wanted")
    if result.acked_batches < LEAST_ACKED_BATCHES:
        short.append(f"{result.acked_batches} acknowledged batches, {LEAST_ACKED_BATCHES} wanted")
    if not SCENARIOS[result.scenario].quiet and faults(result.fired) < LEAST_FAULTS:
        short.append(f"{faults(result.fired)} faults, {LEAST_FAULTS} wanted")
    return short


def never_happened(scenario: Scenario, fired: Counter[str]) -> list[str]:
    """What the scenario is about and did not come up in any of its runs."""
    return [name for name in scenario.must_fire if not fired[name]]


def spread(values: Sequence[float]) -> str:
    """The least and the median."""
    return f"{min(values):.0f} / {median(values):.0f}" if values else "- / -"


def table(fired: Mapping[str, Counter[str]]) -> str:
    """Faults and rare paths, one per line, with a column of counts per scenario and one of all."""
    scenarios = list(fired)
    names = sorted({name for counts in fired.values() for name in counts})
    names.sort(key=lambda name: name.startswith("rare: "))
    width = max([len(name) for name in names], default=0)
    numbered = [f"{number}={name}" for number, name in enumerate(scenarios, start=1)]
    lines = ["scenarios: " + ", ".join(numbered)]
    lines.append(" ".join([" " * width, *(f"{number:>7}" for number in range(1, len(scenarios) + 1)), "    all"]))
    for name in names:
        counts = [fired[scenario][name] for scenario in scenarios]
        cells = [f"{count or '.':>7}" for count in counts]
        lines.append(" ".join([f"{name:<{width}}", *cells, f"{sum(counts):>7}"]))
    return "\n".join(lines)
