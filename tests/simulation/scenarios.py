"""The scenarios: what goes wrong while the workload runs. Each draws its own settings from the seed.

A scenario is a coroutine that runs in no node's name until the virtual time it is given, and settings for the world.
`must_fire` names what has to have happened at least once in a search, or the search proves nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.simulation.world import BROKER, World, WorldSettings

Chaos = Callable[[World, random.Random, float], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Scenario:
    name: str
    text: str
    chaos: Chaos
    must_fire: tuple[str, ...] = ()
    make_settings: Callable[[random.Random], WorldSettings] = lambda rng: WorldSettings()


async def _until(world: World, until_s: float, rng: random.Random, least_s: float, most_s: float) -> bool:
    """Wait a random while; False when the time is over."""
    wait_s = rng.uniform(least_s, most_s)
    if world.loop.time() + wait_s >= until_s:
        return False
    await asyncio.sleep(wait_s)
    return True


async def _steady(world: World, rng: random.Random, until_s: float) -> None:
    """Only what happens on any good day: slow packets, a slow reader, a connection reset now and then."""
    while await _until(world, until_s, rng, 1, 5):
        if rng.random() < 0.7:
            world.network.reset_one(BROKER)
        else:
            world.network.read_rate_bytes_per_s["reader-1"] = rng.uniform(5_000, 100_000)


async def _crash(world: World, rng: random.Random, *, power_cut: bool) -> None:
    """Kill the broker: at once, or aimed at the moments between a write to its WAL and the acks that follow."""
    if rng.random() < 0.3:
        world.kill_broker(power_cut=power_cut)
        return
    written = asyncio.Event()
    world.disk.when_next_written(written.set)
    try:
        async with asyncio.timeout(rng.uniform(0.5, 5)):
            await written.wait()
    except TimeoutError:
        pass  # nothing was written in the meantime
    await asyncio.sleep(rng.uniform(0, 3 * world.disk.settings.sync_max_s))
    world.kill_broker(power_cut=power_cut)


def _some_disk(rng: random.Random) -> WorldSettings:
    """Disks from fast to slow: on a slow one a crash more often falls between a write and its sync."""
    settings = WorldSettings()
    settings.disk.sync_max_s = rng.choice((0.002, 0.02, 0.2))
    settings.disk.write_max_s = rng.choice((0.0002, 0.01))
    settings.restart_max_s = rng.choice((0.0, 0.5, 2.0))
    return settings


async def _kills(world: World, rng: random.Random, until_s: float) -> None:
    while await _until(world, until_s, rng, 0.1, 4):
        await _crash(world, rng, power_cut=False)


async def _power_cuts(world: World, rng: random.Random, until_s: float) -> None:
    while await _until(world, until_s, rng, 0.1, 4):
        if rng.random() < 0.2:
            world.disk.fail_next_sync = True
            await asyncio.sleep(rng.uniform(0, 1))
        await _crash(world, rng, power_cut=rng.random() < 0.8)


async def _store_trouble(world: World, rng: random.Random, until_s: float) -> None:
    """The store refuses, forgets to answer, answers late; commits of the metadata get lost; sometimes a kill on top."""
    while await _until(world, until_s, rng, 0.2, 4):
        store, database = world.bucket.settings, world.metadata.settings
        store.error_share = rng.choice((0, 0.05, 0.3))
        store.lost_reply_share = rng.choice((0, 0.05, 0.2))
        store.late_apply_share = rng.choice((0, 0.05, 0.2))
        store.short_body_share = rng.choice((0, 0.1))
        store.request_timeout_s = rng.choice((0.5, 2, 10))
        database.conflict_share = rng.choice((0, 0.1))
        database.unknown_commit_share = rng.choice((0, 0.1))
        event = rng.random()
        if event < 0.2:
            world.bucket.slow_down(rng.uniform(0.5, 5))
        elif event < 0.3:
            world.bucket.go_down(rng.uniform(0.5, 10))
        elif event < 0.45:
            await _crash(world, rng, power_cut=rng.random() < 0.5)


async def _network_trouble(world: World, rng: random.Random, until_s: float) -> None:
    """One-way partitions, resets in mid-frame, a broker that stops and goes on."""
    while await _until(world, until_s, rng, 0.2, 4):
        event = rng.random()
        clients = [name for name in world.loop.nodes if name != BROKER]
        if event < 0.4:
            world.network.reset_one()
        elif event < 0.75:
            ends = [rng.choice(clients), BROKER]
            rng.shuffle(ends)
            world.network.block(*ends)
            world.loop.call_world(rng.uniform(0.1, 8), world.network.heal, *ends)
        else:
            node = world.broker()
            if node is not None and node.running():
                world.fired["process pause"] += 1
                world.loop.pause(node)
                await asyncio.sleep(rng.uniform(0.1, 5))
                if node.paused():  # not killed or healed meanwhile
                    world.loop.resume(node)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("steady", "nothing worse than a reset connection", _steady, ("network: reset",)),
        Scenario(
            "kills",
            "the broker process is killed and started again, its disk kept",
            _kills,
            ("process kill",),
            _some_disk,
        ),
        Scenario(
            "power-cuts",
            "the broker's host loses power, un-synced writes are lost or torn; syncs fail",
            _power_cuts,
            (
                "power cut",
                "process kill",
                "disk: unsynced write lost",
                "disk: unsynced write survived",
                "disk: unsynced write torn",
                "disk: sync failed",
            ),
            _some_disk,
        ),
        Scenario(
            "store-trouble",
            "the object store and the metadata refuse, lose replies, apply late",
            _store_trouble,
            (
                "store: error before apply",
                "store: reply lost",
                "store: late apply",
                "store: slow-down",
                "store: down",
                "metadata: transaction refused",
                "metadata: commit unknown",
            ),
            _some_disk,
        ),
        Scenario(
            "network-trouble",
            "one-way partitions, resets in mid-frame, a broker process that is paused",
            _network_trouble,
            ("network: reset", "network: partition", "process pause"),
        ),
    )
}
