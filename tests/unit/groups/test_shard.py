"""Loading in slices, checkpoints, what a corrupt or slow log does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from broker.groups.log import MemoryCoordinatorLog
from broker.groups.messages import HeartbeatCommand, ListCommand
from broker.groups.records import Record
from broker.groups.settings import GroupSettings
from broker.groups.shard import GroupShard, ShardState, Timeline
from broker.groups.state import PersistedState
from protocol.errors import ErrorCode
from s3stream.errors import Corrupt, Fenced, OutcomeUnknown, Retry
from tests.unit.groups.driver import Driver


class FlakyLog(MemoryCoordinatorLog):
    """Reading fails as often as told."""

    failures: list[BaseException]

    async def read_all(self) -> AsyncIterator[Sequence[Record]]:
        if self.failures:
            raise self.failures.pop(0)
        async for records in super().read_all():
            yield records


def replayed(records: Sequence[Record]) -> PersistedState:
    state = PersistedState()
    for record in records:
        state.replay(record)
    return state


def same(one: PersistedState, two: PersistedState) -> bool:
    return (one.groups, one.offsets, one.others) == (two.groups, two.offsets, two.others)


def test_snapshot_replays_to_the_same_state(driver: Driver) -> None:
    (leader,) = driver.stable()
    for partition in range(5):
        driver.commit(partition, partition=partition, member_id=leader, generation=1)
    driver.commit(1, group="simple", retention_ms=5, version=4)
    driver.log.append([(b"\x00\x09future", b"kept")], lambda error: None)
    again = driver.crash()
    state = again.shard.machine.state
    assert same(replayed(list(state.snapshot())), state)
    assert state.others == {b"\x00\x09future": b"kept"}
    assert state.offset_count == 6


def test_requests_while_loading() -> None:
    async def scenario() -> None:
        log = MemoryCoordinatorLog([(b"\x00\x09%d" % n, b"x") for n in range(2_000)])
        timers: list[object] = []
        shard = GroupShard(
            0,
            log,
            GroupSettings(),
            Driver.__new__(Driver),
            random.Random(1),
            Timeline(lambda key, delay, arg: timers.append(key), timers.append),
            lambda *_: None,
            lambda name, work: work.close(),
        )
        loading = asyncio.ensure_future(shard.load())
        await asyncio.sleep(0)
        assert shard.state is ShardState.LOADING
        assert (await shard.submit(ListCommand())).error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        # Members must not fall out of their group because a coordinator loads.
        assert (await shard.submit(HeartbeatCommand("g", 1, "m", None))).error is ErrorCode.NONE
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading

    asyncio.run(scenario())


def test_loading_yields_between_slices(driver: Driver) -> None:
    records: list[Record] = [(b"\x00\x09%d" % n, b"x") for n in range(5_000)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = driver.loop.create_task(count())
    log = MemoryCoordinatorLog(records)
    loaded = Driver(log=log, loop=driver.loop)
    counting.cancel()
    assert len(loaded.shard.machine.state.others) == 5_000
    assert turns >= 15


@pytest.mark.parametrize(("error", "reads"), [(Corrupt("bad"), 8), (Fenced("gone"), 1)])
def test_load_that_can_never_work_is_reported(driver: Driver, error: BaseException, reads: int) -> None:
    log = FlakyLog()
    log.failures = [error] * 20
    broken = Driver(GroupSettings(retry_pause_ms=1), log=log, loop=driver.loop)
    assert broken.failures == [error]
    assert len(log.failures) == 20 - reads
    assert broken.ask(ListCommand()).error is ErrorCode.NOT_COORDINATOR


def test_corrupt_record_stops_the_load(driver: Driver) -> None:
    broken = Driver(records=[(b"\x00\x01\x00\x09short", b"\x00\x00")], loop=driver.loop)
    assert isinstance(broken.failures[0], Corrupt)


def test_load_is_tried_again() -> None:
    bench = Driver(GroupSettings(retry_pause_ms=1))
    bench.commit(5)
    log = FlakyLog(bench.log.records)
    log.failures = [Retry("busy"), OutcomeUnknown("connection lost"), Corrupt("short body"), Retry("busy")]
    again = Driver(GroupSettings(retry_pause_ms=1), log=log, loop=bench.loop)
    assert again.fetch() == 5
    bench.close()


# -- checkpoints


def checkpointing() -> Driver:
    return Driver(GroupSettings(checkpoint_dirty_bytes=20_000))


def test_checkpoint_keeps_the_log_short() -> None:
    driver = checkpointing()
    for offset in range(2_000):
        driver.commit(offset, partition=offset % 10)
        driver.advance(1)
    assert len(driver.log.records) < 600
    assert same(replayed(driver.log.records), driver.shard.machine.state)
    again = driver.crash()
    assert [again.fetch(partition) for partition in range(10)] == list(range(1_990, 2_000))
    driver.close()


def test_checkpoint_survives_deletes_and_commits_in_between() -> None:
    driver = checkpointing()
    for partition in range(1_500):
        driver.commit(1, partition=partition)
    work = driver.loop.create_task(driver.shard.checkpoint())
    driver.run(asyncio.sleep(0))
    driver.run(asyncio.sleep(0))
    driver.commit(2, partition=0)
    driver.commit(2, partition=1_499)
    driver.shard.topic_deleted("nothing", None)
    driver.commit(9, topic="late")
    assert driver.loop.run_until_complete(work)
    assert same(replayed(driver.log.records), driver.shard.machine.state)
    assert driver.fetch(0) == driver.fetch(1_499) == 2
    driver.close()


def test_nothing_is_trimmed_before_the_copy_is_durable() -> None:
    driver = checkpointing()
    for offset in range(300):
        driver.commit(offset)
    driver.settle_tasks()
    driver.log.auto = False
    start = driver.log.start_offset
    work = driver.loop.create_task(driver.shard.checkpoint())
    for _ in range(10):
        driver.run(asyncio.sleep(0))
    assert driver.log.start_offset == start
    assert driver.crash().fetch() == 299
    driver.log.settle()
    assert driver.loop.run_until_complete(work)
    assert driver.log.start_offset > start
    assert driver.crash().fetch() == 299
    driver.close()


def test_refused_checkpoint_comes_again() -> None:
    driver = checkpointing()
    driver.log.refuse_trim = Retry("busy")
    for offset in range(500):
        driver.commit(offset)
        driver.advance(1)
    assert driver.log.start_offset == 0
    written = len(driver.log.records)
    driver.advance(5_000)
    assert len(driver.log.records) == written  # only the trim is tried again, the copy is there
    driver.log.refuse_trim = None
    driver.advance(1_000)
    assert driver.log.start_offset > 0
    assert driver.crash().fetch() == 499
    driver.close()


def test_large_live_state_is_not_rewritten_for_little() -> None:
    driver = checkpointing()
    for partition in range(1_000):
        driver.commit(1, partition=partition)
        driver.advance(1)
    live_bytes = driver.shard._checkpoint_at_bytes
    assert live_bytes > 20_000
    driver.close()
