"""What the parts of one shard's state machine share: settings, persisted state, live groups, outbox."""

from __future__ import annotations

import random
import uuid

from broker.groups.classic_group import ClassicGroup
from broker.groups.classic_member import ClassicMember
from broker.groups.outbox import Outbox, TimerKey
from broker.groups.records import Record, encode_group_key, encode_group_value
from broker.groups.settings import GroupSettings
from broker.groups.state import PersistedState


def heartbeat_key(group_id: str, member_id: str) -> TimerKey:
    return ("heartbeat", group_id, member_id)


def join_key(group_id: str) -> TimerKey:
    return ("join", group_id)


def sync_key(group_id: str) -> TimerKey:
    return ("sync", group_id)


def write_key(group_id: str) -> TimerKey:
    """Fires when the record of a group that became empty must be offered to the log again."""
    return ("write", group_id)


class GroupTable:
    """`groups` holds every live group: those with a metadata record, simple ones that only have offsets, and a new one
    once its first record was accepted. `rng` makes member ids."""

    def __init__(self, settings: GroupSettings, rng: random.Random) -> None:
        self.settings = settings
        self.state = PersistedState()
        self.groups: dict[str, ClassicGroup] = {}
        self.outbox = Outbox()
        self._rng = rng

    def new_member_id(self, prefix: str) -> str:
        return f"{prefix}-{uuid.UUID(int=self._rng.getrandbits(128), version=4)}"

    def expect_heartbeat(self, group: ClassicGroup, member: ClassicMember, delay_ms: int | None = None) -> None:
        """(Re)start the member's session timer."""
        delay_ms = member.session_timeout_ms if delay_ms is None else delay_ms
        self.outbox.schedule(heartbeat_key(group.group_id, member.member_id), delay_ms)

    def forget_heartbeat(self, group: ClassicGroup, member_id: str) -> None:
        self.outbox.cancel(heartbeat_key(group.group_id, member_id))

    def drop_group(self, group_id: str) -> None:
        """Forget a live group and its timers (its tombstone was accepted)."""
        group = self.groups.pop(group_id, None)
        if group is None:
            return
        for member_id in (*group.members, *group.pending_join):
            self.forget_heartbeat(group, member_id)
        self.outbox.cancel(join_key(group_id))
        self.outbox.cancel(sync_key(group_id))
        self.outbox.cancel(write_key(group_id))


def group_record(group: ClassicGroup, assignments: dict[str, bytes] | None = None) -> Record:
    return encode_group_key(group.group_id), encode_group_value(group.to_value(assignments))
