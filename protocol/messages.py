"""Requests and responses of every served API, both directions, as values.

Requests are decoded to kio's dataclasses of their version. A version that lacks a field gives an entity that lacks the
attribute: read such a field with `field(entity, name, default)`. Durations are `timedelta`; `duration_ms` gives the
milliseconds. A topic id is a `uuid.UUID`, or None for the zero one.

Responses are encoded from plain dicts in the shape of the latest version, with kio's snake_case names and lists of
dicts for arrays; fields of older versions may be in the same dict. What a version lacks is dropped, a missing field
gets the schema's default, one without a default is a TypeError, and so is a name that no version has. Numbers of
milliseconds (or timedelta, datetime), error codes as int, topic ids as UUID, 16 bytes or None.

Produce and Fetch have hand-written codecs for the hot path in `produce.py` and `fetch.py`; they are here too, for
clients. The client's directions (`encode_request`, `decode_response`) are for tests, the simulated client and tools.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from protocol.apis import API_VERSIONS, SERVED
from protocol.errors import MalformedRequest
from protocol.headers import frame_prefix, request_header, skip_tagged_fields
from protocol.message_reader import Reader, compile_reader, read_message
from protocol.message_schema import Side, has_field_in_any_version, load
from protocol.message_writer import Writer, compile_writer, write_message

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Largest body that is decoded here. Produce carries the bulk and has its own parser; of these messages a hostile one
grows to 30 times its size as Python objects, and no client comes near this size."""

_SIZE: Final = struct.Struct(">i")
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


def decode_request(api_key: int, version: int, buf: memoryview, offset: int) -> Any:
    """The request body at `buf[offset:]`, as kio's entity of this version. It holds no view of `buf`.

    Bytes behind the body are not looked at, as in Kafka: librdkafka 2.15 sends a Metadata that has some. Raises
    MalformedRequest for anything else, more than MAX_BODY_BYTES included, and UnsupportedVersion.
    """
    if len(buf) - offset > MAX_BODY_BYTES:
        raise MalformedRequest(f"body of at most {MAX_BODY_BYTES} bytes expected, got {len(buf) - offset}")
    reader = _reader(api_key, version, "request")
    return read_message(reader, bytes(buf[offset:]), _title(api_key, version), bytes_may_follow=True)


def encode_response(api_key: int, version: int, correlation_id: int, body: Mapping[str, Any]) -> bytes:
    """A whole response frame: 4-byte size, header, body. Raises TypeError, ValueError, UnsupportedVersion."""
    data = write_message(_writer(api_key, version, "response"), body, _title(api_key, version))
    return frame_prefix(api_key, version, correlation_id, len(data)) + data


def encode_request(
    api_key: int, version: int, correlation_id: int, client_id: str | None, body: Mapping[str, Any]
) -> bytes:
    """A whole request frame as a client sends it; `body` as in `encode_response`."""
    data = request_header(api_key, version, correlation_id, client_id)
    data += write_message(_writer(api_key, version, "request"), body, _title(api_key, version))
    return _SIZE.pack(len(data)) + data


def decode_response(api_key: int, version: int, buf: bytes | bytearray | memoryview) -> tuple[int, Any]:
    """Correlation id and kio's entity of the response frame `buf`, which comes without its size prefix. Error codes
    are our `ErrorCode`. Raises MalformedRequest, UnsupportedVersion."""
    reader = _reader(api_key, version, "response")
    data = bytes(buf)
    pos = 4
    try:
        (correlation_id,) = _SIZE.unpack_from(data)
        if api_key != API_VERSIONS and SERVED[api_key].is_flexible(version):
            pos = skip_tagged_fields(data, pos)
    except (struct.error, IndexError) as error:
        raise MalformedRequest(f"response header expected, got {len(data)} bytes") from error
    return correlation_id, read_message(reader, data[pos:], _title(api_key, version))


def field(entity: Any, name: str, default: Any) -> Any:
    """`entity.name`, or `default` if the entity's version has no such field. Raises AttributeError if no version has
    it: a misspelt name must not read as its default for ever."""
    try:
        return getattr(entity, name)
    except AttributeError:
        if has_field_in_any_version(entity.__class__, name):
            return default
        raise


def duration_ms(value: datetime.timedelta) -> int:
    """A decoded duration in milliseconds."""
    return round(value / _MILLISECOND)


def load_newest() -> Iterator[None]:
    """Make the codecs of every API's newest version, for a server: a step of 5 to 15 ms of CPU each time it is
    resumed, 0.3 s and 3 MB in all. Other versions are made when a client first uses them."""
    for api in SERVED.values():
        _reader(api.key, api.max_version, "request")
        yield
        _writer(api.key, api.max_version, "response")
        yield


@cache
def _reader(api_key: int, version: int, side: Side) -> Reader:
    return compile_reader(load(api_key, version, side))


@cache
def _writer(api_key: int, version: int, side: Side) -> Writer:
    return compile_writer(load(api_key, version, side))


def _title(api_key: int, version: int) -> str:
    return f"{SERVED[api_key].name} version {version}"
