"""Bounded reader and writer of the primitive types of Kafka's record schemas (classic and flexible)."""

from __future__ import annotations

import struct

from s3stream.errors import Corrupt, Invalid

_I16 = struct.Struct(">h")
_I32 = struct.Struct(">i")
_I64 = struct.Struct(">q")
MAX_CLASSIC_STRING_BYTES = 0x7FFF
_SMALL_UVARINTS = tuple(bytes((value,)) for value in range(0x80))


def uvarint(value: int) -> bytes:
    """Unsigned varint, 7 bits per byte, least first."""
    if value < 0x80:
        return _SMALL_UVARINTS[value]
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class Reader:
    """Reads forward over one buffer; anything that does not fit raises Corrupt, nothing is ever over-read."""

    __slots__ = ("_data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self.position = position

    def remaining(self) -> int:
        return len(self._data) - self.position

    def _unpack(self, layout: struct.Struct) -> int:
        try:
            (value,) = layout.unpack_from(self._data, self.position)
        except struct.error as error:
            raise Corrupt(f"{layout.size} bytes expected at {self.position}, {self.remaining()} left") from error
        self.position += layout.size
        return int(value)

    def i16(self) -> int:
        return self._unpack(_I16)

    def i32(self) -> int:
        return self._unpack(_I32)

    def i64(self) -> int:
        return self._unpack(_I64)

    def take(self, length: int) -> bytes:
        if length < 0 or length > self.remaining():
            raise Corrupt(f"length {length} at {self.position}, {self.remaining()} bytes left")
        start = self.position
        self.position += length
        return self._data[start : self.position]

    def uvarint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Corrupt(f"unsigned varint at {self.position} is longer than 5 bytes")

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Corrupt(f"string before {self.position} is not UTF-8") from error

    def nullable_string(self, flexible: bool = False) -> str | None:
        length = self.uvarint() - 1 if flexible else self.i16()
        return None if length == -1 else self._text(self.take(length))

    def string(self, flexible: bool = False) -> str:
        value = self.nullable_string(flexible)
        if value is None:
            raise Corrupt(f"null where a string is required, before {self.position}")
        return value

    def blob(self, flexible: bool = False) -> bytes:
        return self.take(self.uvarint() - 1 if flexible else self.i32())

    def array_length(self, flexible: bool = False) -> int:
        """Never more than the bytes that are left: an element takes at least one."""
        length = self.uvarint() - 1 if flexible else self.i32()
        if length < 0 or length > self.remaining():
            raise Corrupt(f"array of {length} elements in {self.remaining()} bytes")
        return length

    def tagged_fields(self) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for _ in range(self.uvarint()):
            tag = self.uvarint()
            found[tag] = self.take(self.uvarint())
        return found


class Writer:
    """Appends to one growing buffer; a value that its type cannot carry raises Invalid."""

    __slots__ = ("_parts",)

    def __init__(self, version: int) -> None:
        self._parts = bytearray(_I16.pack(version))

    def finish(self) -> bytes:
        return bytes(self._parts)

    def i32(self, value: int) -> None:
        self._parts += _I32.pack(value)

    def i64(self, value: int) -> None:
        self._parts += _I64.pack(value)

    def uvarint(self, value: int) -> None:
        self._parts += uvarint(value)

    def string(self, value: str | None, flexible: bool = False) -> None:
        if value is None:
            self._parts += b"\x00" if flexible else b"\xff\xff"
            return
        raw = value.encode("utf-8", "surrogatepass")
        if flexible:
            self.uvarint(len(raw) + 1)
        elif len(raw) > MAX_CLASSIC_STRING_BYTES:
            raise Invalid(f"string of {len(raw)} bytes; the record format carries {MAX_CLASSIC_STRING_BYTES}")
        else:
            self._parts += _I16.pack(len(raw))
        self._parts += raw

    def blob(self, value: bytes, flexible: bool = False) -> None:
        if flexible:
            self.uvarint(len(value) + 1)
        else:
            self.i32(len(value))
        self._parts += value

    def array_length(self, length: int, flexible: bool = False) -> None:
        if flexible:
            self.uvarint(length + 1)
        else:
            self.i32(length)
