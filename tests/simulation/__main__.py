"""`python -m tests.simulation SCENARIO --seed N` replays one run; `--seeds N --jobs J` searches."""

from __future__ import annotations

import argparse
import contextlib
import sys

from tests.simulation.run import run_scenario
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.search import replay_command, search
from tests.simulation.trace import Trace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    names = ", ".join(f"{each.name} ({each.text})" for each in SCENARIOS.values())
    parser.add_argument("scenario", nargs="?", default="all", choices=[*SCENARIOS, "all"], help=names)
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--seeds", type=int, help="search this many seeds")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated seconds of workload and faults")
    parser.add_argument("--limit-s", type=float, default=float("inf"), help="begin no run after so many real seconds")
    parser.add_argument("--trace", help="write every executed step of the replay to this file")
    parser.add_argument("--log", action="store_true", help="show the broker's log in a replay")
    options = parser.parse_args()
    scenarios = list(SCENARIOS.values()) if options.scenario == "all" else [SCENARIOS[options.scenario]]
    if options.seed is None:
        seeds = range(options.first_seed, options.first_seed + (options.seeds or 10))
        return search(scenarios, seeds, options.seconds, options.jobs, options.limit_s)
    status = 0
    for scenario in scenarios:
        with contextlib.ExitStack() as stack:
            copy_to = stack.enter_context(open(options.trace, "w")) if options.trace else None
            trace = Trace(copy_to=copy_to)
            result = run_scenario(scenario, options.seed, duration_s=options.seconds, trace=trace, log=options.log)
        print(
            f"{scenario.name} seed {options.seed}: digest {result.digest}, {result.steps} steps, "
            f"{result.simulated_s:.1f} simulated seconds, {result.acked_batches} batches acknowledged, "
            f"{result.records_read} records read"
        )
        print(", ".join(f"{name} {count}" for name, count in sorted(result.fired.items())))
        if result.failure:
            status = 1
            print(f"FAILED\n{result.failure}")
            print(f"replay: {replay_command(scenario.name, options.seed, options.seconds)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
