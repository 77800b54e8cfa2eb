"""The records of `__consumer_offsets` in Kafka's own formats.

Key = version i16 and fields; the version is the record's type: 0 and 1 an offset commit, 2 group metadata. Others
(the newer group protocols) are carried through unread. A null value is a tombstone. Values begin with a version too:

    OffsetCommitValue    0: offset, metadata, commit time   1: + expire time   2: as 0   3: + leader epoch
                         4: flexible, tagged field 0 = topic id
    GroupMetadataValue   0: protocol type, generation, protocol, leader, members   1: + rebalance timeout
                         2: + state time   3: + group instance id   4: flexible

Written as Kafka 4.3 writes them: offset keys 1, offset values 4 (1 with a per-commit expiry), group keys 2, values 3.
Source: group-coordinator/src/main/resources/common/message/{OffsetCommit,GroupMetadata}{Key,Value}.json.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from broker.groups.primitives import Reader, Writer, uvarint
from s3stream.errors import Corrupt

Record = tuple[bytes, bytes | None]

NO_TIMESTAMP = -1
NO_LEADER_EPOCH = -1
OFFSET_KEY_VERSION = 1
GROUP_KEY_VERSION = 2
NIL_UUID = UUID(int=0)
_PARTITION = struct.Struct(">i")
_TIMESTAMP = struct.Struct(">q")
_OFFSET_HEAD = struct.Struct(">hqi")


class OffsetKey(NamedTuple):
    group_id: str
    topic: str
    partition: int


class GroupKey(NamedTuple):
    group_id: str


class OtherKey(NamedTuple):
    """A record type that this coordinator does not read."""

    version: int


class OffsetValue(NamedTuple):
    """One committed offset. Times in ms since the epoch; -1 = none; `topic_id` None = committed without one."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int = NO_TIMESTAMP
    topic_id: UUID | None = None


class MemberValue(NamedTuple):
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


class GroupValue(NamedTuple):
    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    state_timestamp_ms: int
    members: tuple[MemberValue, ...]


def offset_key_prefix(group_id: str, topic: str) -> bytes:
    """What the keys of all partitions of the topic share: key = prefix and the partition as i32."""
    writer = Writer(OFFSET_KEY_VERSION)
    writer.string(group_id)
    writer.string(topic)
    return writer.finish()


def encode_offset_key(group_id: str, topic: str, partition: int) -> bytes:
    return offset_key_prefix(group_id, topic) + _PARTITION.pack(partition)


def encode_group_key(group_id: str) -> bytes:
    writer = Writer(GROUP_KEY_VERSION)
    writer.string(group_id)
    return writer.finish()


def decode_key(key: bytes) -> OffsetKey | GroupKey | OtherKey:
    """Corrupt when the bytes do not follow the version they claim."""
    if key[:2] in (b"\x00\x00", b"\x00\x01"):
        return _decode_offset_key(key)
    reader = Reader(key)
    version = reader.i16()
    if version == GROUP_KEY_VERSION:
        return GroupKey(reader.string())
    return OtherKey(version)


def _decode_offset_key(key: bytes) -> OffsetKey:
    """By hand: a load decodes one for each committed partition."""
    topic_at = 4 + int.from_bytes(key[2:4], "big")
    end = topic_at + 2 + int.from_bytes(key[topic_at : topic_at + 2], "big")
    try:
        (partition,) = _PARTITION.unpack_from(key, end)
        return OffsetKey(key[4:topic_at].decode(), key[topic_at + 2 : end].decode(), partition)
    except (struct.error, UnicodeDecodeError) as error:
        raise Corrupt(f"offset commit key of {len(key)} bytes does not hold its group, topic and partition") from error


def encode_offset_value(value: OffsetValue, version: int | None = None) -> bytes:
    """`version` None = the one Kafka 4.3 writes for this value."""
    if version is None:
        version = 4 if value.expire_timestamp_ms == NO_TIMESTAMP else 1
    if version == 4:
        return _encode_offset_value_4(value)
    writer = Writer(version)
    writer.i64(value.offset)
    if version == 3:
        writer.i32(value.leader_epoch)
    writer.string(value.metadata)
    writer.i64(value.commit_timestamp_ms)
    if version == 1:
        writer.i64(value.expire_timestamp_ms)
    return writer.finish()


def _encode_offset_value_4(value: OffsetValue) -> bytes:
    """By hand: a store commits a thousand partitions in one request, every second."""
    metadata = value.metadata.encode("utf-8", "surrogatepass") if value.metadata else b""
    tags = b"\x00" if value.topic_id is None else b"\x01\x00\x10" + value.topic_id.bytes
    head = _OFFSET_HEAD.pack(4, value.offset, value.leader_epoch)
    return b"".join((head, uvarint(len(metadata) + 1), metadata, _TIMESTAMP.pack(value.commit_timestamp_ms), tags))


def decode_offset_value(raw: bytes) -> OffsetValue:
    """Corrupt for a version above 4 or bytes that do not follow it. A nil topic id reads as none."""
    if raw[:2] == b"\x00\x04" and len(raw) > 15 and raw[14] < 0x80:
        return _decode_offset_value_4(raw)
    reader = Reader(raw)
    version = reader.i16()
    if not 0 <= version <= 4:
        raise Corrupt(f"offset commit value version {version}; 0 to 4 are known")
    flexible = version >= 4
    offset = reader.i64()
    leader_epoch = reader.i32() if version >= 3 else NO_LEADER_EPOCH
    metadata = reader.string(flexible)
    commit_timestamp_ms = reader.i64()
    expire_timestamp_ms = reader.i64() if version == 1 else NO_TIMESTAMP
    topic_id = _topic_id(raw, reader.position) if flexible else None
    return OffsetValue(offset, leader_epoch, metadata, commit_timestamp_ms, expire_timestamp_ms, topic_id)


def _decode_offset_value_4(raw: bytes) -> OffsetValue:
    """By hand, for metadata below 127 bytes: what nearly every record of the topic is."""
    _, offset, leader_epoch = _OFFSET_HEAD.unpack_from(raw)
    end = 14 + raw[14]
    try:
        (commit_timestamp_ms,) = _TIMESTAMP.unpack_from(raw, end)
        metadata = raw[15:end].decode() if end >= 15 else None
    except (struct.error, UnicodeDecodeError) as error:
        raise Corrupt(f"offset commit value of {len(raw)} bytes does not hold its metadata and time") from error
    if metadata is None:
        raise Corrupt("offset commit value without metadata")
    topic_id = _topic_id(raw, end + 8)
    return OffsetValue(offset, leader_epoch, metadata, commit_timestamp_ms, NO_TIMESTAMP, topic_id)


def _topic_id(raw: bytes, position: int) -> UUID | None:
    tail = raw[position:]
    if tail == b"\x00":
        return None
    if len(tail) == 19 and tail.startswith(b"\x01\x00\x10"):
        return _shared_uuid(tail[3:])
    tagged = Reader(raw, position).tagged_fields().get(0)
    return None if tagged is None else _shared_uuid(tagged)


@lru_cache(maxsize=1024)
def _shared_uuid(raw: bytes) -> UUID | None:
    """One object for all partitions of a topic; None for the nil id."""
    if len(raw) != 16:
        raise Corrupt(f"topic id of {len(raw)} bytes")
    return None if raw == NIL_UUID.bytes else UUID(bytes=raw)


def encode_group_value(value: GroupValue, version: int = 3) -> bytes:
    flexible = version >= 4
    writer = Writer(version)
    writer.string(value.protocol_type, flexible)
    writer.i32(value.generation)
    writer.string(value.protocol, flexible)
    writer.string(value.leader, flexible)
    if version >= 2:
        writer.i64(value.state_timestamp_ms)
    writer.array_length(len(value.members), flexible)
    for member in value.members:
        writer.string(member.member_id, flexible)
        if version >= 3:
            writer.string(member.group_instance_id, flexible)
        writer.string(member.client_id, flexible)
        writer.string(member.client_host, flexible)
        if version >= 1:
            writer.i32(member.rebalance_timeout_ms)
        writer.i32(member.session_timeout_ms)
        writer.blob(member.subscription, flexible)
        writer.blob(member.assignment, flexible)
        if flexible:
            writer.uvarint(0)
    if flexible:
        writer.uvarint(0)
    return writer.finish()


def decode_group_value(raw: bytes) -> GroupValue:
    """Corrupt for a version above 4 or bytes that do not follow it. Without a rebalance timeout: the session's."""
    reader = Reader(raw)
    version = reader.i16()
    if not 0 <= version <= 4:
        raise Corrupt(f"group metadata value version {version}; 0 to 4 are known")
    flexible = version >= 4
    protocol_type = reader.string(flexible)
    generation = reader.i32()
    protocol = reader.nullable_string(flexible)
    leader = reader.nullable_string(flexible)
    state_timestamp_ms = reader.i64() if version >= 2 else NO_TIMESTAMP
    members = tuple(_decode_member(reader, version) for _ in range(reader.array_length(flexible)))
    if flexible:
        reader.tagged_fields()
    return GroupValue(protocol_type, generation, protocol, leader, state_timestamp_ms, members)


def _decode_member(reader: Reader, version: int) -> MemberValue:
    flexible = version >= 4
    member_id = reader.string(flexible)
    instance_id = reader.nullable_string(flexible) if version >= 3 else None
    client_id = reader.string(flexible)
    client_host = reader.string(flexible)
    rebalance_timeout_ms = reader.i32() if version >= 1 else -1
    session_timeout_ms = reader.i32()
    if rebalance_timeout_ms == -1:
        rebalance_timeout_ms = session_timeout_ms
    subscription = reader.blob(flexible)
    assignment = reader.blob(flexible)
    if flexible:
        reader.tagged_fields()
    return MemberValue(
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms,
        session_timeout_ms,
        subscription,
        assignment,
    )
