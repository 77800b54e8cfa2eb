"""What checkers get to see of the inside of a world: its metadata, its bucket, its disk and its broker's gauges."""

from __future__ import annotations

from benchmarks.verify.checkers import ceilings, durable_before_ack, fenced_epochs, objects, ranges
from benchmarks.verify.history import Anomaly, Partition
from benchmarks.verify.inside import CommitFacts, Durable, ObjectFacts, RangeFacts, StoredFacts, StreamFacts, Usage
from s3stream.errors import Corrupt
from s3stream.meta.rows import ObjectState
from s3stream.object_format import FLAG_STATE, FOOTER_SIZE_BYTES, parse_footer, parse_index, read_block
from tests.simulation.store import StoredObject
from tests.simulation.topic_life import label
from tests.simulation.world import World

_SAMPLE_S = 0.5
_RUNS_LATE_MS = 5_000


class Inside:
    """Watches one world from its start; `settle_s` is how long its duties may need once nothing is wrong any more."""

    def __init__(self, world: World, passing: str) -> None:
        self._world = world
        self._passing = passing
        self._usages: list[Usage] = []
        self.settle_s = 0.0
        world.loop.call_world(_SAMPLE_S, self._sample)

    def _sample(self) -> None:
        self._world.loop.call_world(_SAMPLE_S, self._sample)
        broker = self._world.rare_paths.broker
        if broker is None or broker.services is None or broker.observability is None:
            return
        services, arena, now_s = broker.services, broker.observability.arena, self._world.loop.time()
        engine, settings = services.engine, services.engine.settings
        self.settle_s = settings.gc_interval_ms / 1000 + 5
        kept = engine.tail.size_bytes - engine.tail.unuploaded_bytes
        slots = services.settings.network.fetch_session_slots
        disk = self._world.disk
        on_disk = len(disk.segments) * disk.segment_size_bytes
        for resource, used, limit in (
            ("tail that is in no object", engine.tail_bytes, settings.tail_max_bytes),
            ("uploaded batches in the tail cache", kept, settings.tail_cache_bytes),
            ("block cache", engine.blocks.bytes_used, settings.block_cache_bytes),
            ("WAL on disk", on_disk, services.settings.wal.capacity_bytes),
            ("memory that requests are received into", arena.in_use_bytes, arena.max_bytes),
            ("fetch sessions", len(services.fetch_sessions), slots),
        ):
            self._usages.append(Usage(resource, used, limit, now_s))

    async def check(self) -> list[Anomaly]:
        """Judge; `settle_s` after the last fault, with the broker at rest."""
        world = self._world
        streams, rows = await self._streams(), await self._ranges()
        stored = [self._stored(key, each) for key, each in sorted(world.bucket.objects.items()) if "/d/" in key]
        overdue_ms = world.clock.now_ms() - int(self.settle_s * 1000) - _RUNS_LATE_MS
        return [
            *durable_before_ack.check(world.history, self._durable()),
            *fenced_epochs.check(world.history, world.metadata.epoch_uses),
            *ranges.check(streams, rows),
            *objects.check(await self._objects(), rows, stored, overdue_ms),
            *objects.check_commits(self._commits()),
            *self._removed_early(),
            *ceilings.check(self._usages),
        ]

    def _commits(self) -> list[CommitFacts]:
        put_at_s = self._world.bucket.put_at_s
        return [
            CommitFacts(object_id, at_s, put_at_s.get(key))
            for key, (object_id, at_s) in self._world.metadata.committed_at_s.items()
        ]

    def _removed_early(self) -> list[Anomaly]:
        world = self._world
        if world.fired["clock: jump back"]:
            return []
        return objects.check_grace(world.metadata.removals.values(), self._grace_ms())

    def _grace_ms(self) -> int:
        broker = self._world.rare_paths.broker
        return broker.services.engine.settings.gc_grace_ms if broker and broker.services else 0

    def _durable(self) -> list[Durable]:
        named = {
            stream_id: Partition(label(topic, topic_id) if topic == self._passing else topic, index)
            for stream_id, (topic, topic_id, index) in self._world.metadata.partitions.items()
        }
        return [
            Durable(named[stream_id], start, end, at_s)
            for stream_id, start, end, at_s in self._world.disk.durable
            if stream_id in named
        ]

    async def _streams(self) -> list[StreamFacts]:
        query = self._world.metadata.query
        epochs: dict[int, list[tuple[int, int]]] = {}
        # Epochs that begin at one offset, as after two restarts without a write, follow each other by number.
        for stream_id, start, epoch in await query(
            "SELECT stream_id, start_offset, stream_epoch FROM stream_epoch"
            " ORDER BY stream_id, start_offset, stream_epoch"
        ):
            epochs.setdefault(stream_id, []).append((start, epoch))
        rows = await query("SELECT stream_id, stream_epoch, start_offset, end_offset FROM stream ORDER BY stream_id")
        return [
            StreamFacts(stream_id, epoch, start, end, tuple(epochs.get(stream_id, ())))
            for stream_id, epoch, start, end in rows
        ]

    async def _ranges(self) -> list[RangeFacts]:
        return [
            RangeFacts(*row)
            for row in await self._world.metadata.query(
                "SELECT stream_id, start_offset, end_offset, object_id FROM object_range"
                " ORDER BY stream_id, start_offset"
            )
        ]

    async def _objects(self) -> list[ObjectFacts]:
        grace_ms = self._grace_ms()
        facts = []
        for object_id, key, state, size, refs, expires_ms, destroyed_ms in await self._world.metadata.query(
            "SELECT object_id, object_key, state, size_bytes, refs, expires_ms, destroyed_ms FROM object"
            " ORDER BY object_id"
        ):
            due_ms = {
                ObjectState.PREPARED: expires_ms,
                ObjectState.COMMITTED: None,
                ObjectState.DESTROYED: destroyed_ms + grace_ms,
                ObjectState.DELETING: destroyed_ms + grace_ms,
            }[ObjectState(state)]
            facts.append(ObjectFacts(object_id, key, size, refs, state == ObjectState.COMMITTED, due_ms))
        return facts

    def _stored(self, key: str, stored: StoredObject) -> StoredFacts:
        bucket, fired = self._world.bucket, self._world.fired
        # Who lists the keys of an upload that was never committed, and is not shown one, cannot know of it.
        lied = fired["store: stale listing"] + fired["store: key missing for a while"] > 0
        excused = lied or key in bucket.late_keys
        try:
            runs = _runs(stored.body)
        except Corrupt as error:
            return StoredFacts(key, len(stored.body), str(error), excused=excused)
        return StoredFacts(key, len(stored.body), "", runs, excused)


def _runs(body: bytes) -> tuple[tuple[int, int, int], ...]:
    """(stream id, first offset, end offset) of every run of an object, each block verified. Raises Corrupt."""
    view = memoryview(body)
    footer = parse_footer(view[-FOOTER_SIZE_BYTES:], len(body))
    index = view[footer.index_position : footer.index_position + footer.index_length]
    runs: dict[int, tuple[int, int]] = {}
    for entry in parse_index(index, footer):
        block = read_block(view[entry.position : entry.position + entry.size], entry.stream_id, entry.base_offset)
        if block.flags & FLAG_STATE:
            continue
        end = entry.base_offset + entry.offset_delta
        start = runs.get(entry.stream_id, (entry.base_offset, 0))[0]
        runs[entry.stream_id] = (start, end)
    return tuple((stream_id, start, end) for stream_id, (start, end) in sorted(runs.items()))
