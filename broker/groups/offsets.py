"""Committed offsets: commit, fetch, delete, expire. Port of Kafka's OffsetMetadataManager without transactions.

Commits of a group without members (generation -1, no member id) make a "simple" group: Empty, no protocol type, alive
as long as it has offsets.
"""

from __future__ import annotations

from uuid import UUID

from broker.groups.classic_group import ClassicGroup, GroupState
from broker.groups.messages import (
    CommitCommand,
    CommitPartition,
    CommitReply,
    DeleteOffsetsCommand,
    DeleteOffsetsReply,
    FetchCommand,
    FetchedPartition,
    FetchReply,
)
from broker.groups.outbox import NOTHING, Outcome, Ticket
from broker.groups.primitives import MAX_CLASSIC_STRING_BYTES
from broker.groups.records import (
    NO_TIMESTAMP,
    OffsetValue,
    Record,
    encode_offset_key,
    encode_offset_value,
    offset_key_prefix,
)
from broker.groups.state import TopicOffsets
from broker.groups.table import GroupTable
from protocol.errors import ErrorCode


class Offsets:
    """Decides offset requests on one table."""

    def __init__(self, table: GroupTable) -> None:
        self._table = table

    # -- commit

    def commit(self, command: CommitCommand, ticket: Ticket, now_ms: int) -> Outcome:
        group = self._table.groups.get(command.group_id)
        if group is None:
            error = ErrorCode.NONE
            if command.generation >= 0:
                # Since v9 one error serves both group protocols.
                new_client = command.api_version >= 9
                error = ErrorCode.GROUP_ID_NOT_FOUND if new_client else ErrorCode.ILLEGAL_GENERATION
        else:
            error = group.commit_error(command.member_id, command.group_instance_id, command.generation)
        if error is not ErrorCode.NONE:
            self._table.outbox.reply(ticket, CommitReply(error))
            return NOTHING
        if group is not None and group.state in (GroupState.STABLE, GroupState.PREPARING_REBALANCE):
            self._table.expect_heartbeat(group, group.members[command.member_id])
        records, reply = self._commit_records(command, now_ms)
        if not records:
            self._table.outbox.reply(ticket, reply)
            return NOTHING

        def settle(error: ErrorCode) -> None:
            if error is not ErrorCode.NONE:
                self._table.outbox.reply(ticket, command.failed(error))
                return
            if command.group_id not in self._table.groups:
                self._table.groups[command.group_id] = ClassicGroup(command.group_id, now_ms)
            self._table.outbox.reply(ticket, reply)

        return Outcome(tuple(records), settle)

    def _commit_records(self, command: CommitCommand, now_ms: int) -> tuple[list[Record], CommitReply]:
        expire_ms = NO_TIMESTAMP if command.retention_time_ms == -1 else now_ms + command.retention_time_ms
        records: list[Record] = []
        topics = []
        for topic in command.topics:
            verdicts = []
            prefix = offset_key_prefix(command.group_id, topic.name)
            for part in topic.partitions:
                if self._too_large(part, classic_string=expire_ms != NO_TIMESTAMP):
                    verdicts.append((part.partition, ErrorCode.OFFSET_METADATA_TOO_LARGE))
                    continue
                verdicts.append((part.partition, ErrorCode.NONE))
                value = OffsetValue(
                    part.offset, part.leader_epoch, part.metadata or "", now_ms, expire_ms, topic.topic_id
                )
                records.append((prefix + part.partition.to_bytes(4, "big", signed=True), encode_offset_value(value)))
            topics.append((topic.name, tuple(verdicts)))
        return records, CommitReply(topics=tuple(topics))

    def _too_large(self, part: CommitPartition, *, classic_string: bool) -> bool:
        """Kafka's limit is on String.length(): UTF-16 units. A value with an expiry holds a 16-bit length in bytes."""
        text = part.metadata
        if not text:
            return False
        units = len(text.encode("utf-16-be", "surrogatepass")) // 2
        if units > self._table.settings.offset_metadata_max_bytes:
            return True
        return classic_string and len(text.encode("utf-8", "surrogatepass")) > MAX_CLASSIC_STRING_BYTES

    # -- fetch

    def fetch(self, command: FetchCommand, ticket: Ticket) -> Outcome:
        group = self._table.groups.get(command.group_id)
        known = group is not None and group.state is not GroupState.DEAD
        offsets = self._table.state.offsets.get(command.group_id, {}) if known else {}
        topics: list[tuple[str, UUID | None, tuple[FetchedPartition, ...]]] = []
        if command.topics is None:
            for name, held in offsets.items():
                topic_id = next((value.topic_id for value in held.values() if value.topic_id is not None), None)
                topics.append((name, topic_id, tuple(_fetched(part, value) for part, value in held.items())))
        else:
            for name, topic_id, partitions in command.topics:
                held = offsets.get(name, {})
                topics.append((name, topic_id, tuple(_fetch_one(held, part, topic_id) for part in partitions)))
        self._table.outbox.reply(ticket, FetchReply(topics=tuple(topics)))
        return NOTHING

    # -- delete

    def delete(self, command: DeleteOffsetsCommand, ticket: Ticket) -> Outcome:
        group = self._table.groups.get(command.group_id)
        error = ErrorCode.NONE
        if not command.group_id:
            error = ErrorCode.INVALID_GROUP_ID
        elif group is None or group.state is GroupState.DEAD:
            error = ErrorCode.GROUP_ID_NOT_FOUND
        elif group.state is not GroupState.EMPTY and not group.uses_consumer_protocol():
            error = ErrorCode.NON_EMPTY_GROUP
        if group is None or error is not ErrorCode.NONE:
            self._table.outbox.reply(ticket, DeleteOffsetsReply(error))
            return NOTHING
        records: list[Record] = []
        topics = []
        for name, partitions in command.topics:
            subscribed = group.is_subscribed_to(name)
            verdict = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if subscribed else ErrorCode.NONE
            topics.append((name, tuple((partition, verdict) for partition in partitions)))
            if not subscribed:
                records += (
                    (encode_offset_key(command.group_id, name, partition), None)
                    for partition in dict.fromkeys(partitions)
                    if self._table.state.offset(command.group_id, name, partition) is not None
                )
        reply = DeleteOffsetsReply(topics=tuple(topics))
        if not records:
            self._table.outbox.reply(ticket, reply)
            return NOTHING
        return Outcome(
            tuple(records),
            lambda error: self._table.outbox.reply(ticket, reply if error is ErrorCode.NONE else command.failed(error)),
        )

    def tombstones(self, group_id: str) -> list[Record]:
        """Tombstones of every offset of the group."""
        return [
            (encode_offset_key(group_id, topic, partition), None)
            for topic, partitions in self._table.state.offsets.get(group_id, {}).items()
            for partition in partitions
        ]

    def topic_tombstones(self, topic: str, topic_id: UUID | None) -> list[Record]:
        """Tombstones of the offsets of a deleted topic. Offsets of a later topic of the same name, known by its other
        id, stay."""
        return [
            (encode_offset_key(group_id, topic, partition), None)
            for group_id, topics in self._table.state.offsets.items()
            for partition, value in topics.get(topic, {}).items()
            if not _mismatched(value.topic_id, topic_id)
        ]

    # -- expiry

    def expired(self, group: ClassicGroup, now_ms: int) -> tuple[list[Record], bool]:
        """Tombstones of the group's expired offsets, and whether none will remain after them.

        Kafka's rules: a group without members counts from the moment it became empty (from the commit when that is
        not known); a simple one and a stable one's unsubscribed topics count from the commit; a per-commit retention
        of old clients overrides all; during a rebalance nothing expires.
        """
        topics = self._table.state.offsets.get(group.group_id)
        if topics is None:
            return [], True
        from_state = False
        if group.protocol_type is not None:
            if group.state is GroupState.EMPTY:
                from_state = group.state_timestamp_ms != NO_TIMESTAMP
            elif not (
                group.uses_consumer_protocol() and group.subscribed is not None and group.state is GroupState.STABLE
            ):
                return [], False
        tombstones: list[Record] = []
        none_left = True
        for topic, partitions in topics.items():
            if group.is_subscribed_to(topic):
                none_left = False
                continue
            for partition, value in partitions.items():
                base_ms = group.state_timestamp_ms if from_state else value.commit_timestamp_ms
                if self._is_expired(value, base_ms, now_ms):
                    tombstones.append((encode_offset_key(group.group_id, topic, partition), None))
                else:
                    none_left = False
        return tombstones, none_left

    def _is_expired(self, value: OffsetValue, base_ms: int, now_ms: int) -> bool:
        if value.expire_timestamp_ms != NO_TIMESTAMP:
            return now_ms >= value.expire_timestamp_ms
        return now_ms - base_ms >= self._table.settings.offsets_retention_ms


def _mismatched(stored: UUID | None, asked: UUID | None) -> bool:
    return stored is not None and asked is not None and stored != asked


def _fetched(partition: int, value: OffsetValue) -> FetchedPartition:
    return FetchedPartition(partition, value.offset, value.leader_epoch, value.metadata)


def _fetch_one(held: TopicOffsets, partition: int, topic_id: UUID | None) -> FetchedPartition:
    """An offset that was committed for a topic of the same name and another id is not this topic's."""
    value = held.get(partition)
    if value is None or _mismatched(value.topic_id, topic_id):
        return FetchedPartition(partition)
    return _fetched(partition, value)
