"""Records inside a batch: written for internal topics and tests, read where a record itself matters.

Record (KIP-98): length, attributes i8, timestamp delta, offset delta, key length, key, value length, value, header
count, then per header key length, key, value length, value. All numbers but the attributes are zigzag varints, length
-1 is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from crc32c import crc32c

from protocol import compression
from protocol.errors import ErrorCode, MalformedRequest
from protocol.record_batch import (
    ATTRIBUTES_AT,
    CODEC_NONE,
    CODEC_ZSTD,
    CONTROL,
    HEADER,
    HEADER_BYTES,
    LENGTH_END,
    MAGIC,
    NO_TIMESTAMP,
    TRANSACTIONAL,
    BatchHeader,
    InvalidBatch,
    batch_size_bytes,
    parse_batch_header,
    set_max_timestamp,
)
from protocol.varint import read_varlong, varlong

_CRC_SIZE_BYTES: Final = 4
_CRC_AT: Final = 17


class Record(NamedTuple):
    """One record. Header keys that are not UTF-8 survive as surrogate escapes. `offset` is set in records that were
    read and is ignored in records to be written."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = NO_TIMESTAMP
    offset: int = -1


def encode_batch(
    records: Sequence[Record],
    codec: int = CODEC_NONE,
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
    level: int | None = None,
) -> bytearray:
    """One batch of one or more records at consecutive offsets, CRC included; `level` as in `compression.compress`.
    Raises ValueError."""
    if not records:
        raise ValueError("one or more records expected, got none")
    if not CODEC_NONE <= codec <= CODEC_ZSTD:
        raise ValueError(f"codec 0 to {CODEC_ZSTD} expected, got {codec}")
    base_timestamp = records[0].timestamp_ms
    body = bytearray()
    for delta, record in enumerate(records):
        encoded = _encode_record(record, delta, record.timestamp_ms - base_timestamp)
        body += varlong(len(encoded))
        body += encoded
    payload = compression.compress(codec, body, level) if codec else body
    attributes = codec | (TRANSACTIONAL if transactional else 0) | (CONTROL if control else 0)
    batch = bytearray(
        HEADER.pack(
            base_offset,
            HEADER_BYTES - LENGTH_END + len(payload),
            leader_epoch,
            MAGIC,
            0,
            attributes,
            len(records) - 1,
            base_timestamp,
            max(record.timestamp_ms for record in records),
            producer_id,
            producer_epoch,
            base_sequence,
            len(records),
        )
    )
    batch += payload
    crc = crc32c(memoryview(batch)[ATTRIBUTES_AT:])
    batch[_CRC_AT : _CRC_AT + _CRC_SIZE_BYTES] = crc.to_bytes(_CRC_SIZE_BYTES, "big")
    return batch


def _encode_record(record: Record, offset_delta: int, timestamp_delta: int) -> bytearray:
    out = bytearray(1)  # attributes, none of which is in use
    out += varlong(timestamp_delta)
    out += varlong(offset_delta)
    _append_bytes(out, record.key)
    _append_bytes(out, record.value)
    out += varlong(len(record.headers))
    for key, value in record.headers:
        _append_bytes(out, key.encode("utf-8", "surrogateescape"))
        _append_bytes(out, value)
    return out


def _append_bytes(out: bytearray, data: bytes | None) -> None:
    if data is None:
        out.append(1)
    else:
        out += varlong(len(data))
        out += data


def iter_batches(data: memoryview) -> Iterator[memoryview]:
    """The whole batches of a concatenation, as views. Raises InvalidBatch(CORRUPT_MESSAGE) at a torn one."""
    pos = 0
    while pos < len(data):
        size = batch_size_bytes(data, pos)
        if size > len(data) - pos:
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch of {size} bytes expected, got {len(data) - pos}")
        yield data[pos : pos + size]
        pos += size


def iter_records(
    batch: memoryview, *, max_decompressed_bytes: int = compression.MAX_DECOMPRESSED_BYTES
) -> Iterator[Record]:
    """The records of one whole batch, lazily; keys and values are copies. The CRC is not checked here.

    Raises InvalidBatch: CORRUPT_MESSAGE for anything that is not `record_count` whole records, MESSAGE_TOO_LARGE if
    they decompress to more than allowed.
    """
    header = parse_batch_header(batch)
    # Indexing and slicing bytes costs half of what a memoryview takes, more than this copy.
    body = bytes(_body(batch, header, max_decompressed_bytes))
    append_time_ms = header.max_timestamp if header.is_log_append_time else None
    pos = 0
    for _ in range(header.record_count):
        try:
            size, pos = read_varlong(body, pos)
            end = pos + size
            if size < 0 or end > len(body):
                raise MalformedRequest(f"record of {size} bytes expected, got {len(body) - pos}")
            record, pos = _read_record(body, pos + 1, end, header, append_time_ms)
        except (IndexError, MalformedRequest) as error:
            raise _torn(error) from None
        if pos != end:
            raise _torn(f"record that ends at {end} expected, got {pos}")
        yield record
    if pos != len(body):
        raise _torn(f"records of {pos} bytes expected, got {len(body)}")


def _read_record(
    body: bytes, pos: int, end: int, header: BatchHeader, append_time_ms: int | None
) -> tuple[Record, int]:
    timestamp_delta, pos = read_varlong(body, pos)
    offset_delta, pos = read_varlong(body, pos)
    key, pos = _read_bytes(body, pos, end)
    value, pos = _read_bytes(body, pos, end)
    count, pos = read_varlong(body, pos)
    headers: list[tuple[str, bytes | None]] = []
    if not 0 <= count <= end - pos:
        raise MalformedRequest(f"0 to {end - pos} headers expected, got {count}")
    for _ in range(count):
        name, pos = _read_bytes(body, pos, end)
        if name is None:
            raise MalformedRequest("header key expected, got null")
        data, pos = _read_bytes(body, pos, end)
        headers.append((name.decode("utf-8", "surrogateescape"), data))
    timestamp_ms = header.base_timestamp + timestamp_delta if append_time_ms is None else append_time_ms
    return Record(key, value, tuple(headers), timestamp_ms, header.base_offset + offset_delta), pos


def _read_bytes(body: bytes, pos: int, end: int) -> tuple[bytes | None, int]:
    size, pos = read_varlong(body, pos)
    if size < 0:
        if size == -1:
            return None, pos
        raise MalformedRequest(f"length from -1 expected, got {size}")
    stop = pos + size
    if stop > end:
        raise MalformedRequest(f"{size} bytes expected, got {end - pos}")
    return body[pos:stop], stop


def repair_max_timestamp(batch: memoryview, *, max_decompressed_bytes: int = compression.MAX_DECOMPRESSED_BYTES) -> int:
    """Writes the largest record timestamp of a writable batch into its header, with the new CRC, and returns it.

    For batches whose `max_timestamp_is_unset`. Reads only lengths and timestamps; a compressed batch is decompressed.
    Raises InvalidBatch as `iter_records`.
    """
    header = parse_batch_header(batch)
    body = _body(batch, header, max_decompressed_bytes)
    largest = NO_TIMESTAMP
    pos = 0
    try:
        for _ in range(header.record_count):
            size, pos = read_varlong(body, pos)
            delta, after = read_varlong(body, pos + 1)
            pos += size
            if after > pos or pos > len(body):
                raise MalformedRequest(f"record of {size} bytes expected")
            largest = max(largest, header.base_timestamp + delta)
    except (IndexError, MalformedRequest) as error:
        raise _torn(error) from None
    set_max_timestamp(batch, largest)
    return largest


def _body(batch: memoryview, header: BatchHeader, max_decompressed_bytes: int) -> memoryview:
    if header.magic != MAGIC or header.size_bytes != len(batch) or header.record_count < 0:
        raise _torn(f"one whole batch of magic {MAGIC} expected, got {header}")
    body = batch[HEADER_BYTES:]
    return compression.decompress(header.codec, body, max_decompressed_bytes) if header.codec else body


def _torn(reason: object) -> InvalidBatch:
    return InvalidBatch(ErrorCode.CORRUPT_MESSAGE, str(reason))
