"""A search: many seeds over scenarios, in parallel processes, with the proof that it was not vacuous."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tests.simulation.result import RunResult
from tests.simulation.run import run_scenario
from tests.simulation.scenarios import SCENARIOS, Scenario
from tests.simulation.vacuity import (
    LEAST_SECONDS,
    RUNS_TO_EXPECT_EVERYTHING,
    RUNS_TO_MEET_EVERYTHING,
    faults,
    never_happened,
    never_met,
    spread,
    table,
    too_little,
)

_RUNS_PER_PROCESS = 16  # what a killed node held is never freed: a worker process ends before that adds up
_REPORT_EVERY = 60

_SHORT_SHARE = 0.05
"""Runs that were about too little are not counted; more of them than this, and the search was not what it says."""

Job = tuple[str, int, float, float]
"""Scenario, seed, simulated seconds, and the moment (`time.monotonic`) from which on no run is begun."""


def _one(job: Job) -> RunResult | None:
    name, seed, duration_s, until = job
    if time.monotonic() >= until:
        return None
    result = run_scenario(SCENARIOS[name], seed, duration_s=duration_s)
    gc.freeze()  # what the run buried stays: the collection after the next run need not look at it again
    return result


def replay_command(scenario: str, seed: int, duration_s: float) -> str:
    return f"python -m tests.simulation {scenario} --seed {seed} --seconds {duration_s:g}"


def _results(work: Sequence[Job], jobs: int) -> Iterator[RunResult | None]:
    gc.collect()
    gc.freeze()  # what is imported is never looked at again by the collection after each run
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=_RUNS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(_one, work)


def search(
    scenarios: Sequence[Scenario], seeds: Iterable[int], duration_s: float, jobs: int, limit_s: float = float("inf")
) -> int:
    """Print what was found; 0 when every run was good, hardly one was too little, and all that had to happen did. No
    run is begun after `limit_s`."""
    began = time.monotonic()
    work = [(scenario.name, seed, duration_s, began + limit_s) for seed in seeds for scenario in scenarios]
    results: list[RunResult] = []
    failures = shorts = 0
    for result in _results(work, jobs):
        if result is None:
            continue
        results.append(result)
        if len(results) % _REPORT_EVERY == 0:
            print(
                f"{len(results)} of {len(work)} runs, {failures} failed, {time.monotonic() - began:.0f} s", flush=True
            )
        short = too_little(result) if duration_s >= LEAST_SECONDS else []
        if not result.failure and not short:
            continue
        if result.failure:
            failures += 1
            print(f"FAILED {result.scenario} seed {result.seed}\n{result.failure}")
        else:
            shorts += 1
            print(f"NOT COUNTED {result.scenario} seed {result.seed}: {', '.join(short)}")
        print(f"replay: {replay_command(result.scenario, result.seed, duration_s)}\n", flush=True)
    _print_speed(results, failures, time.monotonic() - began, duration_s)
    too_many = shorts > _SHORT_SHARE * len(results)
    print(f"{len(results) - shorts} runs count, {shorts} do not{': VACUOUS, that is too many' if too_many else ''}")
    return 1 if _print_events(scenarios, results) or failures or too_many or not results else 0


def _print_speed(results: Sequence[RunResult], failures: int, elapsed_s: float, duration_s: float) -> None:
    simulated_s = sum(result.simulated_s for result in results)
    print(
        f"{len(results)} runs, {failures} failed; {simulated_s:.0f} simulated seconds in {elapsed_s:.0f} s: "
        f"{simulated_s / elapsed_s:.0f} a second, {60 * len(results) / elapsed_s:.0f} runs a minute"
    )
    print(
        "least / median of a run: "
        f"{spread([result.simulated_s for result in results])} simulated seconds, "
        f"{spread([result.acked_batches for result in results])} acknowledged batches, "
        f"{spread([faults(result.fired) for result in results])} faults"
    )
    if duration_s < LEAST_SECONDS:
        print(f"runs of less than {LEAST_SECONDS:.0f} s: the least that each has to have done was not checked")


def _print_events(scenarios: Sequence[Scenario], results: Sequence[RunResult]) -> int:
    """How often each fault and rare path was met; returns how many were expected in vain."""
    fired = {scenario.name: Counter[str]() for scenario in scenarios}
    runs = Counter(result.scenario for result in results)
    for result in results:
        fired[result.scenario].update(result.fired)
    print(table(fired))
    missing = 0
    for scenario in scenarios:
        for name in never_happened(scenario, fired[scenario.name]):
            if runs[scenario.name] >= RUNS_TO_EXPECT_EVERYTHING:
                missing += 1
                print(f"VACUOUS {scenario.name}: {name!r} never happened in {runs[scenario.name]} runs")
    if len(scenarios) == len(SCENARIOS) and min(runs[each] for each in fired) >= RUNS_TO_MEET_EVERYTHING:
        total = sum(fired.values(), Counter())
        for name in never_met(total):
            missing += 1
            print(f"VACUOUS: never met in {len(results)} runs: {name}")
    return missing
