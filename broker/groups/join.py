"""JoinGroup: new and known, dynamic and static members.

Port of Kafka's classicGroupJoinToClassicGroup and what hangs off it. KIP-345 (static members), KIP-394 (member id
required), KIP-814 (skip assignment), KIP-800 (reasons: only logged by Kafka).
"""

from __future__ import annotations

from broker.groups.classic_group import ClassicGroup, GroupState
from broker.groups.classic_member import ClassicMember
from broker.groups.messages import NO_MEMBER_ID, JoinCommand, JoinReply
from broker.groups.outbox import NOTHING, Outcome, Ticket
from broker.groups.rebalance import Rebalance
from broker.groups.table import GroupTable, group_record, heartbeat_key
from protocol.errors import ErrorCode


class Join:
    """Decides JoinGroup requests on one table."""

    def __init__(self, table: GroupTable, rebalance: Rebalance) -> None:
        self._table = table
        self._rebalance = rebalance

    def handle(self, command: JoinCommand, ticket: Ticket, now_ms: int) -> Outcome:
        settings = self._table.settings
        if not command.group_id:
            return self._refuse(ticket, command.member_id, ErrorCode.INVALID_GROUP_ID)
        if not settings.min_session_timeout_ms <= command.session_timeout_ms <= settings.max_session_timeout_ms:
            return self._refuse(ticket, command.member_id, ErrorCode.INVALID_SESSION_TIMEOUT)
        group = self._table.groups.get(command.group_id)
        if group is None and command.member_id != NO_MEMBER_ID:
            return self._refuse(ticket, command.member_id, ErrorCode.UNKNOWN_MEMBER_ID)
        if group is None:
            return self._create_then_join(command, ticket, now_ms)
        return self._join(group, command, ticket, now_ms)

    def _create_then_join(self, command: JoinCommand, ticket: Ticket, now_ms: int) -> Outcome:
        """The first record of a new group is its empty self; the member joins once that is accepted."""
        group = ClassicGroup(command.group_id, now_ms)

        def settle(error: ErrorCode) -> None:
            if error is not ErrorCode.NONE:
                self._table.outbox.reply(ticket, command.failed(error))
                return
            self._table.groups[command.group_id] = group
            # A first member only starts the initial delay: nothing to write.
            self._join(group, command, ticket, now_ms)

        return Outcome((group_record(group),), settle)

    def _join(self, group: ClassicGroup, command: JoinCommand, ticket: Ticket, now_ms: int) -> Outcome:
        if not self._accepts(group, command.member_id):
            group.remove(command.member_id)
            self._table.forget_heartbeat(group, command.member_id)
            self._refuse(ticket, NO_MEMBER_ID, ErrorCode.GROUP_MAX_SIZE_REACHED)
            # It may have been the last one the others waited for; Kafka lets the rebalance time out instead.
            return self._rebalance.maybe_complete_join(group, now_ms)
        if group.state is GroupState.DEAD:
            return self._refuse(ticket, command.member_id, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if not group.supports_protocols(command.protocol_type, (name for name, _ in command.protocols)):
            return self._refuse(ticket, command.member_id, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if command.member_id != NO_MEMBER_ID:
            return self._join_known(group, command, ticket, now_ms)
        instance_id = command.group_instance_id
        new_id = self._table.new_member_id(command.client_id if instance_id is None else instance_id)
        if instance_id is not None:
            old_id = group.instances.get(instance_id)
            if old_id is None:
                return self._add(group, command, new_id, ticket, now_ms)
            return self._replace_static(group, command, old_id, new_id, ticket, now_ms)
        if command.requires_known_member_id:
            return self._hand_out_id(group, command, new_id, ticket)
        return self._add(group, command, new_id, ticket, now_ms)

    def _accepts(self, group: ClassicGroup, member_id: str) -> bool:
        max_size = self._table.settings.max_size
        member = group.members.get(member_id)
        if group.state is GroupState.PREPARING_REBALANCE:
            # Those already waiting count: so a group above a lowered limit sheds its last to rejoin.
            return (member is not None and member.awaiting_join is not None) or group.awaiting_join_count < max_size
        if group.state in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            return member is not None or len(group.members) < max_size
        return True

    def _hand_out_id(self, group: ClassicGroup, command: JoinCommand, new_id: str, ticket: Ticket) -> Outcome:
        if len(group.pending_join) >= self._table.settings.max_pending_members:
            return self._refuse(ticket, NO_MEMBER_ID, ErrorCode.GROUP_MAX_SIZE_REACHED)
        group.pending_join[new_id] = None
        self._table.outbox.schedule(heartbeat_key(group.group_id, new_id), command.session_timeout_ms)
        return self._refuse(ticket, new_id, ErrorCode.MEMBER_ID_REQUIRED)

    def _add(self, group: ClassicGroup, command: JoinCommand, member_id: str, ticket: Ticket, now_ms: int) -> Outcome:
        member = ClassicMember(
            member_id,
            command.group_instance_id,
            command.client_id,
            command.client_host,
            command.rebalance_timeout_ms,
            command.session_timeout_ms,
            command.protocols,
        )
        member.is_new = True
        if group.state is GroupState.PREPARING_REBALANCE and group.previous_state is GroupState.EMPTY:
            group.new_member_added = True
        group.add(member, command.protocol_type, ticket)
        # It has no id yet, so it cannot heartbeat, and its disconnect is not seen: bound how long it may wait.
        self._table.expect_heartbeat(group, member, self._table.settings.new_member_join_timeout_ms)
        return self._rebalance.prepare_or_complete(group, now_ms)

    def _join_known(self, group: ClassicGroup, command: JoinCommand, ticket: Ticket, now_ms: int) -> Outcome:
        member_id = command.member_id
        if member_id in group.pending_join:
            if command.group_instance_id is not None:
                # Ids are only handed out to dynamic members; Kafka fails this with an internal error.
                return self._refuse(ticket, NO_MEMBER_ID, ErrorCode.UNKNOWN_SERVER_ERROR)
            return self._add(group, command, member_id, ticket, now_ms)
        error = group.member_error(member_id, command.group_instance_id)
        if error is not ErrorCode.NONE:
            self._table.outbox.reply(ticket, JoinReply(error, member_id=member_id))
            return NOTHING
        member = group.members[member_id]
        changed = member.protocols != command.protocols
        is_leader = member_id == group.leader_id
        if group.state is GroupState.PREPARING_REBALANCE:
            return self._update(group, member, command, ticket, now_ms)
        if group.state is GroupState.COMPLETING_REBALANCE:
            if changed:
                return self._update(group, member, command, ticket, now_ms)
            # The answer to its join was lost: give it again.
            self._table.outbox.reply(ticket, group.join_reply(member_id, everyone=is_leader))
            return NOTHING
        if group.state is GroupState.STABLE:
            if is_leader or changed:
                # The leader may want a new assignment for reasons that its metadata does not show.
                return self._update(group, member, command, ticket, now_ms)
            self._table.outbox.reply(ticket, group.join_reply(member_id, everyone=False))
            return NOTHING
        return self._refuse(ticket, member_id, ErrorCode.UNKNOWN_MEMBER_ID)

    def _update(
        self, group: ClassicGroup, member: ClassicMember, command: JoinCommand, ticket: Ticket, now_ms: int
    ) -> Outcome:
        self._supersede_join(member)
        group.update_member(member, command.protocols, command.rebalance_timeout_ms, command.session_timeout_ms, ticket)
        return self._rebalance.prepare_or_complete(group, now_ms)

    def _supersede_join(self, member: ClassicMember) -> None:
        """A retried join takes the place of the one that waits; Kafka leaves the older one without an answer."""
        if member.awaiting_join is not None:
            reply = JoinReply(ErrorCode.REBALANCE_IN_PROGRESS, member_id=member.member_id)
            self._table.outbox.reply(member.awaiting_join, reply)

    def _replace_static(
        self, group: ClassicGroup, command: JoinCommand, old_id: str, new_id: str, ticket: Ticket, now_ms: int
    ) -> Outcome:
        table = self._table
        instance_id = command.group_instance_id or ""
        former_leader = group.leader_id or NO_MEMBER_ID
        member = group.replace_static_member(instance_id, old_id, new_id, table.outbox)
        table.forget_heartbeat(group, old_id)
        table.expect_heartbeat(group, member)
        former = (member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms)
        group.update_member(member, command.protocols, command.rebalance_timeout_ms, command.session_timeout_ms, ticket)
        if group.state is GroupState.COMPLETING_REBALANCE:
            # The leader may be assigning to the old id right now: only another round gives the new id anything.
            return self._rebalance.prepare(group, now_ms)
        if group.state is not GroupState.STABLE:
            return self._rebalance.maybe_complete_join(group, now_ms)
        if group.select_protocol() != (group.protocol or ""):
            return self._rebalance.prepare_or_complete(group, now_ms)

        def settle(error: ErrorCode) -> None:
            if error is not ErrorCode.NONE:
                # Nothing was stored: the old id stands.
                group.update_member(member, *former, None)
                old = group.replace_static_member(instance_id, new_id, old_id, table.outbox)
                table.forget_heartbeat(group, new_id)
                table.expect_heartbeat(group, old)
                table.outbox.reply(ticket, JoinReply(error, leader=former_leader))
                return
            group.complete_join(member, self._unchanged_reply(group, member, former_leader, command), table.outbox)

        return Outcome((group_record(group),), settle)

    @staticmethod
    def _unchanged_reply(
        group: ClassicGroup, member: ClassicMember, former_leader: str, command: JoinCommand
    ) -> JoinReply:
        """The group stays as it is. Since v9 a returning leader is told so; an older one must not think it leads."""
        is_leader = member.member_id == group.leader_id
        skips = command.supports_skipping_assignment
        return JoinReply(
            generation=group.generation,
            protocol_type=group.protocol_type,
            protocol_name=group.protocol,
            leader=(group.leader_id or NO_MEMBER_ID) if skips else former_leader,
            skip_assignment=skips and is_leader,
            member_id=member.member_id,
            members=group.joined_members() if skips and is_leader else (),
        )

    def _refuse(self, ticket: Ticket, member_id: str, error: ErrorCode) -> Outcome:
        self._table.outbox.reply(ticket, JoinReply(error, member_id=member_id))
        return NOTHING
