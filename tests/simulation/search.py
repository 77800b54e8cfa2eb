"""A search: many seeds over scenarios, in parallel processes, with the proof that it was not vacuous."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from tests.simulation.run import RunResult, run_scenario
from tests.simulation.scenarios import SCENARIOS, Scenario

_RUNS_PER_PROCESS = 16  # what a killed node held is never freed: a worker process ends before that adds up


def _one(job: tuple[str, int, float]) -> RunResult:
    name, seed, duration_s = job
    return run_scenario(SCENARIOS[name], seed, duration_s=duration_s)


def replay_command(scenario: str, seed: int, duration_s: float) -> str:
    return f"python -m tests.simulation {scenario} --seed {seed} --seconds {duration_s:g}"


def search(scenarios: Sequence[Scenario], seeds: Iterable[int], duration_s: float, jobs: int) -> int:
    """Print what was found; 0 when every run was good and everything that had to happen did."""
    work = [(scenario.name, seed, duration_s) for seed in seeds for scenario in scenarios]
    fired: dict[str, Counter[str]] = {scenario.name: Counter() for scenario in scenarios}
    failures = 0
    began = time.monotonic()
    simulated_s = 0.0
    acked = 0
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=_RUNS_PER_PROCESS) as pool:
        for result in pool.imap_unordered(_one, work):
            fired[result.scenario].update(result.fired)
            simulated_s += result.simulated_s
            acked += result.acked_batches
            if result.failure:
                failures += 1
                print(f"FAILED {result.scenario} seed {result.seed}\n{result.failure}")
                print(f"replay: {replay_command(result.scenario, result.seed, duration_s)}\n", flush=True)
    elapsed_s = time.monotonic() - began
    print(
        f"{len(work)} runs, {failures} failed, {acked} batches acknowledged, {simulated_s:.0f} simulated seconds "
        f"in {elapsed_s:.0f} s"
    )
    missing = 0
    for scenario in scenarios:
        counts = fired[scenario.name]
        print(f"{scenario.name}: " + ", ".join(f"{name} {counts[name]}" for name in sorted(counts)))
        for name in scenario.must_fire:
            if not counts[name]:
                missing += 1
                print(f"VACUOUS {scenario.name}: {name!r} never happened")
    return 1 if failures or missing else 0
