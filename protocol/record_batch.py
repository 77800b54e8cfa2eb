"""RecordBatch v2: views of the 61-byte header, validation of what producers send, offsets assigned in place.

Layout, big-endian (KIP-98; `org.apache.kafka.common.record.DefaultRecordBatch`):

    base_offset i64 | batch_length i32 | partition_leader_epoch i32 | magic i8 | crc u32 | attributes i16 |
    last_offset_delta i32 | base_timestamp i64 | max_timestamp i64 | producer_id i64 | producer_epoch i16 |
    base_sequence i32 | record_count i32 | records

`batch_length` counts what follows it. The CRC-32C covers attributes to the end, so base offset and leader epoch can be
written without touching it. Attributes: bits 0-2 codec, 3 LogAppendTime, 4 transactional, 5 control, 6 delete horizon.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from crc32c import crc32c

from protocol.errors import ErrorCode

HEADER_BYTES: Final = 61
LENGTH_END: Final = 12
"""Bytes in front of what `batch_length` counts."""
LEADER_EPOCH_AT: Final = 12
MAGIC_AT: Final = 16
CRC_AT: Final = 17
ATTRIBUTES_AT: Final = 21
MAX_TIMESTAMP_AT: Final = 35
MAGIC: Final = 2
NO_TIMESTAMP: Final = -1

CODEC_MASK: Final = 0x07
LOG_APPEND_TIME: Final = 0x08
TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20
DELETE_HORIZON: Final = 0x40
_FORBIDDEN: Final = CONTROL | LOG_APPEND_TIME | DELETE_HORIZON  # to producers

CODEC_NONE: Final = 0
CODEC_GZIP: Final = 1
CODEC_SNAPPY: Final = 2
CODEC_LZ4: Final = 3
CODEC_ZSTD: Final = 4
_LEGACY_OVERHEAD_BYTES: Final = 14

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LENGTH: Final = struct.Struct(">i")
_OFFSET: Final = struct.Struct(">q")
_BEGINNING: Final = struct.Struct(">qii")
_CRC: Final = struct.Struct(">I")
_ATTRIBUTES: Final = struct.Struct(">h")
_crc32c: Final = crc32c  # compiled code finds a Final of its own at once, an imported name by its spelling


class InvalidBatch(ValueError):
    """A batch that is refused; `error_code` is what the producer is answered. `by_log` if in Kafka the log refuses it,
    not the request's check before that: then the answer names the log start offset too."""

    def __init__(self, error_code: ErrorCode, message: str, *, by_log: bool = False) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.message = message
        self.by_log = by_log


_new_tuple = tuple.__new__
"""Makes a NamedTuple in one call of C; its own constructor is Python and costs a third of a microsecond more."""


class BatchHeader(NamedTuple):
    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """Size of the whole batch."""
        return self.batch_length + LENGTH_END

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def codec(self) -> int:
        """0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        return self.attributes & LOG_APPEND_TIME != 0

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL != 0

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL != 0

    @property
    def has_delete_horizon(self) -> bool:
        """True if `base_timestamp` is the delete horizon of a compacted log (KIP-534)."""
        return self.attributes & DELETE_HORIZON != 0

    @property
    def max_timestamp_is_unset(self) -> bool:
        """True if the producer left `max_timestamp` out or wrong: sarama always sends -1. Kafka computes it from the
        records; `repair_max_timestamp` of `record_codec.py` does the same."""
        return self.max_timestamp < self.base_timestamp


BatchFields: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
"""The fields of a `BatchHeader` in its order: a plain tuple costs less, and compiled code makes no objects of it."""


def parse_batch_header(batch: bytes | bytearray | memoryview, pos: int = 0) -> BatchHeader:
    """The header at `pos`. Raises InvalidBatch(CORRUPT_MESSAGE) if fewer than 61 bytes are there."""
    if len(batch) - pos < HEADER_BYTES:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch of {HEADER_BYTES} bytes expected, got {len(batch) - pos}")
    return _new_tuple(BatchHeader, HEADER.unpack_from(batch, pos))


def batch_size_bytes(data: bytes | bytearray | memoryview, pos: int = 0) -> int:
    """Size of the whole batch at `pos`, from its first 12 bytes. Raises InvalidBatch(CORRUPT_MESSAGE)."""
    if len(data) - pos < LENGTH_END:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{LENGTH_END} bytes expected, got {len(data) - pos}")
    size: int = _LENGTH.unpack_from(data, pos + 8)[0] + LENGTH_END
    if size < HEADER_BYTES:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch of {HEADER_BYTES} bytes or more expected, got {size}")
    return size


def validate_produce_batch(
    records: memoryview | None, max_batch_bytes: int | None = None, zstd_allowed: bool = True
) -> BatchFields:
    """The header of what a client sent for one partition, which must be exactly one whole, sound batch of magic 2.

    `max_batch_bytes` is the topic's `max.message.bytes`; `zstd_allowed` is False below Produce version 7. Records are
    not looked at. Checks and codes are those of Kafka's `ProduceRequest.validateRecords`, then `UnifiedLog`, then
    `LogValidator`, in their order. Stricter than Kafka in three things that no client does: bytes behind the batch are
    refused, not cut off; a delete horizon is refused; LogAppendTime set by the producer is always INVALID_TIMESTAMP.
    Raises InvalidBatch.
    """
    size = 0 if records is None else len(records)
    if records is None or size < MAGIC_AT + 1:
        raise InvalidBatch(ErrorCode.INVALID_RECORD, f"one record batch expected, got {size} bytes")
    if size < HEADER_BYTES:
        raise _malformed(records)
    header: BatchFields = HEADER.unpack_from(records)
    base_offset, length, _, magic, expected_crc, attributes, last_delta, _, _, producer_id, _, sequence, count = header
    if magic != MAGIC or length != size - LENGTH_END:
        raise _malformed(records)
    if attributes & CODEC_MASK >= CODEC_ZSTD:
        codec = attributes & CODEC_MASK
        if codec > CODEC_ZSTD:
            raise InvalidBatch(ErrorCode.INVALID_RECORD, f"codec 0 to {CODEC_ZSTD} expected, got {codec}", by_log=True)
        if not zstd_allowed:
            raise InvalidBatch(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7 or later")
    if base_offset:
        message = f"base offset 0 expected, got {base_offset}"
        raise InvalidBatch(ErrorCode.INVALID_RECORD, message, by_log=True)
    if max_batch_bytes is not None and size > max_batch_bytes:
        raise InvalidBatch(
            ErrorCode.MESSAGE_TOO_LARGE, f"batch of at most {max_batch_bytes} bytes expected, got {size}"
        )
    crc = _crc32c(records[ATTRIBUTES_AT:])
    if crc != expected_crc:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"CRC-32C {expected_crc:#010x} expected, got {crc:#010x}")
    if count <= 0:
        raise InvalidBatch(ErrorCode.INVALID_RECORD, f"1 or more records expected, got {count}", by_log=True)
    if last_delta != count - 1:
        message = f"last offset delta {count - 1} expected for {count} records, got {last_delta}"
        raise InvalidBatch(ErrorCode.INVALID_RECORD, message, by_log=True)
    if attributes & _FORBIDDEN:
        raise _forbidden_attribute(attributes)
    if sequence < 0 <= producer_id:
        message = f"sequence from 0 expected with producer id {producer_id}, got {sequence}"
        raise InvalidBatch(ErrorCode.INVALID_RECORD, message, by_log=True)
    return header


def _malformed(records: memoryview) -> InvalidBatch:
    """Why `records` (17 bytes or more) is not exactly one batch of magic 2."""
    size = _LENGTH.unpack_from(records, 8)[0] + LENGTH_END
    if size < _LEGACY_OVERHEAD_BYTES + LENGTH_END:
        return InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch length of 14 or more expected, got {size - LENGTH_END}")
    magic = records[MAGIC_AT]
    if magic > MAGIC:
        return InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"magic {MAGIC} expected, got {magic}")
    if size > len(records):
        return InvalidBatch(ErrorCode.INVALID_RECORD, f"batch of {size} bytes expected, got {len(records)}")
    if magic != MAGIC:
        return InvalidBatch(ErrorCode.INVALID_RECORD, f"magic {MAGIC} expected, got {magic}")
    if size < len(records):
        message = f"exactly one batch of {size} bytes expected, got {len(records)} bytes"
        return InvalidBatch(ErrorCode.INVALID_RECORD, message)
    return InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch of {HEADER_BYTES} bytes or more expected, got {size}")


def _forbidden_attribute(attributes: int) -> InvalidBatch:
    if attributes & CONTROL:
        return InvalidBatch(ErrorCode.INVALID_RECORD, "control records cannot be written by clients", by_log=True)
    if attributes & LOG_APPEND_TIME:
        message = "timestamp type LogAppendTime cannot be set by producers"
        return InvalidBatch(ErrorCode.INVALID_TIMESTAMP, message, by_log=True)
    return InvalidBatch(ErrorCode.INVALID_RECORD, "delete horizon cannot be set by producers", by_log=True)


def crc_is_valid(batch: memoryview) -> bool:
    """True if the stored CRC-32C is that of one whole batch."""
    stored: int = _CRC.unpack_from(batch, CRC_AT)[0]
    return bool(crc32c(batch[ATTRIBUTES_AT:]) == stored)


def assign(batch: memoryview, base_offset: int, leader_epoch: int) -> None:
    """Writes base offset and leader epoch into a writable batch, which is one and whole; its CRC stays valid."""
    _BEGINNING.pack_into(batch, 0, base_offset, len(batch) - LENGTH_END, leader_epoch)


def set_log_append_time(batch: memoryview, timestamp_ms: int) -> None:
    """Makes a writable batch one of type LogAppendTime, all its records of `timestamp_ms`; the CRC is written anew."""
    (attributes,) = _ATTRIBUTES.unpack_from(batch, ATTRIBUTES_AT)
    _ATTRIBUTES.pack_into(batch, ATTRIBUTES_AT, attributes | LOG_APPEND_TIME)
    set_max_timestamp(batch, timestamp_ms)


def set_max_timestamp(batch: memoryview, timestamp_ms: int) -> None:
    """Writes `max_timestamp` and the new CRC into a writable batch."""
    _OFFSET.pack_into(batch, MAX_TIMESTAMP_AT, timestamp_ms)
    _CRC.pack_into(batch, CRC_AT, crc32c(batch[ATTRIBUTES_AT:]))
