"""The group coordinator service: finds the shard of a group, runs commands on it, follows partition leadership.

Errors come back inside the replies, as Kafka codes; the methods raise only on misuse.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, cast
from uuid import UUID

from broker.groups.log import CoordinatorLog
from broker.groups.messages import (
    Command,
    CommitCommand,
    CommitReply,
    DeleteGroupCommand,
    DeleteGroupReply,
    DeleteOffsetsCommand,
    DeleteOffsetsReply,
    DescribeCommand,
    DescribeReply,
    FetchCommand,
    FetchReply,
    HeartbeatCommand,
    HeartbeatReply,
    JoinCommand,
    JoinReply,
    LeaveCommand,
    LeaveReply,
    ListCommand,
    ListedGroup,
    ListReply,
    Reply,
    SyncCommand,
    SyncReply,
)
from broker.groups.outbox import TimerArg, TimerKey
from broker.groups.partitioning import partition_for
from broker.groups.primitives import MAX_CLASSIC_STRING_BYTES
from broker.groups.settings import GroupSettings
from broker.groups.shard import GroupShard, ShardState, Timeline
from broker.groups.timers import Timers
from protocol.errors import ErrorCode
from s3stream.ports import Clock
from s3stream.supervisor import Supervisor

_log = logging.getLogger(__name__)
R = TypeVar("R")


class CommittedOffset(NamedTuple):
    """One committed offset, for lag metrics."""

    group_id: str
    topic: str
    partition: int
    offset: int
    commit_timestamp_ms: int


class GroupCoordinator:
    """`open_log(partition)` gives the log of a partition of `__consumer_offsets` that this broker leads now.

    Work on shards is serial on the event loop; nothing is locked. Memory is that of the live groups and offsets.
    """

    def __init__(
        self,
        *,
        settings: GroupSettings,
        clock: Clock,
        rng: random.Random,
        supervisor: Supervisor,
        open_log: Callable[[int], CoordinatorLog],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._supervisor = supervisor
        self._open_log = open_log
        self._shards: dict[int, GroupShard] = {}
        self._partition_count = settings.offsets_topic_num_partitions
        self._timers: Timers[tuple[int, int, TimerKey], TimerArg] = Timers(self._timer_fired)
        self._loads: dict[int, asyncio.Task[Any]] = {}
        self._load_slots = asyncio.Semaphore(settings.concurrent_loads)
        self._closed = False

    # -- leadership

    def on_partitions_led(self, partitions: Sequence[int], partition_count: int | None = None) -> None:
        """The partitions of `__consumer_offsets` that this broker leads now, all of them; and how many there are.

        New ones, and ones led under a new epoch, are loaded; those no longer listed are dropped at once.
        """
        if partition_count is not None:
            self._partition_count = partition_count
        led = dict.fromkeys(partitions)
        for partition in [each for each in self._shards if each not in led]:
            self._shards.pop(partition).close()
            self._loads.pop(partition, None)
        for partition in led:
            if self._closed:
                return
            log = self._open_log(partition)
            held = self._shards.get(partition)
            if held is not None:
                if held.leader_epoch == log.leader_epoch:
                    continue
                held.close()
            self._start_shard(partition, log)

    def _start_shard(self, partition: int, log: CoordinatorLog) -> None:
        epoch = log.leader_epoch
        timeline = Timeline(
            lambda key, delay_ms, arg: self._timers.set((partition, epoch, key), delay_ms, arg),
            lambda key: self._timers.cancel((partition, epoch, key)),
        )
        shard = GroupShard(
            partition, log, self._settings, self._clock, self._rng, timeline, self._shard_failed, self._spawn
        )
        self._shards[partition] = shard
        self._loads[partition] = self._supervisor.spawn(f"load of group partition {partition}", self._load(shard))

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            work.close()
        else:
            self._supervisor.spawn(name, work)

    async def wait_loaded(self) -> None:
        """Until every partition that is led now has been loaded, or has failed to."""
        await asyncio.gather(*self._loads.values(), return_exceptions=True)

    async def _load(self, shard: GroupShard) -> None:
        async with self._load_slots:
            await shard.load()
        if self._shards.get(shard.partition) is shard:
            self._loads.pop(shard.partition, None)

    def _shard_failed(self, shard: GroupShard, error: BaseException) -> None:
        """It stays in its place and answers NOT_COORDINATOR until the partition is led afresh."""
        _log.error("group partition %d (leader epoch %d) stopped: %s", shard.partition, shard.leader_epoch, error)

    def _timer_fired(self, key: tuple[int, int, TimerKey], arg: TimerArg) -> None:
        partition, epoch, shard_key = key
        shard = self._shards.get(partition)
        if shard is not None and shard.leader_epoch == epoch:
            shard.timer_fired(shard_key, arg)

    async def close(self) -> None:
        """Answer everyone who waits, so that they look for another coordinator; nothing is written."""
        self._closed = True
        for shard in self._shards.values():
            shard.close()
        self._timers.close()
        await asyncio.sleep(0)

    # -- requests

    def partition_for(self, group_id: str) -> int:
        """The partition of `__consumer_offsets` that owns the group: its leader is the coordinator."""
        return partition_for(group_id, self._partition_count)

    def _submit(self, command: Command, group_id: str) -> asyncio.Future[Reply] | ErrorCode:
        if self._closed:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if not _fits(group_id):
            return ErrorCode.INVALID_GROUP_ID
        shard = self._shards.get(self.partition_for(group_id))
        if shard is None:
            needs_a_name = isinstance(command, JoinCommand | SyncCommand | HeartbeatCommand | LeaveCommand)
            return ErrorCode.INVALID_GROUP_ID if needs_a_name and not group_id else ErrorCode.NOT_COORDINATOR
        return shard.submit(command)

    async def _ask(self, command: Command, group_id: str) -> Reply:
        """For answers that only wait for durability: these get `commit_timeout_ms`, as Kafka's writes do."""
        answer = self._submit(command, group_id)
        if isinstance(answer, ErrorCode):
            return command.failed(answer)
        if answer.done():
            return answer.result()
        try:
            async with asyncio.timeout(self._settings.commit_timeout_ms / 1000):
                return await answer
        except TimeoutError:
            return command.failed(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    async def join(self, command: JoinCommand) -> JoinReply:
        """Resolves when the join phase ends, which may take the rebalance timeout."""
        names = (command.member_id, command.group_instance_id, command.client_id, command.protocol_type)
        if not all(_fits(name) for name in (*names, *(name for name, _ in command.protocols))):
            return command.failed(ErrorCode.INVALID_REQUEST)
        answer = self._submit(command, command.group_id)
        return cast(JoinReply, command.failed(answer) if isinstance(answer, ErrorCode) else await answer)

    async def sync(self, command: SyncCommand) -> SyncReply:
        """Resolves when the leader's assignment is stored."""
        answer = self._submit(command, command.group_id)
        return cast(SyncReply, command.failed(answer) if isinstance(answer, ErrorCode) else await answer)

    async def heartbeat(self, command: HeartbeatCommand) -> HeartbeatReply:
        return cast(HeartbeatReply, await self._ask(command, command.group_id))

    async def leave(self, command: LeaveCommand) -> LeaveReply:
        return cast(LeaveReply, await self._ask(command, command.group_id))

    async def commit(self, command: CommitCommand) -> CommitReply:
        return cast(CommitReply, await self._ask(command, command.group_id))

    async def fetch(self, command: FetchCommand) -> FetchReply:
        return cast(FetchReply, await self._ask(command, command.group_id))

    async def delete_offsets(self, command: DeleteOffsetsCommand) -> DeleteOffsetsReply:
        return cast(DeleteOffsetsReply, await self._ask(command, command.group_id))

    async def delete_group(self, command: DeleteGroupCommand) -> DeleteGroupReply:
        return cast(DeleteGroupReply, await self._ask(command, command.group_id))

    async def describe(self, command: DescribeCommand) -> DescribeReply:
        return cast(DescribeReply, await self._ask(command, command.group_id))

    async def list_groups(self, command: ListCommand) -> ListReply:
        """Groups of every partition led here; while one of them loads, COORDINATOR_LOAD_IN_PROGRESS."""
        if self._closed:
            return command.failed(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        groups: list[ListedGroup] = []
        for answer in [shard.submit(command) for shard in self._shards.values()]:
            reply = cast(ListReply, await answer)
            if reply.error is ErrorCode.NOT_COORDINATOR:
                continue
            if reply.error is not ErrorCode.NONE:
                return command.failed(reply.error)
            groups += reply.groups
        return ListReply(groups=groups)

    # -- topics

    def topic_deleted(self, name: str, topic_id: UUID | None) -> None:
        """Drop all offsets committed for a deleted topic; tried again while the log refuses the tombstones."""
        for shard in self._shards.values():
            shard.topic_deleted(name, topic_id)

    # -- views for metrics

    def committed_offsets(self) -> Iterator[CommittedOffset]:
        """Every committed offset of the partitions that are served here. Do not await while iterating."""
        for shard in self._shards.values():
            if shard.state is ShardState.ACTIVE:
                for group_id, topics in shard.machine.state.offsets.items():
                    for topic, partitions in topics.items():
                        for partition, value in partitions.items():
                            yield CommittedOffset(group_id, topic, partition, value.offset, value.commit_timestamp_ms)

    def group_states(self) -> dict[str, int]:
        """Number of groups by state name."""
        counts: dict[str, int] = {}
        for shard in self._shards.values():
            if shard.state is ShardState.ACTIVE:
                for group in shard.machine.groups.values():
                    counts[group.state.value] = counts.get(group.state.value, 0) + 1
        return counts

    def loading_partitions(self) -> int:
        return sum(shard.state is ShardState.LOADING for shard in self._shards.values())


def _fits(text: str | None) -> bool:
    """Newer requests carry longer strings than the records can."""
    if text is None or len(text) <= MAX_CLASSIC_STRING_BYTES // 4:
        return True
    return len(text.encode("utf-8", "surrogatepass")) <= MAX_CLASSIC_STRING_BYTES
