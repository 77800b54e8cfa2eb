"""The bytes of a WAL segment file: one segment header, then frames. This docstring is the specification.

All integers are big-endian. Everything begins at a multiple of 8; the bytes between the end of a payload and the next
multiple of 8 are of any content and covered by no checksum.

Segment header, 48 bytes, at offset 0; written together with the first frames of the segment:

    0   4  magic "WSEG"
    4   1  version, 1
    5   1  flags: 1 SEALED (the epoch's SEAL was durable when this header was written)
    6   2  zero
    8   8  segment number
    16  8  WAL epoch
    24  8  first LSN: the LSN of the first frame of this segment
    32  8  epoch first LSN: the LSN of the first frame of the WAL epoch
    40  4  zero
    44  4  CRC-32C of bytes [0, 44)

Frame header, 88 bytes, then the payload:

    0   4  magic "WFRM"
    4   1  version, 1
    5   1  flags: 1 SEAL (the rewrite at the start of the epoch is complete; no payload), 2 REWRITTEN (a survivor of
           an earlier epoch)
    6   2  zero
    8   4  segment number, its low 32 bits: a stale frame in a recycled file cannot pass for one of this segment
    12  8  WAL epoch
    20  8  durable LSN: the highest LSN of this epoch that was known durable when this frame was written, 0 for none.
           It may be lower than what was known: it is a claim, used as evidence in recovery
    28  4  payload length in bytes
    32  8  LSN
    40  8  previous LSN: that of the frame before in this epoch, 0 for the first frame of the epoch
    48  8  stream id
    56  8  base offset
    64  8  max timestamp, milliseconds, signed
    72  4  stream epoch
    76  4  record count
    80  4  CRC-32C of the payload
    84  4  CRC-32C of bytes [0, 84)

Every version keeps magic, version and checksums of the two headers where they are, and the sizes of the headers.
The header has a checksum of its own, over that of the payload: a header that verifies tells the truth even if the
payload behind it was torn off. No frame lies in two segments.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from crc32c import crc32c
from typing_extensions import Buffer

from s3stream.errors import Corrupt

MAGIC: Final = b"WFRM"
SEGMENT_MAGIC = b"WSEG"
VERSION: Final = 1
SEAL: Final = 1
REWRITTEN: Final = 2
SEALED: Final = 1
ALIGNMENT: Final = 8
FRAME_HEADER_SIZE: Final = 88
SEGMENT_HEADER_SIZE: Final = 48

_HEAD = struct.Struct(">4sBBHIQQIQQQQqIII")
_WHOLE_HEAD = struct.Struct(">4sBBHIQQIQQQQqIIII")
_CRC = struct.Struct(">I")
_GROUP_PART = struct.Struct(">4sBBHIQQ")
_FRAME_PART = struct.Struct(">IQQQQqIII")
_SEGMENT_HEAD = struct.Struct(">4sBBHQQQQI")
_U32 = 0xFFFFFFFF


class NewerFormat(Corrupt):
    """Whole bytes of a version or with flags that this release does not know: never to be taken for a torn write."""


class FrameHeader(NamedTuple):
    """A frame header that verified, without magic and version."""

    flags: int
    segment: int
    wal_epoch: int
    durable_lsn: int
    length: int
    lsn: int
    previous_lsn: int
    stream_id: int
    base_offset: int
    max_timestamp_ms: int
    stream_epoch: int
    record_count: int
    payload_crc: int


class SegmentHeader(NamedTuple):
    """A segment header that verified."""

    sealed: bool
    number: int
    wal_epoch: int
    first_lsn: int
    epoch_first_lsn: int


def frame_size(payload_length: int) -> int:
    """Bytes from the start of a frame to the start of the next one."""
    return (FRAME_HEADER_SIZE + payload_length + ALIGNMENT - 1) & -ALIGNMENT


pack_frame_part = _FRAME_PART.pack
"""Bytes [28, 84) of a frame header: length, LSN, previous LSN, stream id, base offset, max timestamp, stream epoch,
record count, CRC-32C of the payload."""
pack_crc = _CRC.pack


def encode_group_part(flags: int, segment: int, wal_epoch: int, durable_lsn: int) -> bytes:
    """Bytes [0, 28) of a frame header: what all frames of one group share."""
    return _GROUP_PART.pack(MAGIC, VERSION, flags, 0, segment & _U32, wal_epoch, durable_lsn)


def encode_frame_header(header: FrameHeader) -> bytes:
    """The 88 bytes."""
    head = encode_group_part(*header[:4]) + pack_frame_part(*header[4:])
    return head + pack_crc(crc32c(head))


def claim_durable(head: Buffer, durable_lsn: int) -> bytes:
    """The frame header `head` (88 bytes) with another durable LSN."""
    fields = list(_HEAD.unpack_from(head))
    fields[6] = durable_lsn
    changed = _HEAD.pack(*fields)
    return changed + pack_crc(crc32c(changed))


def decode_frame_header(data: memoryview, offset: int) -> FrameHeader:
    """The header at `offset`. Corrupt, saying what was found, if it does not verify, NewerFormat if it does."""
    head = data[offset : offset + FRAME_HEADER_SIZE]
    if len(head) < FRAME_HEADER_SIZE:
        raise Corrupt(f"{len(head)} bytes are left, a frame header has {FRAME_HEADER_SIZE}")
    magic, version, flags, zero, *fields, expected = _WHOLE_HEAD.unpack(head)
    if magic != MAGIC:
        raise Corrupt(f"expected the magic {MAGIC!r}, found {magic!r}")
    found = crc32c(head[: _HEAD.size])
    if found != expected:
        raise Corrupt(f"the header says its CRC-32C is {expected:08x}, its bytes have {found:08x}")
    if version != VERSION or zero or flags & ~(SEAL | REWRITTEN):
        raise NewerFormat(f"frame version {version} with flags {flags:#x}: written by a newer release")
    return FrameHeader(flags, *fields)


def decode_payload(data: memoryview, offset: int, header: FrameHeader) -> memoryview:
    """The payload of the frame at `offset`. Corrupt, saying what was found, if it does not verify."""
    start = offset + FRAME_HEADER_SIZE
    payload = data[start : start + header.length]
    if len(payload) != header.length:
        raise Corrupt(f"the frame has {header.length} bytes of payload, the segment ends after {len(payload)}")
    found = crc32c(payload)
    if found != header.payload_crc:
        raise Corrupt(f"the header says the CRC-32C of the payload is {header.payload_crc:08x}, it is {found:08x}")
    return payload


def encode_segment_header(header: SegmentHeader) -> bytes:
    head = _SEGMENT_HEAD.pack(
        SEGMENT_MAGIC,
        VERSION,
        SEALED if header.sealed else 0,
        0,
        header.number,
        header.wal_epoch,
        header.first_lsn,
        header.epoch_first_lsn,
        0,
    )
    return head + pack_crc(crc32c(head))


def decode_segment_header(data: memoryview) -> SegmentHeader:
    """The header of a segment. Corrupt, saying what was found, if it does not verify."""
    if len(data) < SEGMENT_HEADER_SIZE:
        raise Corrupt(f"{len(data)} bytes are no segment header of {SEGMENT_HEADER_SIZE}")
    magic, version, flags, zero, number, wal_epoch, first_lsn, epoch_first_lsn, rest = _SEGMENT_HEAD.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        raise Corrupt(f"expected the magic {SEGMENT_MAGIC!r}, found {magic!r}")
    (expected,) = _CRC.unpack_from(data, _SEGMENT_HEAD.size)
    found = crc32c(data[: _SEGMENT_HEAD.size])
    if found != expected:
        raise Corrupt(f"the segment header says its CRC-32C is {expected:08x}, its bytes have {found:08x}")
    if version != VERSION or zero or rest or flags & ~SEALED:
        raise NewerFormat(f"segment version {version} with flags {flags:#x}: written by a newer release")
    return SegmentHeader(bool(flags & SEALED), number, wal_epoch, first_lsn, epoch_first_lsn)
