"""The phases of a rebalance: prepare, complete the join, propagate assignments, and the timers that push them on.

Port of the classic paths of Kafka's GroupMetadataManager (prepareRebalance, completeClassicGroupJoin,
tryCompleteInitialRebalanceElseSchedule, expireClassicGroupMemberHeartbeat, expirePendingSync).
"""

from __future__ import annotations

from broker.groups.classic_group import ClassicGroup, GroupState
from broker.groups.classic_member import ClassicMember
from broker.groups.messages import JoinReply, SyncReply
from broker.groups.outbox import NOTHING, Outcome
from broker.groups.table import GroupTable, group_record, join_key, sync_key, write_key
from protocol.errors import ErrorCode


class Rebalance:
    """Moves groups of one table from phase to phase."""

    def __init__(self, table: GroupTable) -> None:
        self._table = table

    def prepare_or_complete(self, group: ClassicGroup, now_ms: int) -> Outcome:
        """Something about the membership changed: start a rebalance, or end the join phase that is under way."""
        if group.can_rebalance():
            return self.prepare(group, now_ms)
        return self.maybe_complete_join(group, now_ms)

    def prepare(self, group: ClassicGroup, now_ms: int) -> Outcome:
        outbox = self._table.outbox
        if group.state is GroupState.COMPLETING_REBALANCE:
            self.fail_syncs(group, ErrorCode.REBALANCE_IN_PROGRESS)
        group.pending_sync.clear()
        outbox.cancel(sync_key(group.group_id))
        outbox.cancel(write_key(group.group_id))
        initial = group.state is GroupState.EMPTY
        group.transition(GroupState.PREPARING_REBALANCE, now_ms)
        if initial:
            # The group is new: give the other members time to arrive, so that one rebalance serves all.
            delay_ms = self._table.settings.initial_rebalance_delay_ms
            remaining_ms = max(group.rebalance_timeout_ms() - delay_ms, 0)
            outbox.schedule(join_key(group.group_id), delay_ms, (delay_ms, remaining_ms))
            return NOTHING
        if group.has_all_members_joined():
            return self.complete_join(group, now_ms)
        outbox.schedule(join_key(group.group_id), group.rebalance_timeout_ms())
        return NOTHING

    def maybe_complete_join(self, group: ClassicGroup, now_ms: int) -> Outcome:
        """End the join phase when everyone is there; the initial one always runs its delay."""
        if (
            group.state is GroupState.PREPARING_REBALANCE
            and group.previous_state is not GroupState.EMPTY
            and group.has_all_members_joined()
        ):
            return self.complete_join(group, now_ms)
        return NOTHING

    def join_expired(self, group: ClassicGroup, arg: tuple[int, ...], now_ms: int) -> Outcome:
        """`arg`: () = the rebalance timeout is over; (delay, remaining) of the initial rebalance otherwise."""
        if group.state is not GroupState.PREPARING_REBALANCE:
            return NOTHING
        if arg:
            delay_ms, remaining_ms = arg
            if group.new_member_added and remaining_ms != 0:
                group.new_member_added = False
                next_delay_ms = min(self._table.settings.initial_rebalance_delay_ms, remaining_ms)
                next_remaining_ms = max(remaining_ms - delay_ms, 0)
                self._table.outbox.schedule(join_key(group.group_id), next_delay_ms, (next_delay_ms, next_remaining_ms))
                return NOTHING
        return self.complete_join(group, now_ms)

    def complete_join(self, group: ClassicGroup, now_ms: int) -> Outcome:
        """End the join phase: drop dynamic members that did not rejoin, begin the next generation, answer the joins."""
        table = self._table
        table.outbox.cancel(join_key(group.group_id))
        for member in list(group.members.values()):
            if member.awaiting_join is None and member.group_instance_id is None:
                group.remove(member.member_id)
                table.forget_heartbeat(group, member.member_id)
        if group.members and not group.elect_joined_leader():
            # Only static members are left and none is back: wait until their sessions end or one returns.
            table.outbox.schedule(join_key(group.group_id), group.rebalance_timeout_ms())
            return NOTHING
        group.init_next_generation(now_ms)
        if group.state is GroupState.EMPTY:
            return self.write_empty(group)
        for member in list(group.members.values()):
            everyone = member.member_id == group.leader_id
            group.complete_join(member, group.join_reply(member.member_id, everyone=everyone), table.outbox)
            table.expect_heartbeat(group, member)
            member.is_new = False
            group.pending_sync[member.member_id] = None
        table.outbox.schedule(sync_key(group.group_id), group.rebalance_timeout_ms(), (group.generation,))
        return NOTHING

    def write_empty(self, group: ClassicGroup) -> Outcome:
        """Record that the group is empty now; refused, it is offered again until taken or until members come back."""

        def settle(error: ErrorCode) -> None:
            if error is not ErrorCode.NONE:
                self._table.outbox.schedule(write_key(group.group_id), self._table.settings.retry_pause_ms)

        return Outcome((group_record(group),), settle)

    # -- removals

    def heartbeat_expired(self, group: ClassicGroup, member_id: str, now_ms: int) -> Outcome:
        if member_id in group.pending_join:
            group.remove(member_id)
            return self._complete_if_all_joined(group, now_ms)
        member = group.members.get(member_id)
        if member is None or member.has_satisfied_heartbeat():
            return NOTHING
        self.remove_member(group, member)
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            return self.prepare_or_complete(group, now_ms)
        return self._complete_if_all_joined(group, now_ms)

    def remove_member(self, group: ClassicGroup, member: ClassicMember) -> None:
        """A new member may still wait in JoinGroup: UNKNOWN_MEMBER_ID makes its client join afresh if it lives."""
        group.complete_join(member, JoinReply(ErrorCode.UNKNOWN_MEMBER_ID), self._table.outbox)
        group.complete_sync(member, SyncReply(ErrorCode.UNKNOWN_MEMBER_ID), self._table.outbox)
        group.remove(member.member_id)

    def _complete_if_all_joined(self, group: ClassicGroup, now_ms: int) -> Outcome:
        if group.state is GroupState.PREPARING_REBALANCE and group.has_all_members_joined():
            return self.complete_join(group, now_ms)
        return NOTHING

    def sync_expired(self, group: ClassicGroup, generation: int, now_ms: int) -> Outcome:
        """Members that joined this generation and never sent SyncGroup are removed."""
        if generation != group.generation or not group.pending_sync:
            return NOTHING
        if group.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            return NOTHING
        for member_id in list(group.pending_sync):
            group.remove(member_id)
            self._table.forget_heartbeat(group, member_id)
        return self.prepare(group, now_ms)

    # -- assignments

    def fail_syncs(self, group: ClassicGroup, error: ErrorCode) -> None:
        """Drop the assignments of this generation and answer everyone who waits for one."""
        for member in group.members.values():
            member.assignment = b""
        self._propagate(group, error)

    def hand_out(self, group: ClassicGroup, assignments: dict[str, bytes]) -> None:
        for member in group.members.values():
            member.assignment = assignments.get(member.member_id, b"")
        self._propagate(group, ErrorCode.NONE)

    def _propagate(self, group: ClassicGroup, error: ErrorCode) -> None:
        for member in group.members.values():
            reply = SyncReply(error)
            if error is ErrorCode.NONE:
                reply = SyncReply(error, group.protocol_type, group.protocol, member.assignment)
            if group.complete_sync(member, reply, self._table.outbox):
                # While a member waited its session timer was ignored, so it must be started afresh.
                self._table.expect_heartbeat(group, member)
