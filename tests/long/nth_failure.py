"""`python -m tests.long.nth_failure [--port P]`: the n-th call of each port of a whole broker fails, for every n.

Prints a table: port, way of failing, calls of the port in the script, runs, anomalies. `--step 5` takes every fifth n.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys

from tests.faults.whole_broker import PORTS, Outcome, run

_RUNS_PER_PROCESS = 16  # what killed brokers held is never freed


def _one(job: tuple[str, str, int]) -> tuple[int, Outcome]:
    return job[2], run(*job)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.nth_failure", description=__doc__)
    parser.add_argument("--port", choices=sorted(PORTS), help="this one only")
    parser.add_argument("--mode", help="this way of failing only")
    parser.add_argument("--n", type=int, help="this call only")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    print(f"{'port':<14}{'mode':<26}{'calls':>7}{'runs':>7}{'anomalies':>11}")
    failures = vacuous = 0
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=_RUNS_PER_PROCESS) as pool:
        for port in [options.port] if options.port else PORTS:
            calls = pool.apply(run, (port, "", 0)).calls
            for mode in PORTS[port]:
                if options.mode not in (None, mode):
                    continue
                numbers = [options.n] if options.n else range(1, calls + 1, options.step)
                found = fired = 0
                for n, outcome in pool.imap_unordered(_one, [(port, mode, n) for n in numbers]):
                    fired += outcome.fired
                    if outcome.failure:
                        found += 1
                        print(f"FAILED {port}, {mode}, call {n}\n{outcome.failure}")
                        print(f"again: python -m tests.long.nth_failure --port {port} --mode '{mode}' --n {n}")
                failures += found
                vacuous += fired == 0
                print(f"{port:<14}{mode:<26}{calls:>7}{fired:>7}{found:>11}", flush=True)
    if vacuous:
        print(f"{vacuous} of the ways to fail never came up")
    return 1 if failures or vacuous else 0


if __name__ == "__main__":
    sys.exit(main())
