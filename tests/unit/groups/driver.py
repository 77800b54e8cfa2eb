"""One real shard on a memory log with virtual time: the bench of the group tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from typing import Any

from broker.groups.classic_group import ClassicGroup
from broker.groups.log import MemoryCoordinatorLog
from broker.groups.messages import (
    Command,
    CommitCommand,
    CommitPartition,
    CommitReply,
    CommitTopic,
    FetchCommand,
    HeartbeatCommand,
    JoinCommand,
    JoinReply,
    LeaveCommand,
    LeaveReply,
    SyncCommand,
    SyncReply,
)
from broker.groups.outbox import TimerArg, TimerKey
from broker.groups.records import Record
from broker.groups.settings import GroupSettings
from broker.groups.shard import GroupShard, Timeline
from protocol.errors import ErrorCode

GROUP = "g"
SUBSCRIPTION = b"\x00\x01" + b"\x00\x00\x00\x01" + b"\x00\x05topic" + b"\xff\xff\xff\xff"


def subscription(*topics: str) -> bytes:
    body = b"".join(len(topic).to_bytes(2, "big") + topic.encode() for topic in topics)
    return b"\x00\x01" + len(topics).to_bytes(4, "big") + body + b"\xff\xff\xff\xff"


class Call:
    """A submitted command; `reply` is None while it waits."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    @property
    def reply(self) -> Any:
        return self.future.result() if self.future.done() else None


class Driver:
    """`advance` fires the timers in order; `crash` gives a new driver on what was durable."""

    def __init__(
        self,
        settings: GroupSettings | None = None,
        *,
        records: Sequence[Record] = (),
        now_ms: int = 1_000_000_000,
        seed: int = 0,
        loop: asyncio.AbstractEventLoop | None = None,
        log: MemoryCoordinatorLog | None = None,
    ) -> None:
        self.settings = settings or GroupSettings()
        self.loop = loop or asyncio.new_event_loop()
        self.wall_ms = now_ms
        self.log = log or MemoryCoordinatorLog(records)
        self.timers: dict[TimerKey, tuple[int, int, TimerArg]] = {}
        self.failures: list[BaseException] = []
        self._sequence = 0
        self.shard = GroupShard(
            0,
            self.log,
            self.settings,
            self,
            random.Random(seed),
            Timeline(self._set, lambda key: self.timers.pop(key, None) and None),
            lambda _, error: self.failures.append(error),
            self._spawn,
        )
        self.tasks: list[asyncio.Task[Any]] = []
        self.run(self.shard.load())

    def now_ms(self) -> int:
        return self.wall_ms

    def _set(self, key: TimerKey, delay_ms: int, arg: TimerArg) -> None:
        self._sequence += 1
        self.timers[key] = (self.wall_ms + delay_ms, self._sequence, arg)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(self.loop.create_task(work, name=name))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def settle_tasks(self) -> None:
        """Run spawned work to its end."""
        for task in self.tasks:
            self.loop.run_until_complete(task)
        self.tasks.clear()

    def close(self) -> None:
        self.loop.close()

    # -- commands

    def submit(self, command: Command) -> Call:
        async def go() -> asyncio.Future[Any]:
            return self.shard.submit(command)

        return Call(self.run(go()))

    def ask(self, command: Command) -> Any:
        reply = self.submit(command).reply
        assert reply is not None, f"{command} waits"
        return reply

    def join(
        self,
        member_id: str = "",
        *,
        group: str = GROUP,
        instance: str | None = None,
        protocols: tuple[tuple[str, bytes], ...] = (("range", SUBSCRIPTION),),
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        version: int = 9,
    ) -> Call:
        return self.submit(
            JoinCommand(
                group,
                member_id,
                instance,
                "client",
                "/127.0.0.1",
                session_ms,
                rebalance_ms,
                protocol_type,
                protocols,
                version >= 4,
                version >= 9,
            )
        )

    def join_with_id(self, **options: Any) -> tuple[str, Call]:
        """A new dynamic member through MEMBER_ID_REQUIRED: its id and its waiting join."""
        first: JoinReply = self.join(**options).reply
        assert first.error is ErrorCode.MEMBER_ID_REQUIRED
        return first.member_id, self.join(first.member_id, **options)

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: Sequence[tuple[str, bytes]] = (),
        *,
        group: str = GROUP,
        instance: str | None = None,
        protocol_type: str | None = "consumer",
        protocol: str | None = "range",
    ) -> Call:
        return self.submit(SyncCommand(group, generation, member_id, instance, protocol_type, protocol, assignments))

    def heartbeat(
        self, member_id: str, generation: int, *, group: str = GROUP, instance: str | None = None
    ) -> ErrorCode:
        error = self.ask(HeartbeatCommand(group, generation, member_id, instance)).error
        assert isinstance(error, ErrorCode)
        return error

    def leave(self, *members: tuple[str, str | None], group: str = GROUP) -> LeaveReply:
        reply = self.ask(LeaveCommand(group, [(member, instance, None) for member, instance in members]))
        assert isinstance(reply, LeaveReply)
        return reply

    def commit(
        self,
        offset: int,
        *,
        group: str = GROUP,
        member_id: str = "",
        generation: int = -1,
        topic: str = "topic",
        partition: int = 0,
        instance: str | None = None,
        metadata: str | None = "",
        version: int = 9,
        retention_ms: int = -1,
        topic_id: Any = None,
    ) -> Call:
        part = CommitPartition(partition, offset, 3, metadata)
        return self.submit(
            CommitCommand(
                group,
                generation,
                member_id,
                instance,
                [CommitTopic(topic, topic_id, [part])],
                version,
                retention_ms,
            )
        )

    def commit_error(self, offset: int, **options: Any) -> ErrorCode:
        """The error of a one-partition commit, wherever it stands."""
        reply = self.commit(offset, **options).reply
        assert isinstance(reply, CommitReply)
        return reply.error if reply.error is not ErrorCode.NONE else reply.topics[0][1][0][1]

    def fetch(self, partition: int = 0, *, group: str = GROUP, topic: str = "topic", topic_id: Any = None) -> int:
        reply = self.ask(FetchCommand(group, [(topic, topic_id, [partition])]))
        return int(reply.topics[0][2][0].offset)

    # -- time and faults

    def advance(self, ms: int) -> None:
        """Let time pass, firing what comes due, in order."""
        until = self.wall_ms + ms
        while self.timers:
            key = min(self.timers, key=lambda each: self.timers[each][:2])
            deadline, _, arg = self.timers[key]
            if deadline > until:
                break
            del self.timers[key]
            self.wall_ms = max(self.wall_ms, deadline)

            async def fire(key: TimerKey = key, arg: TimerArg = arg) -> None:
                self.shard.timer_fired(key, arg)

            self.run(fire())
            self.settle_tasks()
        self.wall_ms = until

    def crash(self) -> Driver:
        """A new coordinator on the records that were durable."""
        survived = MemoryCoordinatorLog(self.log.records[: self.log.durable], auto=self.log.auto)
        return Driver(self.settings, now_ms=self.wall_ms, loop=self.loop, log=survived, seed=self.wall_ms)

    def until_answered(self, *calls: Call) -> None:
        """Let time pass in small steps until every call has its reply."""
        for _ in range(1_000):
            if all(call.future.done() for call in calls):
                return
            self.advance(500)
        raise AssertionError("no answer in 500 s")

    # -- views

    def group(self, group: str = GROUP) -> ClassicGroup:
        return self.shard.machine.groups[group]

    def state(self, group: str = GROUP) -> str:
        found = self.shard.machine.groups.get(group)
        return "None" if found is None else found.state.value

    # -- scripts

    def stable(self, count: int = 1, **options: Any) -> list[str]:
        """A Stable group of `count` new dynamic members, the leader first; assignment of member i is b"a<i>"."""
        calls = [self.join_with_id(**options) for _ in range(count)]
        self.until_answered(*(call for _, call in calls))
        members = [member for member, _ in calls]
        replies = {member: call.reply for member, call in calls}
        leader = next(iter(replies.values())).leader
        members.sort(key=lambda member: member != leader)
        generation = replies[leader].generation
        assignments = [(member, b"a%d" % index) for index, member in enumerate(members)]
        group = options.get("group", GROUP)
        protocol = options["protocols"][0][0] if "protocols" in options else "range"
        kind = options.get("protocol_type", "consumer")
        waiting = [
            self.sync(member, generation, group=group, protocol=protocol, protocol_type=kind) for member in members[1:]
        ]
        first = self.sync(leader, generation, assignments, group=group, protocol=protocol, protocol_type=kind)
        for index, call in enumerate([first, *waiting]):
            assert isinstance(call.reply, SyncReply)
            assert call.reply.assignment == b"a%d" % index
        return members
