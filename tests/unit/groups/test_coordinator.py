"""The service: leadership, loading, time-outs, closing."""

from __future__ import annotations

import asyncio

from broker.groups.log import MemoryCoordinatorLog
from broker.groups.messages import (
    CommitCommand,
    CommitPartition,
    CommitTopic,
    FetchCommand,
    HeartbeatCommand,
    JoinCommand,
    ListCommand,
)
from broker.groups.settings import GroupSettings
from protocol.errors import ErrorCode
from tests.unit.groups.service_bench import Bench


def commit(group: str, offset: int = 1) -> CommitCommand:
    return CommitCommand(group, -1, "", None, [CommitTopic("t", None, [CommitPartition(0, offset, -1, "")])], 8)


def join(group: str) -> JoinCommand:
    return JoinCommand(group, "", None, "c", "/h", 10_000, 10_000, "consumer", (("range", b""),), False, False)


async def test_only_led_partitions_answer() -> None:
    bench = Bench()
    assert (await bench.groups.commit(commit("g"))).error is ErrorCode.NOT_COORDINATOR
    bench.groups.on_partitions_led([bench.groups.partition_for("g")])
    assert (await bench.groups.commit(commit("g"))).error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert (await bench.groups.list_groups(ListCommand())).error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert (await bench.groups.heartbeat(HeartbeatCommand("g", 1, "m", None))).error is ErrorCode.NONE
    await bench.groups.wait_loaded()
    assert (await bench.groups.commit(commit("g"))).error is ErrorCode.NONE
    other = next(name for name in "abcdefgh" if bench.groups.partition_for(name) != bench.groups.partition_for("g"))
    assert (await bench.groups.commit(commit(other))).error is ErrorCode.NOT_COORDINATOR
    await bench.close()


async def test_a_new_epoch_loads_afresh_and_the_former_waiters_are_sent_away() -> None:
    bench = Bench(GroupSettings(offsets_topic_num_partitions=1))
    bench.groups.on_partitions_led([0])
    await bench.groups.wait_loaded()
    await bench.groups.commit(commit("simple", 7))
    joining = asyncio.ensure_future(bench.groups.join(join("g")))
    await asyncio.sleep(0)
    bench.groups.on_partitions_led([0])
    await asyncio.sleep(0)
    assert not joining.done()  # the same leadership: nothing changes
    bench.logs[0] = MemoryCoordinatorLog(bench.logs[0].records, leader_epoch=1)
    bench.groups.on_partitions_led([0])
    assert (await joining).error is ErrorCode.NOT_COORDINATOR
    await bench.groups.wait_loaded()
    reply = await bench.groups.fetch(FetchCommand("simple", [("t", None, [0])]))
    assert reply.topics[0][2][0].offset == 7
    bench.groups.on_partitions_led([])
    assert (await bench.groups.fetch(FetchCommand("simple", None))).error is ErrorCode.NOT_COORDINATOR
    await bench.close()


async def test_partition_count_follows_the_topic() -> None:
    bench = Bench()
    bench.groups.on_partitions_led(range(7), 7)
    assert {bench.groups.partition_for(f"group-{n}") for n in range(200)} == set(range(7))
    await bench.groups.wait_loaded()
    await bench.close()


async def test_a_write_that_does_not_become_durable_times_out() -> None:
    bench = Bench(GroupSettings(offsets_topic_num_partitions=1, commit_timeout_ms=20))
    bench.groups.on_partitions_led([0])
    await bench.groups.wait_loaded()
    bench.logs[0].auto = False
    assert (await bench.groups.commit(commit("g"))).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    bench.logs[0].settle()
    assert (await bench.groups.commit(commit("g"))).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    await bench.close()


async def test_close_answers_everyone() -> None:
    bench = Bench(GroupSettings(offsets_topic_num_partitions=1))
    bench.groups.on_partitions_led([0])
    await bench.groups.wait_loaded()
    joining = asyncio.ensure_future(bench.groups.join(join("g")))
    await asyncio.sleep(0)
    await bench.close()
    assert (await joining).error is ErrorCode.NOT_COORDINATOR
    assert (await bench.groups.commit(commit("g"))).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert (await bench.groups.list_groups(ListCommand())).error is ErrorCode.COORDINATOR_NOT_AVAILABLE


async def test_a_cancelled_request_leaves_no_trace() -> None:
    bench = Bench(GroupSettings(offsets_topic_num_partitions=1, initial_rebalance_delay_ms=10))
    bench.groups.on_partitions_led([0])
    await bench.groups.wait_loaded()
    joining = asyncio.ensure_future(bench.groups.join(join("g")))
    await asyncio.sleep(0)
    joining.cancel()
    await asyncio.sleep(0.03)
    assert bench.groups.group_states() == {"CompletingRebalance": 1}
    await bench.close()


async def test_timers_run_on_the_loop() -> None:
    settings = GroupSettings(offsets_topic_num_partitions=1, initial_rebalance_delay_ms=5)
    bench = Bench(settings)
    bench.groups.on_partitions_led([0])
    await bench.groups.wait_loaded()
    reply = await asyncio.wait_for(bench.groups.join(join("g")), 2)
    assert reply.error is ErrorCode.NONE
    assert reply.generation == 1
    await bench.close()
