"""The process that a world runs on its broker host: the real broker, on the simulated devices."""

from __future__ import annotations

import asyncio

from broker.adapters import Adapters
from broker.app import Broker
from broker.settings import Settings
from s3stream.errors import Fatal, OutcomeUnknown, Retry
from tests.simulation.errors import SimulationFailure
from tests.simulation.nodes import Node
from tests.simulation.world import BROKER, PORT, World

KIB, MIB = 1 << 10, 1 << 20


def broker_settings(world: World) -> dict[str, object]:
    """Small sizes and short times, drawn from the seed, so that a minute sees many uploads and recycled segments."""
    rng = world.rng("broker settings")
    return {
        "data.dir": "memory:",
        "cluster.id": "simulated-cluster-0000",
        "listeners": f"PLAINTEXT://0.0.0.0:{PORT}",
        "advertised.listeners": f"PLAINTEXT://{BROKER}:{PORT}",
        "http.port": -1,
        "offsets.topic.num.partitions": 2,
        "wal.segment.bytes": 1 * MIB,
        "wal.capacity.bytes": rng.choice((4, 8, 64)) * MIB,
        "wal.trimmed.retention.ms": rng.choice((0, 5_000)),
        "upload.interval.ms": rng.choice((300, 2_000, 10_000)),
        "upload.size.bytes": rng.choice((64 * KIB, 1 * MIB)),
        "upload.stream.object.bytes": rng.choice((64 * KIB, 16 * MIB)),
        "object.block.bytes": rng.choice((4 * KIB, 64 * KIB, 1 * MIB)),
        "object.delete.delay.ms": rng.choice((1_000, 20_000)),
        "cache.tail.bytes": rng.choice((8, 32)) * MIB,
        "cache.chunk.bytes": 1 * MIB,
        "cache.block.bytes": 1 * MIB,
        "cache.readahead.max.bytes": rng.choice((64 * KIB, 1 * MIB)),
    }


async def broker_process(world: World, node: Node) -> None:
    """Start a broker; return when it ends by itself, which only a failed disk or a start without its store allows."""

    async def adapters(settings: Settings) -> Adapters:
        return Adapters(
            clock=world.clock,
            rng=world.rng(f"broker/{node.label}"),
            incarnation=node.label,
            wal_device=world.disk.open(),
            store=world.bucket.client(),
            database=world.metadata.client(),
        )

    failed_syncs = world.fired["disk: sync failed"]
    broker = Broker(broker_settings(world), adapters=adapters)
    try:
        await broker.start()
    except (Retry, OutcomeUnknown):
        world.fired["broker: start failed"] += 1
        await asyncio.sleep(0.1)
        return
    except Fatal:
        if world.fired["disk: sync failed"] == failed_syncs:
            raise
        return
    world.fired["broker: started"] += 1
    error = await broker.failure()
    if world.fired["disk: sync failed"] == failed_syncs:
        raise SimulationFailure("the broker gave up although no sync had failed") from error
