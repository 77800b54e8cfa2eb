"""`python -m tests.long.rules --examples N --seed S`: a long search of the rule machine of `tests/simulation/rules.py`.

Each block of examples runs in a process of its own, since what killed brokers held is never freed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter

from tests.simulation.rules import Adjust, Tally, search
from tests.simulation.world import WorldSettings

_BLOCK = 200
PLANTS = ("planted_ack_before_write", "planted_ack_before_sync")


def _planter(name: str | None) -> Adjust | None:
    def plant(settings: WorldSettings) -> None:
        setattr(settings.disk, str(name), True)

    return None if name is None else plant


def _block(job: tuple[int, int, int, str | None]) -> Tally:
    examples, seed, steps, plant = job
    return search(examples, seed=seed, steps=steps, adjust=_planter(plant), outside_only=plant is not None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.rules", description=__doc__)
    parser.add_argument("--examples", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=25, help="the most steps of one example")
    parser.add_argument("--plant", choices=PLANTS, help="a bug that has to be found, by what clients see alone")
    options = parser.parse_args()
    fired: Counter[str] = Counter()
    examples = acked = 0
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for number in range(-(-options.examples // _BLOCK)):
            size, seed = min(_BLOCK, options.examples - number * _BLOCK), options.seed + number
            tally = pool.apply(_block, ((size, seed, options.steps, options.plant),))
            fired.update(tally.fired)
            examples, acked = examples + tally.examples, acked + tally.acked_batches
            if tally.failure:
                print("\n".join([f"FAILED\n{tally.failure}\nafter {len(tally.steps)} steps:", *tally.steps]))
                again = f"--examples {size} --seed {seed} --steps {options.steps}"
                again += f" --plant {options.plant}" if options.plant else ""
                print(f"again: PYTHONHASHSEED=0 python -m tests.long.rules {again}")
                return 1
            print(f"seed {seed}: {size} examples, nothing found", flush=True)
    for name, count in sorted(fired.items()):
        print(f"{name:<50} {count:>7}")
    print(f"{examples} examples, {acked} batches acknowledged, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
