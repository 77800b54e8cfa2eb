"""Varints as Kafka writes them: unsigned in messages (KIP-482), zigzag in records."""

from __future__ import annotations

from typing import Final

from protocol.errors import MalformedRequest

UINT32_MAX: Final = 0xFFFF_FFFF
UINT64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF


def read_uvarint(buf: bytes | memoryview, pos: int) -> tuple[int, int]:
    """The unsigned 32-bit varint at `pos` and the position after it.

    Five bytes at most, as Kafka's `ByteUtils.readUnsignedVarint`. Raises MalformedRequest for a longer or larger one,
    IndexError where the buffer ends first.
    """
    byte = buf[pos]
    if byte < 0x80:
        return byte, pos + 1
    value = shift = 0
    while True:
        byte = buf[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > UINT32_MAX:
                raise MalformedRequest(f"varint of at most 32 bits expected, got {value}")
            return value, pos
        shift += 7
        if shift > 28:
            raise MalformedRequest("varint of at most 5 bytes expected, got a longer one")


def read_varlong(buf: bytes | memoryview, pos: int) -> tuple[int, int]:
    """The zigzag varint of at most 64 bits at `pos` and the position after it.

    Ten bytes at most, as Kafka's `ByteUtils.readVarlong`; Kafka reads 32-bit fields the same way, so callers check the
    range of lengths and counts. Raises MalformedRequest for a longer or larger one, IndexError where the buffer ends.
    """
    byte = buf[pos]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), pos + 1
    value = shift = 0
    while True:
        byte = buf[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > UINT64_MAX:
                raise MalformedRequest(f"varint of at most 64 bits expected, got {value}")
            return (value >> 1) ^ -(value & 1), pos
        shift += 7
        if shift > 63:
            raise MalformedRequest("varint of at most 10 bytes expected, got a longer one")


def varlong(value: int) -> bytes:
    """The zigzag varint of a signed 64-bit number. Raises ValueError outside."""
    if -64 <= value < 64:
        return _SINGLE[(value << 1) ^ (value >> 63)]
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"signed 64-bit number expected, got {value}")
    zigzag = (value << 1) ^ (value >> 63)
    out = bytearray()
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def uvarint(value: int) -> bytes:
    """The unsigned varint of `value`, 0 to 2**32 - 1. Raises ValueError outside."""
    if 0 <= value < 0x80:
        return _SINGLE[value]
    if not 0 <= value <= UINT32_MAX:
        raise ValueError(f"value from 0 to {UINT32_MAX} expected, got {value}")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SINGLE: Final = tuple(bytes((value,)) for value in range(0x80))
