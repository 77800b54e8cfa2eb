"""What goes into the group state machine and what comes out: one command and one reply class per request.

Times in ms, error codes as `protocol.errors.ErrorCode`. Every command gets exactly one reply, at once or deferred;
`failed(error)` is the reply when the whole request fails (not the coordinator, loading, append refused).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from protocol.errors import ErrorCode

NO_MEMBER_ID = ""
NO_GENERATION = -1


class JoinReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE
    generation: int = NO_GENERATION
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    member_id: str = NO_MEMBER_ID
    members: Sequence[tuple[str, str | None, bytes]] = ()
    """(member id, group instance id, metadata) of everyone, for the leader only."""


class JoinCommand(msgspec.Struct, frozen=True):
    group_id: str
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    requires_known_member_id: bool
    """JoinGroup v4+: a new dynamic member must come back with the id it was given (KIP-394)."""
    supports_skipping_assignment: bool
    """JoinGroup v9+ (KIP-814)."""
    reason: str | None = None

    def failed(self, error: ErrorCode) -> JoinReply:
        return JoinReply(error=error, member_id=self.member_id)


class SyncReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE
    protocol_type: str | None = None
    protocol_name: str | None = None
    assignment: bytes = b""


class SyncCommand(msgspec.Struct, frozen=True):
    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None
    protocol_type: str | None
    protocol_name: str | None
    assignments: Sequence[tuple[str, bytes]]

    def failed(self, error: ErrorCode) -> SyncReply:
        return SyncReply(error)


class HeartbeatReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE


class HeartbeatCommand(msgspec.Struct, frozen=True):
    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None

    def failed(self, error: ErrorCode) -> HeartbeatReply:
        """While the group loads, a member is simply told to go on, as Kafka does."""
        return HeartbeatReply(ErrorCode.NONE if error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS else error)


class LeaveReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE
    members: Sequence[tuple[str, str | None, ErrorCode]] = ()


class LeaveCommand(msgspec.Struct, frozen=True):
    group_id: str
    members: Sequence[tuple[str, str | None, str | None]]
    """(member id, group instance id, reason)."""

    def failed(self, error: ErrorCode) -> LeaveReply:
        return LeaveReply(error)


class CommitPartition(msgspec.Struct, frozen=True):
    partition: int
    offset: int
    leader_epoch: int
    metadata: str | None


class CommitTopic(msgspec.Struct, frozen=True):
    name: str
    topic_id: UUID | None
    partitions: Sequence[CommitPartition]


class CommitReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE
    """Set when the whole commit was refused: it stands for every partition."""
    topics: Sequence[tuple[str, Sequence[tuple[int, ErrorCode]]]] = ()


class CommitCommand(msgspec.Struct, frozen=True):
    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None
    topics: Sequence[CommitTopic]
    api_version: int
    retention_time_ms: int = -1
    """OffsetCommit v2 to v4; -1 = the broker's own retention."""

    def failed(self, error: ErrorCode) -> CommitReply:
        return CommitReply(error)


class FetchedPartition(msgspec.Struct, frozen=True):
    partition: int
    offset: int = -1
    leader_epoch: int = -1
    metadata: str = ""
    error: ErrorCode = ErrorCode.NONE


class FetchReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE
    topics: Sequence[tuple[str, UUID | None, Sequence[FetchedPartition]]] = ()


class FetchCommand(msgspec.Struct, frozen=True):
    group_id: str
    topics: Sequence[tuple[str, UUID | None, Sequence[int]]] | None
    """None = every committed offset of the group."""

    def failed(self, error: ErrorCode) -> FetchReply:
        return FetchReply(error)


class DeleteOffsetsReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE
    topics: Sequence[tuple[str, Sequence[tuple[int, ErrorCode]]]] = ()


class DeleteOffsetsCommand(msgspec.Struct, frozen=True):
    group_id: str
    topics: Sequence[tuple[str, Sequence[int]]]

    def failed(self, error: ErrorCode) -> DeleteOffsetsReply:
        return DeleteOffsetsReply(error)


class DeleteGroupReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE


class DeleteGroupCommand(msgspec.Struct, frozen=True):
    group_id: str

    def failed(self, error: ErrorCode) -> DeleteGroupReply:
        return DeleteGroupReply(error)


class DescribedMember(msgspec.Struct, frozen=True):
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class DescribeReply(msgspec.Struct, frozen=True):
    group_id: str
    error: ErrorCode = ErrorCode.NONE
    error_message: str | None = None
    state: str = ""
    protocol_type: str = ""
    protocol: str = ""
    members: Sequence[DescribedMember] = ()


class DescribeCommand(msgspec.Struct, frozen=True):
    group_id: str
    api_version: int

    def failed(self, error: ErrorCode) -> DescribeReply:
        return DescribeReply(self.group_id, error)


class ListedGroup(msgspec.Struct, frozen=True):
    group_id: str
    protocol_type: str
    state: str
    group_type: str


class ListReply(msgspec.Struct, frozen=True):
    error: ErrorCode = ErrorCode.NONE
    groups: Sequence[ListedGroup] = ()


class ListCommand(msgspec.Struct, frozen=True):
    states: Sequence[str] = ()
    types: Sequence[str] = ()

    def failed(self, error: ErrorCode) -> ListReply:
        return ListReply(error)


Command = (
    JoinCommand
    | SyncCommand
    | HeartbeatCommand
    | LeaveCommand
    | CommitCommand
    | FetchCommand
    | DeleteOffsetsCommand
    | DeleteGroupCommand
    | DescribeCommand
    | ListCommand
)
Reply = (
    JoinReply
    | SyncReply
    | HeartbeatReply
    | LeaveReply
    | CommitReply
    | FetchReply
    | DeleteOffsetsReply
    | DeleteGroupReply
    | DescribeReply
    | ListReply
)
