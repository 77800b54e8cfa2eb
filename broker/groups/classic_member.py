"""One member of a classic group. Pure soft state; port of Kafka's ClassicGroupMember."""

from __future__ import annotations

from broker.groups.outbox import Ticket


class ClassicMember:
    """One member; `awaiting_join` and `awaiting_sync` hold the request that waits for the phase to end."""

    __slots__ = (
        "assignment",
        "awaiting_join",
        "awaiting_sync",
        "client_host",
        "client_id",
        "group_instance_id",
        "is_new",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
    )

    def __init__(
        self,
        member_id: str,
        group_instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: tuple[tuple[str, bytes], ...],
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.awaiting_join: Ticket | None = None
        self.awaiting_sync: Ticket | None = None
        self.is_new = False

    def metadata(self, protocol: str | None) -> bytes:
        """The member's metadata for `protocol`; empty when it does not support it."""
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")

    def has_satisfied_heartbeat(self) -> bool:
        """A member that waits in a phase needs no heartbeat, but a new one can vanish before it ever got its id."""
        return not self.is_new and (self.awaiting_join is not None or self.awaiting_sync is not None)
