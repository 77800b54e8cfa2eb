"""The scenarios: what goes wrong while the workload runs. Each draws its own settings from the seed.

A scenario is a coroutine that runs in no node's name until the virtual time it is given, and settings for the world.
`must_fire` names the faults that it is about and the rare paths they lead to: a search of some size in which one of
them never happened proves nothing. What each single fault does is in `troubles.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.simulation import troubles
from tests.simulation.troubles import Trouble, fast_disk, some_disk
from tests.simulation.world import World, WorldSettings

Chaos = Callable[[World, random.Random, float], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Scenario:
    """`quiet`: too little goes wrong in it, by design, for a number of faults to be asked of each run."""

    name: str
    text: str
    chaos: Chaos
    must_fire: tuple[str, ...] = ()
    make_settings: Callable[[random.Random], WorldSettings] = lambda rng: WorldSettings()
    quiet: bool = False


def _mix(*weighted: tuple[float, Trouble], least_s: float = 0.2, most_s: float = 3.0) -> Chaos:
    """One trouble after the other, each drawn by its weight, with a pause of `least_s` to `most_s` before it."""

    async def chaos(world: World, rng: random.Random, until_s: float) -> None:
        makers = [maker for _, maker in weighted]
        weights = [weight for weight, _ in weighted]
        while await troubles.pause(world, until_s, rng, least_s, most_s):
            (trouble,) = rng.choices(makers, weights)
            await trouble(world, rng)

    return chaos


_CRASHES = ((2.0, troubles.kill), (1.0, troubles.power_cut))

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "steady",
            "nothing worse than a reset connection and a slow reader",
            _mix((3, troubles.reset), (1, troubles.reset_amid_data), (1, troubles.slow_reader), least_s=1, most_s=5),
            (
                "network: reset",
                "network: reset in mid-frame",
                "network: slow packet",
                "network: slow reader",
                "disk: stall",
                "disk: segment recycled",
                "rare: upload",
            ),
            quiet=True,
        ),
        Scenario(
            "kills",
            "the broker process is killed and started again, its disk kept",
            _mix((1, troubles.kill), most_s=4),
            ("process kill", "broker: started", "rare: recovered frames made durable again"),
            some_disk,
        ),
        Scenario(
            "power-cuts",
            "the broker's host loses power, un-synced writes are lost or torn; syncs fail",
            _mix(
                (4, troubles.power_cut),
                (1, troubles.kill),
                (1, troubles.failed_sync),
                (1, troubles.cut_amid_upload),
                most_s=4,
            ),
            (
                "power cut",
                "process kill",
                "disk: unsynced write lost",
                "disk: unsynced write survived",
                "disk: unsynced write torn",
                "disk: sync failed",
                "disk: sync held back",
                "rare: recovered frames made durable again",
                "rare: torn segment recovered",
            ),
            some_disk,
        ),
        Scenario(
            "store-trouble",
            "the object store refuses, loses replies, applies late, is slow or away",
            _mix(
                (4, troubles.unreliable_store),
                (2, troubles.slow_store),
                (1, troubles.store_outage),
                (0.3, troubles.own_conflict_at_start),
                *_CRASHES,
            ),
            (
                "store: error before apply",
                "store: reply lost",
                "store: late apply",
                "store: slow-down",
                "store: short body",
                "store: down",
                "store: put-if-absent refused",
                "store: own put-if-absent refused",
                "rare: upload retried",
                "rare: late apply after its repeat",
                "rare: back-pressure",
                "rare: produce held back",
            ),
            troubles.small_log,
        ),
        Scenario(
            "store-lies",
            "the object store cuts and corrupts what it returns, and does not find what it has",
            _mix((5, troubles.lying_store), (1, troubles.unreliable_store), *_CRASHES),
            (
                "store: truncated body",
                "store: corrupt body",
                "store: key missing for a while",
                "rare: corrupt block found",
                "rare: read retried",
                "rare: block cache miss",
            ),
            fast_disk,
        ),
        Scenario(
            "metadata-outage",
            "the metadata database refuses, forgets whether it committed, is away for seconds",
            _mix(
                (4, troubles.unreliable_metadata),
                (2, troubles.metadata_outage),
                (1, troubles.kill),
                (0.5, troubles.power_cut),
            ),
            (
                "metadata: transaction refused",
                "metadata: connection lost before commit",
                "metadata: commit unknown",
                "metadata: down",
                "rare: unknown commit settled by a repeat",
            ),
            fast_disk,
        ),
        Scenario(
            "network-trouble",
            "one-way partitions, resets in mid-frame, slow readers",
            _mix((4, troubles.reset), (3, troubles.partition), (1, troubles.slow_reader), most_s=2),
            (
                "network: reset",
                "network: reset in mid-frame",
                "network: partition",
                "network: slow reader",
                "network: slow packet",
            ),
        ),
        Scenario(
            "pauses",
            "the broker process stops for a while and goes on, or is killed while it stands still",
            _mix((3, troubles.stop_and_go), (1, troubles.kill_while_stopped), (1, troubles.reset), most_s=2.5),
            ("process pause", "process killed while paused"),
            fast_disk,
        ),
        Scenario(
            "disk-full",
            "no space for new segments of the WAL, for seconds; kills meanwhile",
            _mix((4, troubles.full_disk), (1, troubles.slow_store), *_CRASHES),
            ("disk: full", "rare: back-pressure", "rare: produce held back", "broker: start failed"),
            troubles.small_segments,
        ),
        Scenario(
            "bit-flips",
            "bits of the WAL turn over, for good or in one read; what the store returns is wrong at times",
            _mix((3, troubles.rot), (1, troubles.lying_store), (1, troubles.misread), *_CRASHES, most_s=3),
            ("disk: bit flipped", "disk: bit flipped in a read", "rare: rotten WAL refused"),
            fast_disk,
        ),
        Scenario(
            "clock-jumps",
            "the wall clock is wrong from the start and jumps by seconds to minutes, forward and back",
            _mix((4, troubles.clock_jump), (1, troubles.reset), *_CRASHES, most_s=2.5),
            ("clock: jump forward", "clock: jump back", "clock: skewed at start"),
            troubles.skewed_clock,
        ),
        Scenario(
            "storm",
            "everything at once",
            _mix(*((1.0, trouble) for trouble in troubles.ALL), least_s=0.2, most_s=3),
            (
                "process kill",
                "power cut",
                "process pause",
                "disk: sync failed",
                "disk: full",
                "store: reply lost",
                "store: late apply",
                "metadata: commit unknown",
                "network: partition",
                "clock: jump back",
            ),
            troubles.any_world,
        ),
    )
}
