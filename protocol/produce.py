"""Produce, the hot path: requests parsed without copying a record, responses written by hand.

Versions 3 to 13: flexible from 9, topics by id instead of name from 13. Equal to kio for every version, as the tests
prove. *Measured* costs are in README.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from protocol.errors import MalformedRequest, UnsupportedVersion
from protocol.headers import skip_tagged_fields
from protocol.node_endpoints import NodeEndpoint, compact_string, node_endpoints_tag
from protocol.varint import read_uvarint, uvarint

API_KEY: Final = 0
MIN_VERSION: Final = 3
MAX_VERSION: Final = 13
_FLEXIBLE_FROM: Final = 9
_TOPIC_ID_FROM: Final = 13

RequestPartition: TypeAlias = tuple[int, memoryview | None]
"""(partition index, records: a slice of the request's buffer, writable if that is; None for null)."""
RequestTopic: TypeAlias = tuple[str | bytes, list[RequestPartition]]
"""(topic name, or from version 13 the topic id's 16 bytes, partitions)."""


_new_tuple = tuple.__new__  # a NamedTuple's own constructor is Python


class ProduceRequest(NamedTuple):
    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[RequestTopic]


def parse_produce_request(version: int, buf: memoryview, offset: int) -> ProduceRequest:
    """The Produce request body at `buf[offset:]`. Its records are views of `buf`, never copies; what follows it is not
    looked at, as in Kafka.

    Raises MalformedRequest for anything else, UnsupportedVersion.
    """
    if not MIN_VERSION <= version <= MAX_VERSION:
        raise UnsupportedVersion(f"Produce version {MIN_VERSION} to {MAX_VERSION} expected, got {version}")
    try:
        if version >= _FLEXIBLE_FROM:
            return _parse_flexible(version, buf, offset)
        return _parse_legacy(buf, offset)
    except (struct.error, IndexError):
        raise MalformedRequest(f"Produce version {version}: more than {len(buf) - offset} bytes expected") from None
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"Produce version {version}: {error}") from None


_INT16: Final = struct.Struct(">h").unpack_from
_INT32: Final = struct.Struct(">i").unpack_from
_ACKS_TIMEOUT: Final = struct.Struct(">hi").unpack_from
_ACKS_TIMEOUT_COUNT: Final = struct.Struct(">hii").unpack_from
_INDEX_SIZE: Final = struct.Struct(">ii").unpack_from


def _parse_legacy(buf: memoryview, pos: int) -> ProduceRequest:
    end = len(buf)
    (size,) = _INT16(buf, pos)
    pos += 2
    transactional_id = None
    if size >= 0:
        transactional_id, pos = _text(buf, pos, size)
    acks, timeout_ms, topic_count = _ACKS_TIMEOUT_COUNT(buf, pos)
    pos += 10
    _check_count("topics", topic_count, end - pos)
    topics: list[RequestTopic] = []
    for _ in range(topic_count):
        (size,) = _INT16(buf, pos)
        if size < 0:
            raise MalformedRequest(f"length of topic name from 0 expected, got {size}")
        name, pos = _text(buf, pos + 2, size)
        (partition_count,) = _INT32(buf, pos)
        pos += 4
        _check_count("partitions", partition_count, end - pos)
        partitions: list[RequestPartition] = []
        for _ in range(partition_count):
            index, size = _INDEX_SIZE(buf, pos)
            pos += 8
            if size >= 0:
                stop = pos + size
                if stop > end:
                    raise MalformedRequest(f"records of {size} bytes expected, got {end - pos}")
                partitions.append((index, buf[pos:stop]))
                pos = stop
            else:
                partitions.append((index, None))
        topics.append((name, partitions))
    return ProduceRequest(transactional_id, acks, timeout_ms, topics)


def _parse_flexible(version: int, buf: memoryview, pos: int) -> ProduceRequest:
    # Counts and lengths are stored plus one, 0 is null. Almost all of them, and every tag count, are one byte.
    end = len(buf)
    transactional_id = None
    if buf[pos]:
        size, pos = read_uvarint(buf, pos)
        transactional_id, pos = _text(buf, pos, size - 1)
    else:
        pos += 1
    acks, timeout_ms = _ACKS_TIMEOUT(buf, pos)
    topic_count = buf[pos + 6]
    pos += 7
    if topic_count > 0x7F:
        topic_count, pos = read_uvarint(buf, pos - 1)
    _check_count("topics", topic_count - 1, end - pos)
    topics: list[RequestTopic] = []
    for _ in range(topic_count - 1):
        topic: str | bytes
        if version >= _TOPIC_ID_FROM:
            topic = bytes(buf[pos : pos + 16])
            pos += 16
        else:
            size = buf[pos]
            pos += 1
            if size > 0x7F:
                size, pos = read_uvarint(buf, pos - 1)
            topic, pos = _text(buf, pos, size - 1)
        partition_count = buf[pos]
        pos += 1
        if partition_count > 0x7F:
            partition_count, pos = read_uvarint(buf, pos - 1)
        _check_count("partitions", partition_count - 1, end - pos)
        partitions: list[RequestPartition] = []
        for _ in range(partition_count - 1):
            (index,) = _INT32(buf, pos)
            size = buf[pos + 4]
            pos += 5
            if size > 0x7F:
                more = buf[pos]
                pos += 1
                if more > 0x7F:
                    size, pos = read_uvarint(buf, pos - 2)
                else:
                    size = size & 0x7F | more << 7
            if size:
                stop = pos + size - 1
                if stop >= end:
                    raise MalformedRequest(f"records of {size - 1} bytes expected, got {end - pos}")
                partitions.append((index, buf[pos:stop]))
                pos = stop
            else:
                partitions.append((index, None))
            pos = skip_tagged_fields(buf, pos) if buf[pos] else pos + 1
        pos = skip_tagged_fields(buf, pos) if buf[pos] else pos + 1
        topics.append((topic, partitions))
    if buf[pos]:
        skip_tagged_fields(buf, pos)
    return _new_tuple(ProduceRequest, (transactional_id, acks, timeout_ms, topics))


def _text(buf: memoryview, pos: int, size: int) -> tuple[str, int]:
    if size < 0:
        raise MalformedRequest("string expected, got null")
    end = pos + size
    if end > len(buf):
        raise MalformedRequest(f"string of {size} bytes expected, got {len(buf) - pos}")
    return str(buf[pos:end], "utf-8"), end


def _check_count(name: str, count: int, remaining_bytes: int) -> None:
    # An item takes a byte at least, so a hostile count is refused before anything is allocated for it.
    if not 0 <= count <= remaining_bytes:
        raise MalformedRequest(f"0 to {remaining_bytes} {name} expected, got {count}")


ResponsePartition: TypeAlias = tuple[
    int, int, int, int, int, Sequence[tuple[int, str | None]], str | None, tuple[int, int] | None
]
"""(index, error code, base offset, log append time in ms or -1, log start offset, record errors: (batch index,
message), error message, current leader: (id, leader epoch) if the client should learn it)."""
ResponseTopic: TypeAlias = tuple[str | None, bytes | None, Sequence[ResponsePartition | bytes]]
"""(name: versions up to 12, topic id's 16 bytes: version 13, partitions: in bytes those of `encode_accepted`)."""
_PARTITION: Final = struct.Struct(">ihqq").pack
_PARTITION_5: Final = struct.Struct(">ihqqq").pack
_PARTITION_8: Final = struct.Struct(">ihqqqih").pack
_PARTITION_9: Final = struct.Struct(">ihqqqBBB").pack
_SIZE_CORRELATION: Final = struct.Struct(">ii").pack
_THROTTLE: Final = struct.Struct(">i").pack
_COUNT: Final = struct.Struct(">i").pack
_LENGTH: Final = struct.Struct(">h").pack
_LEADER: Final = struct.Struct(">ii").pack
_END_OF_ONE: Final = struct.Struct(">BiB").pack


def encode_accepted(version: int, index: int, base_offset: int, append_time_ms: int, start_offset: int) -> bytes:
    """A partition whose batch was taken, as it stands in a response of this version: without error and record errors.
    `append_time_ms` is -1 for CreateTime topics."""
    if version >= _FLEXIBLE_FROM:
        return _PARTITION_9(index, 0, base_offset, append_time_ms, start_offset, 1, 0, 0)
    if version >= 8:
        return _PARTITION_8(index, 0, base_offset, append_time_ms, start_offset, 0, -1)
    if version >= 5:
        return _PARTITION_5(index, 0, base_offset, append_time_ms, start_offset)
    return _PARTITION(index, 0, base_offset, append_time_ms)


def accepted_index(partition: bytes) -> int:
    """The partition index in what `encode_accepted` made."""
    (index,) = _INT32(partition)
    return int(index)


def encode_produce_response(
    version: int,
    correlation_id: int,
    topics: Sequence[ResponseTopic],
    throttle_ms: int = 0,
    node_endpoints: Sequence[NodeEndpoint] = (),
) -> bytes:
    """A whole response frame: 4-byte size, header, body, less what `version` lacks. Raises UnsupportedVersion."""
    if len(topics) == 1 and _FLEXIBLE_FROM <= version <= MAX_VERSION and not node_endpoints:
        ((name, topic_id, partitions),) = topics
        if len(partitions) == 1:
            (partition,) = partitions
            if isinstance(partition, bytes):
                body = b"\x00\x02" + _compact_topic(version, name, topic_id) + b"\x02" + partition
                return _SIZE_CORRELATION(10 + len(body), correlation_id) + body + _END_OF_ONE(0, throttle_ms, 0)
    return _encode_any(version, correlation_id, topics, throttle_ms, node_endpoints)


def _encode_any(
    version: int,
    correlation_id: int,
    topics: Sequence[ResponseTopic],
    throttle_ms: int,
    node_endpoints: Sequence[NodeEndpoint],
) -> bytes:
    if not MIN_VERSION <= version <= MAX_VERSION:
        raise UnsupportedVersion(f"Produce version {MIN_VERSION} to {MAX_VERSION} expected, got {version}")
    if version < _FLEXIBLE_FROM:
        body = _legacy_body(version, topics, throttle_ms)
        return _SIZE_CORRELATION(4 + len(body), correlation_id) + body
    out = bytearray(uvarint(len(topics) + 1))
    for name, topic_id, partitions in topics:
        out += _compact_topic(version, name, topic_id)
        out += uvarint(len(partitions) + 1)
        for partition in partitions:
            if isinstance(partition, bytes):
                out += partition
            else:
                _append_flexible_partition(out, version, partition)
        out.append(0)
    out += _THROTTLE(throttle_ms)
    out += node_endpoints_tag(node_endpoints) if node_endpoints and version >= 10 else b"\x00"
    return _SIZE_CORRELATION(5 + len(out), correlation_id) + b"\x00" + out


def _legacy_body(version: int, topics: Sequence[ResponseTopic], throttle_ms: int) -> bytearray:
    out = bytearray(_COUNT(len(topics)))
    for name, _topic_id, partitions in topics:
        encoded = _required(name).encode()
        out += _LENGTH(len(encoded)) + encoded + _COUNT(len(partitions))
        for partition in partitions:
            if isinstance(partition, bytes):
                out += partition
                continue
            index, error, base_offset, append_time_ms, start_offset, errors, message, _leader = partition
            if version < 5:
                out += _PARTITION(index, error, base_offset, append_time_ms)
                continue
            out += _PARTITION_5(index, error, base_offset, append_time_ms, start_offset)
            if version >= 8:
                out += _COUNT(len(errors))
                for batch_index, text in errors:
                    out += _COUNT(batch_index) + _nullable_string(text)
                out += _nullable_string(message)
    out += _THROTTLE(throttle_ms)
    return out


def _append_flexible_partition(out: bytearray, version: int, partition: ResponsePartition) -> None:
    index, error, base_offset, append_time_ms, start_offset, errors, message, leader = partition
    out += _PARTITION_5(index, error, base_offset, append_time_ms, start_offset)
    out += uvarint(len(errors) + 1)
    for batch_index, text in errors:
        out += _COUNT(batch_index) + compact_string(text) + b"\x00"
    out += compact_string(message)
    if leader is None or leader == (-1, -1) or version < 10:
        out.append(0)
    else:
        # One tag: number 0, 9 bytes, with an empty tagged section of its own.
        out += b"\x01\x00\x09" + _LEADER(*leader) + b"\x00"


def _compact_topic(version: int, name: str | None, topic_id: bytes | None) -> bytes:
    if version >= _TOPIC_ID_FROM:
        if topic_id is None or len(topic_id) != 16:
            raise ValueError(f"topic id of 16 bytes expected, got {topic_id!r}")
        return topic_id
    return compact_string(_required(name))


def _required(name: str | None) -> str:
    if name is None:
        raise ValueError("topic name expected, got None")
    return name


def _nullable_string(text: str | None) -> bytes:
    if text is None:
        return b"\xff\xff"
    encoded = text.encode()
    return _LENGTH(len(encoded)) + encoded
