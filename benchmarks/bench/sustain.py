"""The highest rate that a broker sustains while its latency stays under a bound: bisection over short runs.

A rate is sustained when at least 99 % of the records due were acknowledged in the measured time and the p99 of the
acknowledgements, counted from the moments at which they were due, is at most the bound. The search doubles a rate
that is sustained and, once one is not, halves the distance between the best good and the worst bad rate, in
logarithms, until they are close. A noisy machine fails a rate now and then: a rate must fail twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from benchmarks.bench.result import Result
from benchmarks.bench.run import run as run_workload
from benchmarks.bench.target import Target
from benchmarks.bench.workload import Workload

_DUE_SHARE = 0.99


@dataclass(slots=True)
class Search:
    """The decider: `rate` is to be tried next, `tried` takes what came of it. Pure."""

    rate: float  # records per second
    precision: float = 0.05
    most_runs: int = 16
    good: float = 0.0
    bad: float = math.inf
    runs: int = 0
    _doubtful: bool = field(default=False)

    @property
    def finished(self) -> bool:
        """Whether the answer, `good`, is close enough or no more runs are allowed."""
        return (
            self.runs >= self.most_runs
            or (self.good > 0 and self.bad / self.good <= 1 + self.precision)
            or self.rate < 1
        )

    def tried(self, sustained: bool) -> None:
        """Note the outcome of a run at `rate`, and choose the next rate."""
        self.runs += 1
        if not sustained and not self._doubtful:
            self._doubtful = True
            return
        self._doubtful = False
        if sustained:
            self.good = max(self.good, self.rate)
        else:
            self.bad = min(self.bad, self.rate)
        if math.isinf(self.bad):
            self.rate = self.good * 2
        elif not self.good:
            self.rate = self.bad / 4
        else:
            self.rate = math.sqrt(self.good * self.bad)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of the search."""

    result: Result
    sustained: bool
    why: str


def judge(result: Result, bound_ms: float, metric: str = "p99") -> tuple[bool, str]:
    """Whether a run kept its rate under the bound, and what it says of it. Pure."""
    due = sum(sample.due for sample in result.samples)
    needed = _DUE_SHARE - bound_ms / 1000 / result.seconds  # what was due last may be acknowledged after the end
    if not result.ack or result.records_failed:
        return False, f"{result.records_failed:,} records were not acknowledged"
    if result.records_acked < needed * due:
        return False, f"{result.records_acked / max(1, due):.1%} of the records due were acknowledged in time"
    reached = float(getattr(result.ack, metric))
    if reached > bound_ms:
        return False, f"{metric} {reached:.1f} ms"
    return True, f"{metric} {reached:.1f} ms"


def sustain(
    workload: Workload,
    target: Target,
    bound_ms: float,
    metric: str,
    start_rate: float,
    precision: float,
    told: Callable[[Attempt], None],
) -> Result | None:
    """Search; the result of the best sustained run, or None when not even one record a second was."""
    search = Search(start_rate, precision)
    best: Result | None = None
    while not search.finished:
        load = msgspec.structs.replace(workload.load, rate=search.rate, ramp_to=0.0, spike_rate=0.0)
        result = run_workload(msgspec.structs.replace(workload, load=load), target)
        sustained, why = judge(result, bound_ms, metric)
        if sustained and (best is None or load.rate > best.workload.load.rate):
            best = result
        told(Attempt(result, sustained, why))
        search.tried(sustained)
    return best
