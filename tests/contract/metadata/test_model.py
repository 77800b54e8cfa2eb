"""Any sequence of commands against a model of a few lines, and the invariants of the tables after each of them."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from s3stream.meta import InlineRunner, MetaStore, SqliteDatabase
from s3stream.meta.rows import ObjectCommit, ObjectState, RunRange, Verdict
from tests.contract.metadata.world import World

T = TypeVar("T")
GRACE_MS = 10


def now(work: Coroutine[Any, Any, T]) -> T:
    """The inline database never suspends: drive the call to its end without a loop."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the inline database suspended")


@dataclass
class Stream:
    start: int = 0
    end: int = 0
    ranges: list[tuple[int, int, int, int]] = field(default_factory=list)  # start, end, object, size of the state

    def pass_start(self) -> None:
        """What ends by the start goes, but for the last range if it holds the state."""
        self.ranges = [item for item in self.ranges if item[1] > self.start or (item[1] == self.end and item[3])]


class MetadataMachine(RuleBasedStateMachine):
    """Streams 1 to 3 at first, more are created; deleted ones stay in `gone`."""

    @initialize()
    def begin(self) -> None:
        self.world = now(_begin())
        self.meta = self.world.meta
        self.streams = {1: Stream(), 2: Stream(), 3: Stream()}
        self.gone: list[int] = []
        self.prepared: list[int] = []
        self.committed: list[ObjectCommit] = []
        self.destroyed: dict[int, int] = {}
        self.known: set[int] = set()
        self.incarnation = 0
        self.seen_start: dict[int, int] = {}

    @rule()
    def create(self) -> None:
        (stream_id,) = now(self.meta.allocate_ids("stream", 1))
        now(self.meta.create_streams([stream_id]))
        now(self.world.open([stream_id]))
        self.streams[stream_id] = Stream()

    @rule()
    def restart(self) -> None:
        self.incarnation += 1
        now(self.world.register(f"again-{self.incarnation}"))
        now(self.world.open(sorted(self.streams)))

    @rule(count=st.integers(1, 3))
    def prepare(self, count: int) -> None:
        ids = now(self.world.prepare(count))
        self.prepared += ids
        self.known.update(ids)

    @precondition(lambda self: self.prepared)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, min(2, len(self.prepared))))
        object_ids, self.prepared = self.prepared[:count], self.prepared[count:]
        candidates = sorted(self.streams) + self.gone[-1:]
        chosen = data.draw(st.lists(st.sampled_from(candidates), unique=True)) if candidates else []
        ranges: list[RunRange] = []
        expected: dict[int, Verdict] = {}
        touched: list[int] = []
        for stream_id in chosen:
            length = data.draw(st.integers(1, 10))
            object_id = data.draw(st.sampled_from(object_ids))
            stream = self.streams.get(stream_id)
            if stream is None:
                ranges.append(self.world.run(stream_id, 0, length, object_id))
                expected[stream_id] = Verdict.DELETED
                continue
            stale = data.draw(st.booleans()) and data.draw(st.booleans())
            epoch = self.world.epochs[stream_id] - stale
            begin = stream.end
            if stream.start > stream.end:
                begin = data.draw(st.sampled_from([stream.end, stream.start]))
            state = data.draw(st.sampled_from([0, 7]))
            run = self.world.run(stream_id, begin, begin + length, object_id, stream_epoch=epoch, state_size=state)
            ranges.append(run)
            if stale:
                expected[stream_id] = Verdict.FENCED
                continue
            touched += [item[2] for item in stream.ranges]
            stream.end = begin + length
            below = stream.end <= stream.start
            expected[stream_id] = Verdict.BELOW_START if below else Verdict.COMMITTED
            stream.ranges.append((begin, begin + length, object_id, state))
            stream.pass_start()
        commit = self.world.commit_of(object_ids, ranges)
        result = now(self.meta.commit_objects(commit))
        assert not result.already_done
        assert result.verdicts == expected
        self.committed.append(commit)
        self._destroy_unreferenced([*object_ids, *touched])

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def commit_again(self, data: st.DataObject) -> None:
        commit = data.draw(st.sampled_from(self.committed))
        commit = commit._replace(broker_epoch=self.world.broker_epoch, wal_epoch=self.world.wal_epoch)
        before = now(self.world.dump())
        if {item.object_id for item in commit.objects} <= self.known:
            assert now(self.meta.commit_objects(commit)).already_done
        assert now(self.world.dump()) == before

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), ahead=st.integers(-5, 15))
    def trim(self, data: st.DataObject, ahead: int) -> None:
        stream_id = data.draw(st.sampled_from(sorted(self.streams)))
        stream = self.streams[stream_id]
        target = max(0, stream.start + ahead)
        epoch = self.world.epochs[stream_id]
        stream.start = max(stream.start, target)
        assert now(self.meta.trim_stream(stream_id, epoch, target, self.world.now_ms)) == stream.start
        touched = [item[2] for item in stream.ranges]
        stream.pass_start()
        self._destroy_unreferenced(touched)

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.streams)), unique=True, max_size=2))
        assert now(self.meta.delete_streams([*ids, 10_000], self.world.now_ms)) == len(ids)
        touched = [item[2] for stream_id in ids for item in self.streams.pop(stream_id).ranges]
        self.gone += ids
        self._destroy_unreferenced(touched)

    @rule(limit=st.integers(1, 3))
    def expire(self, limit: int) -> None:
        dropped = now(self.meta.drop_expired_prepared(self.world.now_ms + 3_600_000, limit))
        assert dropped == self.prepared[:limit]
        self.prepared = self.prepared[limit:]
        self.destroyed.update(dict.fromkeys(dropped, self.world.now_ms + 3_600_000))

    @rule()
    def collect(self) -> None:
        self.world.now_ms += GRACE_MS
        before_ms = self.world.now_ms - GRACE_MS
        ready = sorted(object_id for object_id, at in self.destroyed.items() if at <= before_ms)
        found = sorted(item.object_id for item in now(self.meta.destroyed_objects(before_ms, 1000)))
        assert found == ready
        assert now(self.meta.mark_deleting(found)) == ready
        assert now(self.meta.forget_objects(found)) == len(ready)
        for object_id in ready:
            del self.destroyed[object_id]
            self.known.discard(object_id)

    def _destroy_unreferenced(self, object_ids: list[int]) -> None:
        live = {item[2] for stream in self.streams.values() for item in stream.ranges}
        for object_id in object_ids:
            if object_id not in live and object_id not in self.destroyed:
                self.destroyed[object_id] = self.world.now_ms

    @invariant()
    def streams_are_those_of_the_model(self) -> None:
        rows = now(self.meta.stream_rows(range(1, 200)))
        assert [row.stream_id for row in rows] == sorted(self.streams)
        for row in rows:
            stream = self.streams[row.stream_id]
            assert (row.start_offset, row.end_offset) == (stream.start, stream.end)
            assert row.stream_epoch == self.world.epochs[row.stream_id]
            ranges = now(self.meta.range_rows(row.stream_id, 0, 1000))
            found = [(item.start_offset, item.end_offset, item.object_id, item.state_size) for item in ranges]
            assert found == stream.ranges
            assert row.size_bytes == sum(item.size_bytes for item in ranges if item.end_offset > stream.start)
            assert row.start_offset >= self.seen_start.get(row.stream_id, 0)
            self.seen_start[row.stream_id] = row.start_offset

    @invariant()
    def live_ranges_are_contiguous_from_start_to_end(self) -> None:
        for stream in self.streams.values():
            if stream.ranges:
                assert stream.ranges[0][1] > stream.start or len(stream.ranges) == 1
                assert stream.ranges[-1][1] == stream.end
            for former, later in zip(stream.ranges, stream.ranges[1:], strict=False):
                assert former[1] == later[0]
            if stream.end > stream.start:
                assert stream.ranges

    @invariant()
    def refs_are_live_ranges_and_states_follow(self) -> None:
        rows = now(
            self.world.rows(
                "SELECT o.object_id, o.state, o.refs, COUNT(r.object_id) FROM object o"
                " LEFT JOIN object_range r ON r.object_id = o.object_id GROUP BY o.object_id, o.state, o.refs"
            )
        )
        for object_id, state, refs, live in rows:
            assert refs == live
            assert (state == ObjectState.COMMITTED) == (live > 0)
            assert (state == ObjectState.DESTROYED) == (object_id in self.destroyed)
        orphans = now(
            self.world.rows("SELECT stream_id FROM object_range WHERE object_id NOT IN (SELECT object_id FROM object)")
        )
        assert orphans == []

    @invariant()
    def epoch_history_rises_and_covers_the_start(self) -> None:
        for stream_id, stream in self.streams.items():
            history = now(self.meta.epochs(stream_id))
            assert history == sorted(history)
            assert history[-1][0] == self.world.epochs[stream_id]
            assert history[0][1] <= stream.start
            assert len(history) == 1 or history[1][1] >= stream.start


async def _begin() -> World:
    meta = MetaStore(SqliteDatabase(":memory:", InlineRunner()))
    await meta.migrate()
    return await World.begin(meta)


TestMetadata = MetadataMachine.TestCase
TestMetadata.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
