"""The single faults that scenarios are mixed from: each makes one thing go wrong, now or for a while, and returns.

All randomness comes from the given `rng`. A trouble that lasts ends by itself; `World.heal` ends all of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import fields
from typing import Any

from tests.simulation.world import BROKER, World, WorldSettings

Trouble = Callable[[World, random.Random], Coroutine[Any, Any, None]]

MIB = 1 << 20


async def pause(world: World, until_s: float, rng: random.Random, least_s: float, most_s: float) -> bool:
    """Wait a random while; False when the time is over."""
    wait_s = rng.uniform(least_s, most_s)
    if world.loop.time() + wait_s >= until_s:
        return False
    await asyncio.sleep(wait_s)
    return True


def _for_a_while(world: World, rng: random.Random, settings: Any) -> None:
    """Put every field of `settings` back to its default after a random time."""
    world.loop.call_world(rng.uniform(1, 6), _reset_fields, settings)


def _reset_fields(settings: Any) -> None:
    for field in fields(settings):
        if field.name.endswith("_share"):
            setattr(settings, field.name, field.default)


# -- the process and its host


async def kill(world: World, rng: random.Random) -> None:
    await _crash(world, rng, power_cut=False)


async def power_cut(world: World, rng: random.Random) -> None:
    await _crash(world, rng, power_cut=True)


async def _crash(world: World, rng: random.Random, *, power_cut: bool) -> None:
    """At once, also into a start, or aimed at the moments between a write to the WAL and the acks that follow."""
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


async def cut_amid_upload(world: World, rng: random.Random) -> None:
    """Syncs do not come back while an upload runs; once it is committed the power fails. What the upload took with it
    must not be more than what was durable."""
    world.disk.hold_syncs(6)
    uploads = world.uploads()
    for _ in range(60):
        await asyncio.sleep(0.1)
        if world.uploads() != uploads:
            break
    await asyncio.sleep(rng.uniform(0, 0.1))
    world.kill_broker(power_cut=True)


async def stop_and_go(world: World, rng: random.Random) -> None:
    """The process stands still, longer than its clients wait, and goes on as if nothing had been."""
    duration_s = rng.choice((rng.uniform(0.05, 1), rng.uniform(1, 4)))
    world.pause_broker(duration_s)
    await asyncio.sleep(duration_s)


async def kill_while_stopped(world: World, rng: random.Random) -> None:
    """The next incarnation starts although the one before never noticed its end."""
    if world.pause_broker(5):
        await asyncio.sleep(rng.uniform(0.05, 2))
        world.kill_broker(power_cut=rng.random() < 0.3)


# -- its disk


async def failed_sync(world: World, rng: random.Random) -> None:
    world.disk.fail_next_sync = True
    await asyncio.sleep(rng.uniform(0, 1))


async def full_disk(world: World, rng: random.Random) -> None:
    duration_s = rng.uniform(0.5, 4)
    world.disk.fill(duration_s)
    await asyncio.sleep(duration_s * rng.random())


async def rot(world: World, rng: random.Random) -> None:
    """A bit of the WAL turns over; a crash soon after makes somebody read it."""
    if world.disk.rot() and rng.random() < 0.8:
        await asyncio.sleep(rng.uniform(0, 0.2))
        world.kill_broker(power_cut=rng.random() < 0.3)


async def misread(world: World, rng: random.Random) -> None:
    """Recovery is told wrong bits once; they are right on the disk."""
    world.disk.settings.read_flip_share = 0.7
    world.kill_broker()
    await asyncio.sleep(rng.uniform(0.2, 1))
    world.disk.settings.read_flip_share = 0


# -- the network


async def reset(world: World, rng: random.Random) -> None:
    world.network.reset_one(rng.choice((BROKER, None)))


async def reset_amid_data(world: World, rng: random.Random) -> None:
    world.network.reset_one(BROKER, amid_data=True)


async def slow_reader(world: World, rng: random.Random) -> None:
    """A client that takes bytes slowly off its socket, until it is drawn again and reads fast."""
    name = rng.choice(_clients(world))
    if name in world.network.read_rate_bytes_per_s:
        del world.network.read_rate_bytes_per_s[name]
    else:
        world.network.read_rate_bytes_per_s[name] = rng.uniform(5_000, 100_000)


async def partition(world: World, rng: random.Random) -> None:
    """Nothing crosses from one host to another for a while, though the answers do."""
    ends = [rng.choice(_clients(world)), BROKER]
    rng.shuffle(ends)
    world.network.block(*ends)
    world.loop.call_world(rng.uniform(0.1, 6), world.network.heal, *ends)


def _clients(world: World) -> list[str]:
    return [name for name in world.loop.nodes if name != BROKER]


# -- the object store


async def unreliable_store(world: World, rng: random.Random) -> None:
    """For a while: requests are refused, get lost, take effect late."""
    store = world.bucket.settings
    _for_a_while(world, rng, store)
    store.error_share = rng.choice((0, 0.05, 0.3))
    store.lost_reply_share = rng.choice((0, 0.05, 0.2))
    store.late_apply_share = rng.choice((0, 0.05, 0.2))
    store.own_conflict_share = rng.choice((0, 0.3))
    store.short_body_share = rng.choice((0, 0.1))
    store.request_timeout_s = rng.choice((0.5, 2, 5))
    store.late_apply_max_s = rng.choice((2, 20))


async def slow_store(world: World, rng: random.Random) -> None:
    world.bucket.slow_down(rng.uniform(0.5, 5))


async def own_conflict_at_start(world: World, rng: random.Random) -> None:
    """A start asks the store what it can, and its own put is refused as existing: by a repeat of it on the way."""
    world.bucket.settings.own_conflict_share = 1
    world.kill_broker()
    await asyncio.sleep(rng.uniform(0.5, 2))
    world.bucket.settings.own_conflict_share = 0


async def store_outage(world: World, rng: random.Random) -> None:
    world.bucket.go_down(rng.uniform(0.5, 10))


async def lying_store(world: World, rng: random.Random) -> None:
    """For a while: what comes back is not what is there."""
    store = world.bucket.settings
    _for_a_while(world, rng, store)
    store.truncated_body_share = rng.choice((0, 0.1, 0.5))
    store.corrupt_body_share = rng.choice((0, 0.1, 0.5))
    store.missing_share = rng.choice((0, 0.2))
    store.missing_max_s = rng.choice((0.2, 3))
    store.stale_list_share = rng.choice((0, 0.3))


# -- the metadata


async def unreliable_metadata(world: World, rng: random.Random) -> None:
    """For a while: transactions are rolled back, or nobody knows whether they were."""
    database = world.metadata.settings
    _for_a_while(world, rng, database)
    database.conflict_share = rng.choice((0, 0.1, 0.4))
    database.lost_before_commit_share = rng.choice((0, 0.1, 0.3))
    database.unknown_commit_share = rng.choice((0, 0.1, 0.3))
    database.request_timeout_s = rng.choice((0.2, 1))


async def metadata_outage(world: World, rng: random.Random) -> None:
    world.metadata.go_down(rng.choice((rng.uniform(0.5, 2), rng.uniform(2, 6))))


# -- the clock


async def clock_jump(world: World, rng: random.Random) -> None:
    world.clock.jump(rng.choice((-1, 1)) * rng.choice((rng.randint(1, 5_000), rng.randint(5_000, 600_000))))


ALL: tuple[Trouble, ...] = (
    kill,
    power_cut,
    cut_amid_upload,
    stop_and_go,
    kill_while_stopped,
    failed_sync,
    full_disk,
    reset,
    slow_reader,
    partition,
    unreliable_store,
    slow_store,
    store_outage,
    lying_store,
    unreliable_metadata,
    metadata_outage,
    clock_jump,
)
"""Without rot: together with a full disk or a failed sync it may leave two faults that hide each other."""


# -- worlds


def fast_disk(rng: random.Random) -> WorldSettings:
    """The disk is not what this is about: starts take little time."""
    settings = WorldSettings()
    settings.disk.sync_max_s = rng.choice((0.002, 0.01))
    return settings


def some_disk(rng: random.Random) -> WorldSettings:
    """Disks from fast to slow: on a slow one a crash more often falls between a write and its sync."""
    settings = WorldSettings()
    settings.disk.sync_max_s = rng.choice((0.002, 0.02, 0.06))
    settings.disk.write_max_s = rng.choice((0.0002, 0.01))
    settings.restart_max_s = rng.choice((0.0, 0.2, 0.5))
    return settings


def small_segments(rng: random.Random) -> WorldSettings:
    """A new segment is needed every few dozen batches, and recycled ones are rare."""
    settings = fast_disk(rng)
    settings.segment_size_bytes = 128 * 1024
    settings.disk.recycle_share = 0.2
    settings.broker["wal.trimmed.retention.ms"] = 5_000
    return settings


def small_log(rng: random.Random) -> WorldSettings:
    """Half of the logs have small segments, and many of these are full after a few seconds without a store."""
    return rng.choice((fast_disk, small_segments))(rng)


def skewed_clock(rng: random.Random) -> WorldSettings:
    settings = fast_disk(rng)
    settings.clock_offset_ms = rng.choice((-1, 1)) * rng.randint(1_000, 10 * 86_400_000)
    return settings


def any_world(rng: random.Random) -> WorldSettings:
    return rng.choice((fast_disk, some_disk, small_segments, skewed_clock))(rng)
