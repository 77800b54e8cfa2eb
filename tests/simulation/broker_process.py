"""The process that a world runs on its broker host: the real broker, on the simulated devices."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from broker.adapters import Adapters
from broker.app import Broker
from broker.settings import Settings, settings_of
from s3stream.errors import Corrupt, Fatal, Invalid, OutcomeUnknown, Retry
from s3stream.stores.probe import probe_store
from tests.simulation.errors import SimulationFailure
from tests.simulation.nodes import Node
from tests.simulation.world import BROKER, PORT, World

KIB, MIB = 1 << 10, 1 << 20


def broker_settings(world: World) -> Settings:
    """Small sizes and short times, drawn from the seed, so that a minute sees many uploads and recycled segments, and a
    WAL that is full at times: its capacity goes below what an operator may set."""
    rng = world.rng("broker settings")
    drawn: dict[str, object] = {
        "data.dir": "memory:",
        "cluster.id": "simulated-cluster-0000",
        "listeners": f"PLAINTEXT://0.0.0.0:{PORT}",
        "advertised.listeners": f"PLAINTEXT://{BROKER}:{PORT}",
        "http.port": -1,
        "offsets.topic.num.partitions": 2,
        "group.initial.rebalance.delay.ms": rng.choice((0, 500)),
        "log.retention.check.interval.ms": rng.choice((500, 3_000)),
        "wal.segment.bytes": 1 * MIB,
        "wal.capacity.bytes": rng.choice((4, 64)) * MIB,
        "wal.trimmed.retention.ms": rng.choice((0, 5_000)),
        "upload.interval.ms": rng.choice((300, 2_000, 10_000)),
        "upload.size.bytes": rng.choice((64 * KIB, 1 * MIB)),
        "upload.stream.object.bytes": rng.choice((64 * KIB, 16 * MIB)),
        "object.block.bytes": rng.choice((4 * KIB, 64 * KIB, 1 * MIB)),
        "object.delete.delay.ms": rng.choice((1_000, 20_000)),
        "object.prepare.ttl.ms": rng.choice((60_000, 3_600_000)),
        "cache.tail.bytes": rng.choice((8, 32)) * MIB,
        "cache.chunk.bytes": 1 * MIB,
        "cache.block.bytes": 1 * MIB,
        "cache.readahead.max.bytes": rng.choice((64 * KIB, 1 * MIB)),
        "max.incremental.fetch.session.cache.slots": rng.choice((1, 1_000)),
        "fetch.session.evict.after.ms": world.rng("fetch sessions").choice((1_000, 120_000)),
    }
    chosen = {**drawn, **world.settings.broker}
    # Producers are to feel a store that is away: three quarters of the tail cache may wait for it.
    chosen.setdefault("upload.backlog.max.bytes", int(str(chosen["cache.tail.bytes"])) * 3 // 4)
    settings = settings_of(chosen)
    segment_size_bytes = world.settings.segment_size_bytes
    capacity_bytes = rng.choice((4 * segment_size_bytes, settings.wal.capacity_bytes))
    wal = replace(settings.wal, segment_size_bytes=segment_size_bytes, capacity_bytes=capacity_bytes)
    return replace(settings, wal=wal)


async def broker_process(world: World, node: Node) -> None:
    """Start a broker; return when it ends by itself, which only a fault of the world allows.

    A start without a store, a database or disk space fails and is tried again; a failed sync ends a broker; a WAL with
    rotten bits in it, or one that is gone, is refused. The store is probed first, as a bucket is.
    """

    async def adapters(settings: Settings) -> Adapters:
        store = world.interpose("store", world.bucket.client())
        rng = world.rng(f"broker/{node.label}")
        asked = world.rng(f"probe/{node.label}").random() < 0.2
        if asked or world.bucket.settings.own_conflict_share:  # only a probe puts if absent
            (await probe_store(store, f"{rng.getrandbits(64):016x}")).require(put_if_absent=False)
        return Adapters(
            clock=world.clock,
            rng=rng,
            incarnation=node.label,
            wal_device=world.interpose("wal", world.disk.open()),
            store=store,
            database=world.interpose("database", world.metadata.client()),
        )

    excuses = _Excuses(world)
    broker = Broker(broker_settings(world), adapters=adapters)
    try:
        await broker.start()
    except (Retry, OutcomeUnknown):
        world.fired["broker: start failed"] += 1
        await asyncio.sleep(0.1)
        return
    except (Corrupt, Fatal, Invalid) as error:
        if not excuses.start_may_fail(error):
            raise
        await asyncio.sleep(0.1)
        return
    world.fired["broker: started"] += 1
    world.rare_paths.watch(broker)
    reason = await broker.failure()
    if not excuses.sync_failed():
        raise SimulationFailure("the broker gave up although no sync had failed") from reason


class _Excuses:
    """What the world did since this process began that explains why it ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._failed_syncs = world.fired["disk: sync failed"]
        self._wrong_answers = self._count_wrong_answers()
        self._reads_flipped = world.disk.reads_flipped

    def sync_failed(self) -> bool:
        return self._world.fired["disk: sync failed"] > self._failed_syncs

    def _count_wrong_answers(self) -> int:
        names = ("key missing for a while", "stale listing", "truncated body", "corrupt body")
        return sum(self._world.fired[f"store: {name}"] for name in names)

    def start_may_fail(self, error: Exception) -> bool:
        """A refusal that the world has earned, and nothing else."""
        world = self._world
        if isinstance(error, Fatal):
            return self.sync_failed()
        if isinstance(error, Corrupt) and (world.disk.flips or world.disk.reads_flipped > self._reads_flipped):
            world.fired["rare: rotten WAL refused"] += 1
            return True
        if isinstance(error, Corrupt) and world.fired["disk: lost"]:
            world.fired["rare: lost WAL refused"] += 1
            return True
        if self._count_wrong_answers() > self._wrong_answers:
            world.fired["rare: lying store refused"] += 1
            return True
        return False
