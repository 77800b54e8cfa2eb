"""The group state machine of one `__consumer_offsets` partition: commands and timers in, records and effects out.

Pure: no clock, no I/O, no tasks. `handle` and `expire` decide; the caller appends `Outcome.records`, replays them
through `replay` (the only mutation of persisted state), calls `Outcome.settle`, then carries out the outbox.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from uuid import UUID

from broker.groups import inspection
from broker.groups.classic_group import ClassicGroup, GroupState
from broker.groups.join import Join
from broker.groups.membership import Membership
from broker.groups.messages import (
    Command,
    CommitCommand,
    DeleteGroupCommand,
    DeleteGroupReply,
    DeleteOffsetsCommand,
    DescribeCommand,
    FetchCommand,
    HeartbeatCommand,
    JoinCommand,
    JoinReply,
    LeaveCommand,
    SyncCommand,
    SyncReply,
)
from broker.groups.offsets import Offsets
from broker.groups.outbox import NOTHING, Outbox, Outcome, Settle, Ticket, TimerArg, TimerKey
from broker.groups.rebalance import Rebalance
from broker.groups.records import Record, encode_group_key
from broker.groups.settings import GroupSettings
from broker.groups.state import PersistedState
from broker.groups.table import GroupTable
from protocol.errors import ErrorCode


class GroupMachine:
    """One shard. `rng` only makes member ids."""

    def __init__(self, settings: GroupSettings, rng: random.Random) -> None:
        self._table = GroupTable(settings, rng)
        self._rebalance = Rebalance(self._table)
        self._join = Join(self._table, self._rebalance)
        self._membership = Membership(self._table, self._rebalance)
        self._offsets = Offsets(self._table)

    @property
    def state(self) -> PersistedState:
        return self._table.state

    @property
    def groups(self) -> dict[str, ClassicGroup]:
        return self._table.groups

    @property
    def outbox(self) -> Outbox:
        return self._table.outbox

    def replay(self, record: Record) -> None:
        self._table.state.replay(record)

    def handle(self, command: Command, ticket: Ticket, now_ms: int) -> Outcome:
        """Decide one request. `now_ms` is wall time, used for timestamps in records only."""
        match command:
            case JoinCommand():
                return self._join.handle(command, ticket, now_ms)
            case SyncCommand():
                return self._membership.sync(command, ticket, now_ms)
            case HeartbeatCommand():
                return self._membership.heartbeat(command, ticket)
            case LeaveCommand():
                return self._membership.leave(command, ticket, now_ms)
            case CommitCommand():
                return self._offsets.commit(command, ticket, now_ms)
            case FetchCommand():
                return self._offsets.fetch(command, ticket)
            case DeleteOffsetsCommand():
                return self._offsets.delete(command, ticket)
            case DeleteGroupCommand():
                return self._delete_group(command, ticket)
            case DescribeCommand():
                self._table.outbox.reply(ticket, inspection.describe(self._table, command))
            case _:
                self._table.outbox.reply(ticket, inspection.list_groups(self._table, command))
        return NOTHING

    def expire(self, key: TimerKey, arg: TimerArg, now_ms: int) -> Outcome:
        """A timer of this machine went off."""
        group = self._table.groups.get(key[1])
        if group is None or group.state is GroupState.DEAD:
            return NOTHING
        match key[0]:
            case "heartbeat":
                return self._rebalance.heartbeat_expired(group, key[2], now_ms)
            case "join":
                return self._rebalance.join_expired(group, arg, now_ms)
            case "sync":
                return self._rebalance.sync_expired(group, arg[0], now_ms)
            case "write":
                return self._rebalance.write_empty(group) if group.state is GroupState.EMPTY else NOTHING
        raise ValueError(f"timer {key!r} is not the group machine's")

    # -- loading and unloading

    def loaded(self, now_ms: int) -> Outcome:
        """Everything was replayed: make the live groups and expect their members' heartbeats."""
        table = self._table
        for group_id, value in table.state.groups.items():
            table.groups[group_id] = ClassicGroup.from_value(group_id, value)
        for group_id in table.state.offsets:
            if group_id not in table.groups:
                table.groups[group_id] = ClassicGroup(group_id, now_ms)
        for group in table.groups.values():
            for member in group.members.values():
                table.expect_heartbeat(group, member)
            if len(group.members) > table.settings.max_size:
                # The limit was lowered: a rebalance sheds the last to rejoin. No one waits, so it writes nothing yet.
                self._rebalance.prepare(group, now_ms)
        return NOTHING

    def unload(self, error: ErrorCode, now_ms: int) -> None:
        """The partition is no longer ours: every parked request is answered with `error`, every group is dead."""
        for group in self._table.groups.values():
            for member in group.members.values():
                group.complete_join(member, JoinReply(error, member_id=member.member_id), self._table.outbox)
                group.complete_sync(member, SyncReply(error), self._table.outbox)
            group.transition(GroupState.DEAD, now_ms)

    # -- deletion and expiry

    def _delete_group(self, command: DeleteGroupCommand, ticket: Ticket) -> Outcome:
        group = self._table.groups.get(command.group_id)
        error = ErrorCode.NONE
        if group is None or group.state is GroupState.DEAD:
            error = ErrorCode.GROUP_ID_NOT_FOUND
        elif group.state is not GroupState.EMPTY:
            error = ErrorCode.NON_EMPTY_GROUP
        if error is not ErrorCode.NONE:
            self._table.outbox.reply(ticket, DeleteGroupReply(error))
            return NOTHING
        records = (*self._offsets.tombstones(command.group_id), (encode_group_key(command.group_id), None))

        def settle(error: ErrorCode) -> None:
            if error is ErrorCode.NONE:
                self._table.drop_group(command.group_id)
            self._table.outbox.reply(ticket, DeleteGroupReply(error))

        return Outcome(records, settle)

    def expire_offsets(self, now_ms: int, max_records: int) -> Iterator[Outcome]:
        """The periodic clean-up: tombstones of at most about `max_records` per outcome.

        A group that is empty and has no offset left is deleted, unless a member id was just handed out in it. Each
        outcome is decided when it is asked for, so others may be handled in between; stop at the first refusal.
        """
        for group_id in list(self._table.groups):
            while (group := self._table.groups.get(group_id)) is not None:
                tombstones, none_left = self._offsets.expired(group, now_ms)
                if len(tombstones) > max_records:
                    yield Outcome(tuple(tombstones[:max_records]))
                    continue
                if none_left and group.state is GroupState.EMPTY and not group.pending_join:
                    tombstones.append((encode_group_key(group_id), None))
                    yield Outcome(tuple(tombstones), self._drop_when_accepted(group_id))
                elif tombstones:
                    yield Outcome(tuple(tombstones))
                break

    def _drop_when_accepted(self, group_id: str) -> Settle:
        def settle(error: ErrorCode) -> None:
            if error is ErrorCode.NONE:
                self._table.drop_group(group_id)

        return settle

    def forget_topic(self, topic: str, topic_id: UUID | None, max_records: int) -> Iterator[Outcome]:
        """A topic was deleted: drop its committed offsets, `max_records` at a time; stop at the first refusal."""
        while tombstones := self._offsets.topic_tombstones(topic, topic_id):
            yield Outcome(tuple(tombstones[:max_records]))
