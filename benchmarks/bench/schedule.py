"""When each record of an open-loop load is due. Pure: times in seconds from the start of the measured time.

The rate is a chain of segments in which it is constant or grows linearly; the number of records due by a moment is
its integral, and the moment of a record is the inverse. Warm-up is the negative time. Poisson arrivals are the same
clock read at exponential steps; bursts move every record of an interval to the interval's start.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Protocol

from benchmarks.bench.workload import Load


@dataclass(frozen=True, slots=True)
class Segment:
    """The rate from `start_s` on, until the next segment starts; the last one goes on at `rate_end`."""

    start_s: float
    length_s: float
    rate_start: float  # records per second
    rate_end: float
    before: float  # records due before the segment

    def count(self, at_s: float) -> float:
        """Records due by this moment, which is not before the segment."""
        inside = min(at_s - self.start_s, self.length_s)
        slope = (self.rate_end - self.rate_start) / self.length_s if self.length_s else 0.0
        after = max(0.0, at_s - self.start_s - self.length_s)
        return self.before + self.rate_start * inside + slope * inside * inside / 2 + self.rate_end * after

    def moment(self, count: float) -> float:
        """When this many records are due, `count >= before`."""
        wanted = count - self.before
        whole = (self.rate_start + self.rate_end) * self.length_s / 2
        if wanted >= whole:
            return self.start_s + self.length_s + ((wanted - whole) / self.rate_end if self.rate_end else math.inf)
        slope = (self.rate_end - self.rate_start) / self.length_s
        if abs(slope) < 1e-12:
            return self.start_s + wanted / self.rate_start
        return self.start_s + (math.sqrt(self.rate_start**2 + 2 * slope * wanted) - self.rate_start) / slope


def segments(load: Load, warmup_s: float, duration_s: float, share: float) -> list[Segment]:
    """The rate over time of one process that sends this share of the load."""
    shape = [(-warmup_s, warmup_s, load.rate, load.rate)]
    if load.spike_rate:
        third = duration_s / 3
        shape += [(0.0, third, load.rate, load.rate), (third, third, load.spike_rate, load.spike_rate)]
        shape += [(2 * third, third, load.rate, load.rate)]
    else:
        shape += [(0.0, duration_s, load.rate, load.ramp_to or load.rate)]
    made: list[Segment] = []
    before = 0.0
    for start, length, first, last in shape:
        made.append(Segment(start, length, first * share, last * share, before))
        before += (first + last) * share * length / 2
    return made


class Schedule(Protocol):
    """The records of one process, counted from 0 in the order in which they are due."""

    def count(self, at_s: float) -> int:
        """Records due at or before this moment; never less than before."""

    def due(self, number: int) -> float:
        """The moment at which the record of this number is due; asked for in growing order."""


class Uniform:
    """Records at the exact distance that the rate says."""

    def __init__(self, shape: list[Segment]) -> None:
        self._segments = shape

    def mass(self, at_s: float) -> float:
        """Records due by this moment, with the fraction."""
        held = self._segments[0]
        for segment in self._segments:
            if segment.start_s <= at_s:
                held = segment
        return held.count(at_s) if at_s >= held.start_s else 0.0

    def count(self, at_s: float) -> int:
        return math.floor(self.mass(at_s) + 1e-9)

    def due(self, number: int) -> float:
        return self.moment(number + 1)

    def moment(self, mass: float) -> float:
        """When the integral of the rate reaches this."""
        held = self._segments[0]
        for segment in self._segments:
            if segment.before <= mass:
                held = segment
        return held.moment(mass)


class Poisson:
    """Records that arrive independently of each other, at the rate on average."""

    def __init__(self, uniform: Uniform, rng: Random) -> None:
        self._uniform = uniform
        self._rng = rng
        self._mass = 0.0
        self._first = 0
        self._moments: deque[float] = deque()  # drawn and not yet asked for

    def _draw(self) -> None:
        self._mass += self._rng.expovariate(1.0)
        self._moments.append(self._uniform.moment(self._mass))

    def count(self, at_s: float) -> int:
        limit = self._first + 1_000_000
        while (not self._moments or self._moments[-1] <= at_s) and self._first + len(self._moments) < limit:
            self._draw()
        return self._first + len(self._moments) - (self._moments[-1] > at_s)

    def due(self, number: int) -> float:
        while self._first < number:
            if not self._moments:
                self._draw()
            self._moments.popleft()
            self._first += 1
        if not self._moments:
            self._draw()
        return self._moments[0]


class Burst:
    """All records of an interval are due at its start; the intervals are counted from the measured time's start."""

    def __init__(self, uniform: Uniform, interval_s: float, warmup_s: float) -> None:
        self._uniform = uniform
        self._interval_s = interval_s
        self._first_s = -warmup_s

    def count(self, at_s: float) -> int:
        if at_s < self._first_s:
            return 0
        return self._uniform.count((math.floor(at_s / self._interval_s) + 1) * self._interval_s)

    def due(self, number: int) -> float:
        # the last record of an interval falls on the next one's start
        inside = math.ceil(self._uniform.due(number) / self._interval_s - 1e-9) - 1
        return max(self._first_s, inside * self._interval_s)


def schedule(load: Load, warmup_s: float, duration_s: float, share: float, rng: Random) -> Schedule:
    """The schedule of one process. The rate must not be 0."""
    uniform = Uniform(segments(load, warmup_s, duration_s, share))
    if load.arrival == "poisson":
        return Poisson(uniform, rng)
    if load.arrival == "burst":
        return Burst(uniform, load.burst_interval_s, warmup_s)
    return uniform
