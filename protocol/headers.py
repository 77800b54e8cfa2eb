"""Request and response headers, and the size prefix in front of each frame."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from protocol.apis import API_VERSIONS, SERVED
from protocol.errors import MalformedRequest
from protocol.varint import read_uvarint, uvarint

SIZE_PREFIX_BYTES: Final = 4
NOT_SERVED: Final = -1
_new_tuple = tuple.__new__  # a NamedTuple's own constructor is Python


class RequestHeader(NamedTuple):
    """`body_offset` is where the body starts in the parsed buffer, or NOT_SERVED (-1) if the API key or the version is
    not served: then nothing after the correlation id was looked at and `client_id` is None. Kafka closes the
    connection of such a request, except that ApiVersions is answered with UNSUPPORTED_VERSION."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body_offset: int


_FIXED: Final = struct.Struct(">hhi")
_CLIENT_ID_LENGTH: Final = struct.Struct(">h")
_SIZE: Final = struct.Struct(">i")
_SIZE_AND_CORRELATION: Final = struct.Struct(">ii")

_FLEXIBLE: Final[dict[tuple[int, int], bool]] = {
    (api.key, version): api.is_flexible(version)
    for api in SERVED.values()
    for version in range(api.served_from, api.max_version + 1)
}


def parse_size(buf: bytes | bytearray | memoryview, max_request_size_bytes: int) -> int:
    """The size of the frame that follows its 4-byte prefix `buf[:4]`. Raises MalformedRequest if it is negative, above
    the limit, or if fewer than 4 bytes are given."""
    if len(buf) < SIZE_PREFIX_BYTES:
        raise MalformedRequest(f"size prefix of {SIZE_PREFIX_BYTES} bytes expected, got {len(buf)}")
    size: int = _SIZE.unpack_from(buf)[0]
    if not 0 <= size <= max_request_size_bytes:
        raise MalformedRequest(f"request size from 0 to {max_request_size_bytes} bytes expected, got {size}")
    return size


def parse_request_header(buf: memoryview) -> RequestHeader:
    """The header (version 1 or 2, by API and version) of a request frame without its size prefix.

    Unknown tagged fields of header version 2 are skipped. Raises MalformedRequest.
    """
    try:
        api_key, version, correlation_id = _FIXED.unpack_from(buf)
        flexible = _FLEXIBLE.get((api_key, version))
        if flexible is None:
            return RequestHeader(api_key, version, correlation_id, None, NOT_SERVED)
        (length,) = _CLIENT_ID_LENGTH.unpack_from(buf, 8)
        client_id = None
        pos = 10
        if length >= 0:
            pos += length
            if pos > len(buf):
                raise MalformedRequest(f"client id of {length} bytes expected, got {len(buf) - 10}")
            client_id = str(buf[10:pos], "utf-8", "replace")  # as Kafka: a name in logs and groups, no more
        if flexible:
            if buf[pos]:
                pos = skip_tagged_fields(buf, pos)
            else:
                pos += 1
        return _new_tuple(RequestHeader, (api_key, version, correlation_id, client_id, pos))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"request header expected, got {len(buf)} bytes: {error}") from None


def skip_tagged_fields(buf: bytes | memoryview, pos: int) -> int:
    """The position after the tagged-field section at `pos`, none of whose fields is looked at. The order of tags is
    not checked, as in Kafka. Raises MalformedRequest, or IndexError at the end of the buffer."""
    count, pos = read_uvarint(buf, pos)
    for _ in range(count):
        _tag, pos = read_uvarint(buf, pos)
        size, pos = read_uvarint(buf, pos)
        pos += size
        if pos > len(buf):
            raise MalformedRequest(f"tagged field of {size} bytes expected, got {len(buf) - pos + size}")
    return pos


def response_header(api_key: int, version: int, correlation_id: int) -> bytes:
    """The response header, without the size prefix: version 1 for a flexible version, else version 0; always 0 for
    ApiVersions, whose client does not know yet what the broker can write (KIP-511)."""
    header = correlation_id.to_bytes(4, "big", signed=True)
    return header + b"\x00" if api_key != API_VERSIONS and _FLEXIBLE.get((api_key, version)) else header


def frame_prefix(api_key: int, version: int, correlation_id: int, body_size_bytes: int) -> bytes:
    """Size prefix and response header of a response whose body has `body_size_bytes`."""
    header = response_header(api_key, version, correlation_id)
    return _SIZE.pack(len(header) + body_size_bytes) + header


def request_header(api_key: int, version: int, correlation_id: int, client_id: str | None) -> bytes:
    """The request header that a client sends, without the size prefix. The client id is never compact (KIP-511)."""
    header = _FIXED.pack(api_key, version, correlation_id)
    if client_id is None:
        header += b"\xff\xff"
    else:
        encoded = client_id.encode()
        header += _CLIENT_ID_LENGTH.pack(len(encoded)) + encoded
    api = SERVED.get(api_key)
    return header + uvarint(0) if api is not None and api.is_flexible(version) else header
