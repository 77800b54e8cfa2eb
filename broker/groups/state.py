"""The persisted state of one `__consumer_offsets` partition: `replay(record)` is its only mutation.

Exactly a function of the records accepted by the log, in order, last one wins per key; so what a crash rebuilds is
what was there. The live groups (`ClassicGroup`) are soft state beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.groups.records import (
    GroupKey,
    GroupValue,
    OffsetKey,
    OffsetValue,
    Record,
    decode_group_value,
    decode_key,
    decode_offset_value,
    encode_group_key,
    encode_group_value,
    encode_offset_key,
    encode_offset_value,
)

TopicOffsets = dict[int, OffsetValue]


class PersistedState:
    """`groups`: last group metadata by group id; `offsets`: group id -> topic -> partition -> offset;
    `others`: records of types this coordinator does not read, kept so that a checkpoint loses nothing."""

    def __init__(self) -> None:
        self.groups: dict[str, GroupValue] = {}
        self.offsets: dict[str, dict[str, TopicOffsets]] = {}
        self.others: dict[bytes, bytes] = {}
        self.offset_count = 0

    def replay(self, record: Record) -> None:
        """Apply one record; Corrupt when it does not follow its format."""
        raw_key, raw_value = record
        key = decode_key(raw_key)
        if isinstance(key, OffsetKey):
            if raw_value is None:
                self._remove_offset(key)
            else:
                self._put_offset(key, decode_offset_value(raw_value))
        elif isinstance(key, GroupKey):
            if raw_value is None:
                self.groups.pop(key.group_id, None)
            else:
                self.groups[key.group_id] = decode_group_value(raw_value)
        elif raw_value is None:
            self.others.pop(raw_key, None)
        else:
            self.others[raw_key] = raw_value

    def _put_offset(self, key: OffsetKey, value: OffsetValue) -> None:
        partitions = self.offsets.setdefault(key.group_id, {}).setdefault(key.topic, {})
        if key.partition not in partitions:
            self.offset_count += 1
        partitions[key.partition] = value

    def _remove_offset(self, key: OffsetKey) -> None:
        topics = self.offsets.get(key.group_id, {})
        partitions = topics.get(key.topic, {})
        if partitions.pop(key.partition, None) is None:
            return
        self.offset_count -= 1
        if not partitions:
            del topics[key.topic]
        if not topics:
            del self.offsets[key.group_id]

    def offset(self, group_id: str, topic: str, partition: int) -> OffsetValue | None:
        return self.offsets.get(group_id, {}).get(topic, {}).get(partition)

    def live_keys(self) -> list[bytes]:
        """Keys of every live record, in a stable order: what a checkpoint must write again."""
        keys = [encode_group_key(group_id) for group_id in self.groups]
        for group_id, topics in self.offsets.items():
            for topic, partitions in topics.items():
                keys += (encode_offset_key(group_id, topic, partition) for partition in partitions)
        keys += self.others
        return keys

    def live_record(self, raw_key: bytes) -> Record | None:
        """The record that carries the key's value as it is now; None when the key is gone."""
        key = decode_key(raw_key)
        if isinstance(key, OffsetKey):
            offset = self.offset(*key)
            return None if offset is None else (raw_key, encode_offset_value(offset))
        if isinstance(key, GroupKey):
            group = self.groups.get(key.group_id)
            return None if group is None else (raw_key, encode_group_value(group))
        other = self.others.get(raw_key)
        return None if other is None else (raw_key, other)

    def snapshot(self) -> Iterator[Record]:
        """All live records; replaying them into an empty state gives this one."""
        for key in self.live_keys():
            record = self.live_record(key)
            if record is not None:
                yield record
