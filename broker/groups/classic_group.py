"""One classic group: its members, generation and state. Pure soft state; port of Kafka's ClassicGroup.

    Empty ─▶ PreparingRebalance ─▶ CompletingRebalance ─▶ Stable ─▶ (PreparingRebalance, ...) ; any ─▶ Dead

Members are kept in join order, so everything that Kafka iterates over a hash map is deterministic here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from broker.groups import consumer_protocol
from broker.groups.classic_member import ClassicMember
from broker.groups.messages import NO_MEMBER_ID, JoinReply, SyncReply
from broker.groups.outbox import Outbox, Ticket
from broker.groups.records import NO_TIMESTAMP, GroupValue, MemberValue
from protocol.errors import ErrorCode
from s3stream.errors import Corrupt


class GroupState(enum.Enum):
    """The value is the name on the wire."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


_VALID_PREVIOUS = {
    GroupState.EMPTY: (GroupState.PREPARING_REBALANCE,),
    GroupState.PREPARING_REBALANCE: (GroupState.STABLE, GroupState.COMPLETING_REBALANCE, GroupState.EMPTY),
    GroupState.COMPLETING_REBALANCE: (GroupState.PREPARING_REBALANCE,),
    GroupState.STABLE: (GroupState.COMPLETING_REBALANCE,),
    GroupState.DEAD: tuple(GroupState),
}


class ClassicGroup:
    """Invariants: `leader_id` is a member or None; `instances` maps exactly the static members; the protocol counts
    equal what the members support; `pending_join` and members are disjoint; `pending_sync` is a subset of members."""

    def __init__(self, group_id: str, now_ms: int | None) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.EMPTY
        self.state_timestamp_ms = NO_TIMESTAMP if now_ms is None else now_ms
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader_id: str | None = None
        self.members: dict[str, ClassicMember] = {}
        self.instances: dict[str, str] = {}
        self.pending_join: dict[str, None] = {}
        self.pending_sync: dict[str, None] = {}
        self.new_member_added = False
        self.awaiting_join_count = 0
        self.subscribed: frozenset[str] | None = None
        self._protocol_counts: dict[str, int] = {}

    @classmethod
    def from_value(cls, group_id: str, value: GroupValue) -> ClassicGroup:
        """The group as its last record left it: Stable with members, else Empty."""
        group = cls(group_id, None)
        group.state_timestamp_ms = value.state_timestamp_ms
        group.generation = value.generation
        group.protocol_type = value.protocol_type or None
        group.protocol = value.protocol
        group.leader_id = value.leader
        for member in value.members:
            protocols = ((value.protocol or "", member.subscription),)
            group._insert(
                ClassicMember(
                    member.member_id,
                    member.group_instance_id,
                    member.client_id,
                    member.client_host,
                    member.rebalance_timeout_ms,
                    member.session_timeout_ms,
                    protocols,
                    member.assignment,
                )
            )
        if group.members:
            group.state = GroupState.STABLE
        group.subscribed = group._compute_subscribed()
        return group

    def to_value(self, assignments: dict[str, bytes] | None = None) -> GroupValue:
        """The record value; `assignments` stands in for the members' own while a leader's sync is being written."""
        return GroupValue(
            self.protocol_type or "",
            self.generation,
            self.protocol,
            self.leader_id,
            self.state_timestamp_ms,
            tuple(
                MemberValue(
                    member.member_id,
                    member.group_instance_id,
                    member.client_id,
                    member.client_host,
                    member.rebalance_timeout_ms,
                    member.session_timeout_ms,
                    member.metadata(self.protocol),
                    member.assignment if assignments is None else assignments.get(member.member_id, b""),
                )
                for member in self.members.values()
            ),
        )

    # -- state

    def transition(self, state: GroupState, now_ms: int) -> None:
        if self.state not in _VALID_PREVIOUS[state]:
            raise RuntimeError(f"group {self.group_id!r} cannot go from {self.state.value} to {state.value}")
        self.previous_state = self.state
        self.state = state
        self.state_timestamp_ms = now_ms

    def can_rebalance(self) -> bool:
        return self.state in _VALID_PREVIOUS[GroupState.PREPARING_REBALANCE]

    def init_next_generation(self, now_ms: int) -> None:
        self.generation += 1
        if self.members:
            self.protocol = self.select_protocol()
            self.subscribed = self._compute_subscribed()
            self.transition(GroupState.COMPLETING_REBALANCE, now_ms)
        else:
            self.protocol = None
            self.subscribed = self._compute_subscribed()
            self.transition(GroupState.EMPTY, now_ms)
        self.pending_sync.clear()

    # -- members

    def _insert(self, member: ClassicMember) -> None:
        if member.group_instance_id is not None:
            self.instances[member.group_instance_id] = member.member_id
        self.members[member.member_id] = member
        self._count_protocols(member, 1)

    def add(self, member: ClassicMember, protocol_type: str, ticket: Ticket | None) -> None:
        """The caller has checked `supports_protocols` and that the instance id is free."""
        if not self.members:
            self.protocol_type = protocol_type
        if self.leader_id is None:
            self.leader_id = member.member_id
        self._insert(member)
        member.awaiting_join = ticket
        if ticket is not None:
            self.awaiting_join_count += 1
        self.pending_join.pop(member.member_id, None)

    def remove(self, member_id: str) -> None:
        """Forget a member or pending member; the leader's place goes to the longest-standing one."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._count_protocols(member, -1)
            if member.awaiting_join is not None:
                self.awaiting_join_count -= 1
            if member.group_instance_id is not None:
                self.instances.pop(member.group_instance_id, None)
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        self.pending_join.pop(member_id, None)
        self.pending_sync.pop(member_id, None)

    def update_member(
        self,
        member: ClassicMember,
        protocols: tuple[tuple[str, bytes], ...],
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        ticket: Ticket | None,
    ) -> None:
        self._count_protocols(member, -1)
        member.protocols = protocols
        self._count_protocols(member, 1)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms
        if ticket is not None and member.awaiting_join is None:
            self.awaiting_join_count += 1
        elif ticket is None and member.awaiting_join is not None:
            self.awaiting_join_count -= 1
        member.awaiting_join = ticket

    def replace_static_member(self, instance_id: str, old_id: str, new_id: str, outbox: Outbox) -> ClassicMember:
        """Give the static member a new id; whoever waits under the old one is fenced at once."""
        old = self.members.pop(old_id)
        self.complete_join(old, JoinReply(ErrorCode.FENCED_INSTANCE_ID, member_id=old_id), outbox)
        self.complete_sync(old, SyncReply(ErrorCode.FENCED_INSTANCE_ID), outbox)
        new = ClassicMember(
            new_id,
            old.group_instance_id,
            old.client_id,
            old.client_host,
            old.rebalance_timeout_ms,
            old.session_timeout_ms,
            old.protocols,
            old.assignment,
        )
        self.members[new_id] = new
        if self.leader_id == old_id:
            self.leader_id = new_id
        self.instances[instance_id] = new_id
        self.pending_sync.pop(old_id, None)
        return new

    def elect_joined_leader(self) -> bool:
        """True when the leader has rejoined, or another joined member took its place."""
        leader = None if self.leader_id is None else self.members.get(self.leader_id)
        if leader is not None and leader.awaiting_join is not None:
            return True
        for member in self.members.values():
            if member.awaiting_join is not None:
                self.leader_id = member.member_id
                return True
        return False

    def has_all_members_joined(self) -> bool:
        return len(self.members) == self.awaiting_join_count and not self.pending_join

    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def member_error(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """`none` when (member id, instance id) is who it says it is."""
        if instance_id is not None:
            existing = self.instances.get(instance_id)
            if existing is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if existing != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    # -- parked requests

    def complete_join(self, member: ClassicMember, reply: JoinReply, outbox: Outbox) -> bool:
        if member.awaiting_join is None:
            return False
        outbox.reply(member.awaiting_join, reply)
        member.awaiting_join = None
        self.awaiting_join_count -= 1
        return True

    def complete_sync(self, member: ClassicMember, reply: SyncReply, outbox: Outbox) -> bool:
        if member.awaiting_sync is None:
            return False
        outbox.reply(member.awaiting_sync, reply)
        member.awaiting_sync = None
        return True

    def join_reply(self, member_id: str, *, everyone: bool) -> JoinReply:
        """The current generation as a JoinGroup answer."""
        return JoinReply(
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol,
            leader=self.leader_id or NO_MEMBER_ID,
            member_id=member_id,
            members=self.joined_members() if everyone else (),
        )

    def joined_members(self) -> tuple[tuple[str, str | None, bytes], ...]:
        return tuple((m.member_id, m.group_instance_id, m.metadata(self.protocol)) for m in self.members.values())

    # -- protocols

    def _count_protocols(self, member: ClassicMember, by: int) -> None:
        for name, _ in member.protocols:
            count = self._protocol_counts.get(name, 0) + by
            if count:
                self._protocol_counts[name] = count
            else:
                self._protocol_counts.pop(name, None)

    def supports_protocols(self, protocol_type: str, names: Iterable[str]) -> bool:
        if self.state is GroupState.EMPTY:
            return bool(protocol_type) and any(True for _ in names)
        everyone = len(self.members)
        return self.protocol_type == protocol_type and any(
            self._protocol_counts.get(name, 0) == everyone for name in names
        )

    def select_protocol(self) -> str:
        """Every member votes for its first protocol that all support; most votes win, the earlier vote a tie."""
        everyone = len(self.members)
        candidates = {name for name, count in self._protocol_counts.items() if count == everyone}
        votes: dict[str, int] = {}
        for member in self.members.values():
            vote = next((name for name, _ in member.protocols if name in candidates), None)
            if vote is None:
                raise RuntimeError(f"member {member.member_id!r} supports no protocol of group {self.group_id!r}")
            votes[vote] = votes.get(vote, 0) + 1
        return max(votes, key=lambda name: votes[name])

    # -- subscriptions and offsets

    def uses_consumer_protocol(self) -> bool:
        return self.protocol_type == consumer_protocol.PROTOCOL_TYPE

    def is_subscribed_to(self, topic: str) -> bool:
        """When the topics are not known, a group of consumers counts as subscribed to everything."""
        return self.uses_consumer_protocol() if self.subscribed is None else topic in self.subscribed

    def _compute_subscribed(self) -> frozenset[str] | None:
        if not self.uses_consumer_protocol():
            return None
        if not self.members:
            return frozenset()
        if self.protocol is None:
            return None
        try:
            return frozenset().union(
                *(consumer_protocol.subscribed_topics(m.metadata(self.protocol)) for m in self.members.values())
            )
        except Corrupt:
            # A "consumer" group may carry any bytes: its topics are then unknown, which only makes us keep offsets.
            return None

    def commit_error(self, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """May these three commit offsets now?"""
        if self.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if generation < 0 and self.state is GroupState.EMPTY:
            return ErrorCode.NONE
        if generation >= 0 or member_id or instance_id is not None:
            error = self.member_error(member_id, instance_id)
            if error is not ErrorCode.NONE:
                return error
            if generation != self.generation:
                return ErrorCode.ILLEGAL_GENERATION
        elif self.state is not GroupState.EMPTY:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if self.state is GroupState.COMPLETING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE
