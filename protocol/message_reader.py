"""Readers of messages: one generated function per struct and version, bytes in, kio's dataclasses out.

kio's own native reader is not used on bytes from the network: it allocates what an array length claims before it looks
at the rest (five bytes end the process), takes null where Kafka forbids it, and refuses unknown tagged fields.
A reader here allocates only for what is there, and raises MalformedRequest, IndexError, struct.error,
UnicodeDecodeError or OverflowError; `read_message` makes all of them MalformedRequest.
"""

from __future__ import annotations

import datetime
import itertools
import struct
import uuid
from collections.abc import Callable
from typing import Any, Final

from protocol.errors import MalformedRequest, error_for_code
from protocol.generated_function import GeneratedFunction
from protocol.message_schema import FIXED_FORMATS, REQUIRED, Field, Message
from protocol.varint import read_uvarint

Reader = Callable[[bytes, int], tuple[Any, int]]
"""(buffer, position) -> (value, position after it)."""


def read_message(reader: Reader, data: bytes, title: str, *, bytes_may_follow: bool = False) -> Any:
    """The value that fills `data` exactly, unless `bytes_may_follow`. Raises MalformedRequest, which names `title`."""
    try:
        value, pos = reader(data, 0)
    except MalformedRequest as error:
        raise MalformedRequest(f"{title}: {error}") from None
    except (IndexError, struct.error):
        raise MalformedRequest(f"{title}: more than {len(data)} bytes expected") from None
    except (UnicodeDecodeError, OverflowError) as error:
        raise MalformedRequest(f"{title}: {error}") from None
    if pos != len(data) and not bytes_may_follow:
        raise MalformedRequest(f"{title}: {pos} bytes expected, got {len(data)}")
    return value


def compile_reader(message: Message) -> Reader:
    """The reader of one struct."""
    out = GeneratedFunction("read(b, p)")
    values: dict[str, str] = {}
    for fixed, group in itertools.groupby(message.ordered, key=lambda field: field.fixed_format is not None):
        if fixed:
            _emit_fixed_run(out, list(group), values)
            continue
        for field in group:
            _emit_field(out, field, message)
            values[field.name] = f"v_{field.name}"
    if message.flexible:
        _emit_tagged_section(out, message, values)
    # A frozen dataclass takes twice as long to make through its constructor as through its slots.
    out.line(f"entity = {out.bind(object.__new__)}({out.bind(message.entity)})")
    for name, value in values.items():
        out.line(f"{out.bind(message.entity.__dict__[name].__set__)}(entity, {value})")
    out.line("return entity, p")
    return out.compile(f"reader of {message.entity.__module__}.{message.entity.__name__}")


def _emit_field(out: GeneratedFunction, field: Field, message: Message) -> None:
    reader = out.bind(_array_reader(field, message) if field.is_array else _value_reader(field, message))
    if field.is_array or field.kind != "string":
        out.line(f"v_{field.name}, p = {reader}(b, p)")
        return
    # Strings that are neither null nor long are read in line.
    if message.flexible:
        out.line("n = b[p]")
        out.line("if 0 < n < 128:")
        start, end = "p + 1", "p + n"
    else:
        out.line("n = b[p] << 8 | b[p + 1]")
        out.line("if n < 32768:")
        start, end = "p + 2", "p + 2 + n"
    out.indent()
    out.line(f"e = {end}")
    out.line("if e > len(b): raise IndexError")
    out.line(f"v_{field.name} = b[{start}:e].decode()")
    out.line("p = e")
    out.dedent()
    out.line(f"else: v_{field.name}, p = {reader}(b, p)")


def _emit_fixed_run(out: GeneratedFunction, fields: list[Field], values: dict[str, str]) -> None:
    layout = struct.Struct(">" + "".join(field.fixed_format or "" for field in fields))
    targets = "".join(f"v_{field.name}, " for field in fields)
    out.line(f"{targets}= {out.bind(layout.unpack_from)}(b, p)")
    out.line(f"p += {layout.size}")
    for field in fields:
        convert = _converter(field.kind)
        values[field.name] = f"{out.bind(convert)}(v_{field.name})" if convert else f"v_{field.name}"


def _emit_tagged_section(out: GeneratedFunction, message: Message, values: dict[str, str]) -> None:
    if not message.tagged:
        out.line(f"p = {out.bind(_skip_tagged_fields)}(b, p) if b[p] else p + 1")
        return
    readers: dict[int, tuple[str, Reader]] = {}
    for field in message.tagged:
        reader = _array_reader(field, message) if field.is_array else _value_reader(field, message)
        readers[field.tag or 0] = (field.name, reader)
    out.line(f"tagged, p = {out.bind(_tagged_fields_reader(readers))}(b, p) if b[p] else ({out.bind({})}, p + 1)")
    for field in message.tagged:
        if field.default is REQUIRED:
            raise TypeError(f"default of tagged field {field.name} expected")
        values[field.name] = f"tagged.get({field.name!r}, {out.bind(field.default)})"


def _tagged_fields_reader(readers: dict[int, tuple[str, Reader]]) -> Reader:
    def read(b: bytes, p: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        count, p = read_uvarint(b, p)
        for _ in range(count):
            tag, p = read_uvarint(b, p)
            size, p = read_uvarint(b, p)
            end = p + size
            if end > len(b):
                raise MalformedRequest(f"tagged field of {size} bytes expected, got {len(b) - p}")
            if tag in readers:
                name, reader = readers[tag]
                found[name], p = reader(b, p)
                if p != end:
                    raise MalformedRequest(f"tagged field {name} of {size} bytes expected, got {size + p - end}")
            p = end
        return found, p

    return read


def _skip_tagged_fields(b: bytes, p: int) -> int:
    return _tagged_fields_reader({})(b, p)[1]


def _array_reader(field: Field, message: Message) -> Reader:
    read_count = _read_compact_count if message.flexible else _read_legacy_count
    fixed = FIXED_FORMATS.get(field.kind)
    convert = _converter(field.kind)
    read_item = None if fixed else _value_reader(field, message, is_item=True)
    item_size_bytes = struct.calcsize(">" + fixed) if fixed else 1

    def read(b: bytes, p: int) -> tuple[tuple[Any, ...] | None, int]:
        count, p = read_count(b, p)
        if count < 0:
            if field.nullable:
                return None, p
            raise MalformedRequest(f"array {field.name} expected, got null")
        if count * item_size_bytes > len(b) - p:
            raise MalformedRequest(f"at most {len(b) - p} more bytes of {field.name} expected, got {count} items")
        if read_item is None:
            numbers = struct.unpack_from(f">{count}{fixed}" if fixed != "16s" else ">" + "16s" * count, b, p)
            return tuple(map(convert, numbers)) if convert else numbers, p + count * item_size_bytes
        items = []
        for _ in range(count):
            item, p = read_item(b, p)
            items.append(item)
        return tuple(items), p

    return read


def _value_reader(field: Field, message: Message, *, is_item: bool = False) -> Reader:
    """The reader of a single value; nullability of an array is not that of its items."""
    nullable = field.nullable and not is_item
    if field.struct is not None:
        if nullable:
            raise TypeError(f"nullable struct {field.name} is in no served API")
        return compile_reader(field.struct)
    layout = FIXED_FORMATS.get(field.kind)
    if layout is not None:
        return _fixed_reader(struct.Struct(">" + layout), _converter(field.kind))
    if field.kind == "string":
        read_size = _read_compact_count if message.flexible else _read_string_size
        return _sized_reader(field.name, read_size, nullable or field.tag is not None, bytes.decode)
    if field.kind in ("bytes", "records"):
        read_size = _read_compact_count if message.flexible else _read_legacy_count
        return _sized_reader(field.name, read_size, nullable, bytes)
    raise TypeError(f"known type of field {field.name} expected, got {field.kind}")


def _fixed_reader(layout: struct.Struct, convert: Callable[[Any], Any] | None) -> Reader:
    def read(b: bytes, p: int) -> tuple[Any, int]:
        (value,) = layout.unpack_from(b, p)
        return convert(value) if convert else value, p + layout.size

    return read


def _sized_reader(
    name: str, read_size: Callable[[bytes, int], tuple[int, int]], nullable: bool, convert: Callable[[bytes], Any]
) -> Reader:
    def read(b: bytes, p: int) -> tuple[Any, int]:
        size, p = read_size(b, p)
        if size < 0:
            if nullable:
                return None, p
            raise MalformedRequest(f"{name} expected, got null")
        end = p + size
        if end > len(b):
            raise MalformedRequest(f"{name} of {size} bytes expected, got {len(b) - p}")
        return convert(b[p:end]), end

    return read


def _read_compact_count(b: bytes, p: int) -> tuple[int, int]:
    byte = b[p]
    if byte < 0x80:
        return byte - 1, p + 1
    count, p = read_uvarint(b, p)
    return count - 1, p


def _read_legacy_count(b: bytes, p: int) -> tuple[int, int]:
    count = int.from_bytes(b[p : p + 4], "big", signed=True)
    return _checked_count(b, count, p + 4)


def _read_string_size(b: bytes, p: int) -> tuple[int, int]:
    size = int.from_bytes(b[p : p + 2], "big", signed=True)
    return _checked_count(b, size, p + 2)


def _checked_count(b: bytes, count: int, p: int) -> tuple[int, int]:
    if p > len(b):
        raise IndexError
    return count, p  # any negative number is null, as in Kafka


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_ZERO_UUID: Final = bytes(16)
_DURATION_LIMIT_MS: Final = 86_400_000 * 999_999_999


def _duration(value_ms: int) -> datetime.timedelta:
    # Clamped: a client may send any 64-bit number of milliseconds, a timedelta ends at 10**9 days.
    return datetime.timedelta(milliseconds=max(-_DURATION_LIMIT_MS, min(_DURATION_LIMIT_MS, value_ms)))


def _instant(value_ms: int) -> datetime.datetime | None:
    return None if value_ms == -1 else _EPOCH + datetime.timedelta(milliseconds=value_ms)


def _uuid(value: bytes) -> uuid.UUID | None:
    return None if value == _ZERO_UUID else uuid.UUID(bytes=value)


def _converter(kind: str) -> Callable[[Any], Any] | None:
    return _CONVERTERS.get(kind)


_CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "error_code": error_for_code,
    "timedelta_i32": _duration,
    "timedelta_i64": _duration,
    "datetime_i64": _instant,
    "uuid": _uuid,
}
