"""Searching for a planted bug and shrinking the run that found it."""

from __future__ import annotations

import multiprocessing
import re
from dataclasses import dataclass

from tests.long.planted.bugs import BUGS
from tests.long.planted.patching import Planted
from tests.simulation.run import run_scenario
from tests.simulation.scenarios import SCENARIOS

_SHORTEST_S = 1.0
_SHRINK_STEPS = 5


@dataclass(frozen=True)
class Attempt:
    """One run with a bug in it. `times`: how often the planted path was taken; `failure` is empty when all was good."""

    scenario: str
    seed: int
    seconds: float
    failure: str
    times: int
    simulated_s: float

    @property
    def by(self) -> str:
        """The checkers that spoke up, or the exception that ended the run."""
        if "Traceback" in self.failure:
            last = self.failure.strip().splitlines()[-1]
            return "run ended: " + last.partition(": ")[2][:70]
        names = dict.fromkeys(line.partition(":")[0] for line in self.failure.splitlines())
        return ", ".join(names)

    @property
    def ended_early(self) -> bool:
        """The world noticed while it ran, not the checkers after its end."""
        return "Traceback" in self.failure


@dataclass(frozen=True)
class Finding:
    """What a search came to. `found` is None when no run failed; `shrunk_s`: the shortest load that still fails."""

    name: str
    runs: int
    seeds: int
    times: int
    found: Attempt | None
    shrunk_s: float = 0.0
    basic: bool = False


def run_with(name: str, scenario: str, seed: int, seconds: float, basic: bool = False) -> Attempt:
    """One run of a scenario with the bug planted in this process, and taken out again; without one if `name` is empty.
    `basic`: fewer clients."""
    planted = Planted()
    if name:
        BUGS[name].plant(planted)
    try:
        result = run_scenario(SCENARIOS[scenario], seed, duration_s=seconds, basic=basic)
    finally:
        planted.take_back()
    return Attempt(scenario, seed, seconds, re.sub(r"\n{2,}", "\n", result.failure), planted.times, result.simulated_s)


def _apart(name: str, scenario: str, seed: int, seconds: float, basic: bool = False) -> Attempt:
    """As `run_with`, in a process of its own: what a killed node holds is never freed."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(run_with, (name, scenario, seed, seconds, basic))


def _caught(name: str, scenario: str, seed: int, seconds: float, basic: bool = False) -> tuple[Attempt, bool]:
    """A run, and whether it was the bug that made it fail: its path was taken, and without it the same run is good."""
    attempt = _apart(name, scenario, seed, seconds, basic)
    if not attempt.failure or not attempt.times:
        return attempt, False
    return attempt, not _apart("", scenario, seed, seconds, basic).failure


def find(name: str, most_seeds: int, seconds: float) -> Finding:
    """Seeds in order, each in all scenarios of the bug, until a run fails because of it."""
    runs = times = 0
    for seed in range(1, most_seeds + 1):
        for scenario in BUGS[name].scenarios:
            attempt, caught = _caught(name, scenario, seed, seconds)
            runs += 1
            times += attempt.times
            if caught:
                shrunk_s = _shrink(name, attempt)
                _, basic = _caught(name, scenario, seed, shrunk_s, basic=True)
                return Finding(name, runs, seed, times, attempt, shrunk_s, basic)
    return Finding(name, runs, most_seeds, times, None)


def _shrink(name: str, found: Attempt) -> float:
    """The shortest length found by bisection; a shorter one may fail again, since the end of a run decides as well."""
    good, bad = 0.0, found.seconds
    for _ in range(_SHRINK_STEPS):
        middle = round((good + bad) / 2, 1)
        if middle < _SHORTEST_S:
            break
        if _caught(name, found.scenario, found.seed, middle)[1]:
            bad = middle
        else:
            good = middle
    return bad
