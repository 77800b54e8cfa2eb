"""Record batches built byte by byte (valid and broken), message sets of magic 0 and 1, and batch headers read back."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import cramjam
import crc32c

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TIMESTAMP_MS = 1_700_000_000_000
HEADER = struct.Struct(">qiibIhiqqqhii")  # base offset ... record count: 61 bytes

Record = tuple[bytes | None, bytes | None]


def varint(value: int) -> bytes:
    """Zigzag varint."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value & ~0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def record(
    delta: int,
    key: bytes | None,
    value: bytes | None,
    *,
    timestamp_delta: int = 0,
    headers: Sequence[Record] = (),
) -> bytes:
    """One record of format 2."""
    body = b"\0" + varint(timestamp_delta) + varint(delta) + _bytes(key) + _bytes(value) + varint(len(headers))
    for name, data in headers:
        body += _bytes(name) + _bytes(data)
    return varint(len(body)) + body


def compress(codec: str, data: bytes) -> bytes:
    """`data` in Kafka's framing of the codec."""
    if codec == "gzip":
        return bytes(cramjam.gzip.compress(data))
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(data))
    if codec == "lz4":
        # Kafka reads only frames whose blocks are independent.
        compressor = cramjam.lz4.Compressor(content_checksum=False, block_linked=False)
        compressor.compress(data)
        return bytes(compressor.finish())
    if codec == "zstd":
        return bytes(cramjam.zstd.compress(data))
    return data


def batch(
    records: Sequence[Record] = ((b"k", b"v"),),
    *,
    codec: str = "none",
    base_offset: int = 0,
    leader_epoch: int = -1,
    magic: int = 2,
    attributes: int | None = None,
    base_timestamp: int = TIMESTAMP_MS,
    max_timestamp: int | None = None,
    timestamp_step: int = 1,
    last_offset_delta: int | None = None,
    producer_id: int = -1,
    producer_epoch: int = -1,
    sequence: int = -1,
    count: int | None = None,
    crc: int | None = None,
    length: int | None = None,
    raw: bytes | None = None,
) -> bytes:
    """One batch; every field of the header can be set to something that is not so."""
    body = raw
    if body is None:
        body = b"".join(
            record(i, key, value, timestamp_delta=i * timestamp_step) for i, (key, value) in enumerate(records)
        )
        body = compress(codec, body)
    last = len(records) - 1
    tail = struct.pack(
        ">hiqqqhii",
        CODECS[codec] if attributes is None else attributes,
        last if last_offset_delta is None else last_offset_delta,
        base_timestamp,
        base_timestamp + max(0, last) * timestamp_step if max_timestamp is None else max_timestamp,
        producer_id,
        producer_epoch,
        sequence,
        len(records) if count is None else count,
    )
    checksum = crc32c.crc32c(tail + body) if crc is None else crc
    rest = struct.pack(">ibI", leader_epoch, magic, checksum) + tail + body
    return struct.pack(">qi", base_offset, len(rest) if length is None else length) + rest


def message_set(
    magic: int, key: bytes | None = b"k", value: bytes | None = b"v", *, timestamp: int = TIMESTAMP_MS
) -> bytes:
    """One message of the formats before batches (magic 0 and 1)."""

    def field(data: bytes | None) -> bytes:
        return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data

    body = struct.pack(">bb", magic, 0)
    if magic == 1:
        body += struct.pack(">q", timestamp)
    body += field(key) + field(value)
    body = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(body)) + body


def headers(records: bytes | None) -> list[dict[str, Any]] | None:
    """The header fields of each whole batch in a Fetch answer; a partial one at the end is left out."""
    if records is None:
        return None
    found = []
    position = 0
    while position + HEADER.size <= len(records):
        names = (
            "base_offset",
            "length",
            "leader_epoch",
            "magic",
            "crc",
            "attributes",
            "last_offset_delta",
            "base_timestamp",
            "max_timestamp",
            "producer_id",
            "producer_epoch",
            "base_sequence",
            "records",
        )
        fields = dict(zip(names, HEADER.unpack_from(records, position), strict=True))
        end = position + 12 + fields["length"]
        if end > len(records):
            break
        fields["crc"] = "good" if crc32c.crc32c(records[position + 21 : end]) == fields["crc"] else "BAD"
        fields["data"] = records[position + HEADER.size : end].hex()[:400]
        found.append(fields)
        position = end
    return found
