"""SyncGroup, Heartbeat and LeaveGroup. Port of Kafka's classicGroupSync, classicGroupHeartbeat, classicGroupLeave."""

from __future__ import annotations

from broker.groups.classic_group import ClassicGroup, GroupState
from broker.groups.messages import (
    NO_MEMBER_ID,
    HeartbeatCommand,
    HeartbeatReply,
    LeaveCommand,
    LeaveReply,
    SyncCommand,
    SyncReply,
)
from broker.groups.outbox import NOTHING, Outcome, Ticket
from broker.groups.rebalance import Rebalance
from broker.groups.table import GroupTable, group_record, sync_key
from protocol.errors import ErrorCode


class Membership:
    """Decides what members of groups on one table ask after they joined."""

    def __init__(self, table: GroupTable, rebalance: Rebalance) -> None:
        self._table = table
        self._rebalance = rebalance

    # -- sync

    def sync(self, command: SyncCommand, ticket: Ticket, now_ms: int) -> Outcome:
        if not command.group_id:
            return self._answer_sync(ticket, SyncReply(ErrorCode.INVALID_GROUP_ID))
        group = self._table.groups.get(command.group_id)
        if group is None or group.state is GroupState.EMPTY:
            return self._answer_sync(ticket, SyncReply(ErrorCode.UNKNOWN_MEMBER_ID))
        error = self._sync_error(group, command)
        if error is not ErrorCode.NONE:
            return self._answer_sync(ticket, SyncReply(error))
        member = group.members[command.member_id]
        if group.state is GroupState.PREPARING_REBALANCE:
            return self._answer_sync(ticket, SyncReply(ErrorCode.REBALANCE_IN_PROGRESS))
        self._received_sync(group, member.member_id)
        if group.state is GroupState.STABLE:
            return self._answer_sync(
                ticket, SyncReply(ErrorCode.NONE, group.protocol_type, group.protocol, member.assignment)
            )
        group.complete_sync(
            member, SyncReply(ErrorCode.REBALANCE_IN_PROGRESS), self._table.outbox
        )  # a retry replaces it
        member.awaiting_sync = ticket
        if member.member_id == group.leader_id:
            return self._store_assignment(group, dict(command.assignments), now_ms)
        return NOTHING

    def _store_assignment(self, group: ClassicGroup, assignments: dict[str, bytes], now_ms: int) -> Outcome:
        """The leader has spoken: the generation is Stable once its record is accepted."""

        def settle(error: ErrorCode) -> None:
            if error is not ErrorCode.NONE:
                # Everyone is told and rejoins; the members are still there, so preparing writes nothing.
                self._rebalance.fail_syncs(group, error)
                self._rebalance.prepare_or_complete(group, now_ms)
                return
            self._rebalance.hand_out(group, assignments)
            group.transition(GroupState.STABLE, now_ms)

        return Outcome((group_record(group, assignments),), settle)

    @staticmethod
    def _sync_error(group: ClassicGroup, command: SyncCommand) -> ErrorCode:
        if group.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = group.member_error(command.member_id, command.group_instance_id)
        if error is not ErrorCode.NONE:
            return error
        if command.generation != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        pairs = ((command.protocol_type, group.protocol_type), (command.protocol_name, group.protocol))
        if any(asked is not None and held is not None and asked != held for asked, held in pairs):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        return ErrorCode.NONE

    def _received_sync(self, group: ClassicGroup, member_id: str) -> None:
        group.pending_sync.pop(member_id, None)
        if not group.pending_sync:
            self._table.outbox.cancel(sync_key(group.group_id))

    def _answer_sync(self, ticket: Ticket, reply: SyncReply) -> Outcome:
        self._table.outbox.reply(ticket, reply)
        return NOTHING

    # -- heartbeat

    def heartbeat(self, command: HeartbeatCommand, ticket: Ticket) -> Outcome:
        self._table.outbox.reply(ticket, HeartbeatReply(self._heartbeat_error(command)))
        return NOTHING

    def _heartbeat_error(self, command: HeartbeatCommand) -> ErrorCode:
        if not command.group_id:
            return ErrorCode.INVALID_GROUP_ID
        group = self._table.groups.get(command.group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if group.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = group.member_error(command.member_id, command.group_instance_id)
        if error is not ErrorCode.NONE:
            return error
        if command.generation != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        self._table.expect_heartbeat(group, group.members[command.member_id])
        if group.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    # -- leave

    def leave(self, command: LeaveCommand, ticket: Ticket, now_ms: int) -> Outcome:
        if not command.group_id:
            return self._answer_leave(ticket, LeaveReply(ErrorCode.INVALID_GROUP_ID))
        group = self._table.groups.get(command.group_id)
        if group is None:
            gone = tuple((member, instance, ErrorCode.UNKNOWN_MEMBER_ID) for member, instance, _ in command.members)
            return self._answer_leave(ticket, LeaveReply(members=gone))
        if group.state is GroupState.DEAD:
            return self._answer_leave(ticket, LeaveReply(ErrorCode.COORDINATOR_NOT_AVAILABLE))
        results = tuple(
            (member_id, instance_id, self._leave_one(group, member_id, instance_id))
            for member_id, instance_id, _ in command.members
        )
        outcome = NOTHING
        if any(error is ErrorCode.NONE for _, _, error in results):
            if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
                outcome = self._rebalance.prepare_or_complete(group, now_ms)
            else:
                outcome = self._rebalance.maybe_complete_join(group, now_ms)
        # A member that left is gone whatever becomes of the record that says so: that one is offered until taken.
        self._table.outbox.reply(ticket, LeaveReply(members=results))
        return outcome

    def _leave_one(self, group: ClassicGroup, member_id: str, instance_id: str | None) -> ErrorCode:
        if member_id == NO_MEMBER_ID:
            # An administrator removes a static member by its instance id alone.
            if instance_id is None or instance_id not in group.instances:
                return ErrorCode.UNKNOWN_MEMBER_ID
            member_id = group.instances[instance_id]
        elif member_id in group.pending_join:
            group.remove(member_id)
            self._table.forget_heartbeat(group, member_id)
            return ErrorCode.NONE
        else:
            error = group.member_error(member_id, instance_id)
            if error is not ErrorCode.NONE:
                return error
        self._table.forget_heartbeat(group, member_id)
        self._rebalance.remove_member(group, group.members[member_id])
        return ErrorCode.NONE

    def _answer_leave(self, ticket: Ticket, reply: LeaveReply) -> Outcome:
        self._table.outbox.reply(ticket, reply)
        return NOTHING
