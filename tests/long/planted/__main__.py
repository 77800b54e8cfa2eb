"""`python -m tests.long.planted [NAME...] [--seeds N] [--jobs 1] [--seconds S]`: is every planted bug caught?

Prints a table and ends with 1 when one is not caught within its seeds, or its wrong path was never taken.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.long.planted.bugs import BUGS
from tests.long.planted.trying import Finding, find

_HEADER = ("bug", "caught", "seeds", "runs", "scenario", "found after", "shrunk to", "planted path", "by")


def _row(finding: Finding) -> tuple[str, ...]:
    found = finding.found
    head = (BUGS[finding.name].text, "yes" if found else "NO", str(finding.seeds), str(finding.runs))
    times = f"{finding.times}x"
    if found is None:
        return (*head, ", ".join(BUGS[finding.name].scenarios), "-", "-", times, "-")
    after = f"{found.simulated_s:.1f} s{'' if found.ended_early else ' (end)'}"
    shrunk = f"{finding.shrunk_s:g} s{', fewer clients' if finding.basic else ''}"
    return (*head, found.scenario, after, shrunk, times, found.by)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.planted", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BUGS)}")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds each bug has to be caught in")
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated seconds of load in a run")
    parser.add_argument("--jobs", type=int, default=1, help="bugs that are searched for side by side")
    options = parser.parse_args()
    names = options.names or list(BUGS)
    if unknown := [name for name in names if name not in BUGS]:
        parser.error(f"no such bug: {', '.join(unknown)}")
    print("| " + " | ".join(_HEADER) + " |\n|" + "---|" * len(_HEADER), flush=True)
    status = 0
    # The threads only wait: each run is a process of its own.
    with ThreadPoolExecutor(options.jobs) as pool:
        for finding in pool.map(lambda name: find(name, options.seeds, options.seconds), names):
            print("| " + " | ".join(_row(finding)) + " |", flush=True)
            if finding.found is None:
                status = 1
            if not finding.times:
                print(f"{finding.name}: its path was never taken, so nothing was shown", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
