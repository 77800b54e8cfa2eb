"""Whether runs and searches were about anything: the least a run must have done, and what a search must have met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.verify.history import Assigned, Delete, History, OffsetCommit, Outcome, Produce
from tests.simulation.result import RunResult
from tests.simulation.scenarios import SCENARIOS, Scenario

LEAST_SECONDS = 60.0
LEAST_ACKED_BATCHES = 1_000
LEAST_FAULTS = 20
RUNS_TO_EXPECT_EVERYTHING = 20
"""Of one scenario: with fewer, a fault of a few percent may well not come up."""
RUNS_TO_MEET_EVERYTHING = 10
"""Of each scenario, for what any of them may meet."""

EVERYWHERE = {
    "rare: recovered frames made durable again": "recovery",
    "rare: torn segment recovered": "torn tail",
    "rare: back-pressure": "WAL full",
    "rare: produce held back": "throttle",
    "rare: unknown commit settled by a repeat": "unknown commit",
    "store: put-if-absent refused": "412",
    "store: late apply": "late apply",
    "rare: retention trim": "retention",
    "rare: object deleted": "garbage collected",
    "rare: fetch session evicted": "more fetch sessions than slots",
    "rare: run dead at its commit": "deleted or trimmed while it was uploaded",
    "met: duplicate answered": "the same batch twice, both acknowledged",
    "met: batch without acknowledgement": "acks=0",
    "met: stale commit refused": "a commit of a member whose generation is over",
    "met: generation of a group": "rebalance",
    "met: topic deleted": "deletion and re-creation",
    "met: write to a deleted topic refused": "a client that holds on to an old topic id",
}
"""What a search over all scenarios has to have met, and what that is."""

_NO_FAULTS = ("rare: ", "met: ", "broker: started", "disk: segment recycled")


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


def never_met(fired: Counter[str]) -> list[str]:
    """What did not come up in any run of a search over all scenarios."""
    return [f"{name} ({what})" for name, what in EVERYWHERE.items() if not fired[name]]


def met(history: History) -> Counter[str]:
    """Rare paths that only the history shows."""
    found: Counter[str] = Counter()
    acked: set[tuple[int, tuple[bytes, ...]]] = set()
    generations: set[tuple[str, int]] = set()
    for each in history.operations:
        if isinstance(each, Produce):
            if each.outcome is Outcome.OK and each.producer_id is not None:
                batch = (each.producer_id, each.values)
                found["met: duplicate answered"] += batch in acked
                acked.add(batch)
            elif each.ended_s is None and each.producer_id is None:
                found["met: batch without acknowledgement"] += 1
            elif each.outcome is Outcome.FAIL and history.deleted(each.partition):
                found["met: write to a deleted topic refused"] += 1
        elif isinstance(each, OffsetCommit):
            found["met: stale commit refused"] += each.outcome is Outcome.FAIL
        elif isinstance(each, Assigned):
            generations.add((each.group, each.generation))
        elif isinstance(each, Delete):
            found["met: topic deleted"] += each.partition.index == 0
    found["met: generation of a group"] = len(generations)
    return +found


def spread(values: Sequence[float]) -> str:
    """The least and the median."""
    return f"{min(values):.0f} / {median(values):.0f}" if values else "- / -"


def table(fired: Mapping[str, Counter[str]]) -> str:
    """Faults and rare paths, one per line, with a column of counts per scenario and one of all."""
    scenarios = list(fired)
    names = sorted({name for counts in fired.values() for name in counts})
    names.sort(key=lambda name: name.startswith(("rare: ", "met: ")))
    width = max([len(name) for name in names], default=0)
    numbered = [f"{number}={name}" for number, name in enumerate(scenarios, start=1)]
    lines = ["scenarios: " + ", ".join(numbered)]
    lines.append(" ".join([" " * width, *(f"{number:>7}" for number in range(1, len(scenarios) + 1)), "    all"]))
    for name in names:
        counts = [fired[scenario][name] for scenario in scenarios]
        cells = [f"{count or '.':>7}" for count in counts]
        lines.append(" ".join([f"{name:<{width}}", *cells, f"{sum(counts):>7}"]))
    return "\n".join(lines)
