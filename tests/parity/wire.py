"""Kafka requests over a raw socket with kio as the codec: entities from plain dicts, answers as plain dicts."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import io
import socket
import struct
import typing
import uuid
from typing import Any

import kio.index
import kio.schema.index
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

Plain = Any  # None, bool, int, float, str, bytes, and lists and dicts of them
MAX_FRAME_BYTES = 128 << 20
CLOSED = {"closed": True}
SILENT = {"silent": True}


class CaseError(Exception):
    """A case is wrong (a field that no version has, a value that does not fit): never a broker's fault."""


# -------------------- entities from dicts


@functools.cache
def _field_names(api_key: int) -> frozenset[str]:
    """Every field name that any version of the request has, at any depth."""
    names: set[str] = set()

    def visit(entity: type) -> None:
        for f in dataclasses.fields(entity):
            names.add(f.name)
            nested = _nested(f.type)
            if nested is not None:
                visit(nested)

    for version in kio.schema.index.schema_name_map[kio.schema.index.api_key_map[api_key]]:
        visit(kio.index.load_request_schema(api_key, version))
    return frozenset(names)


def _nested(annotation: Any) -> type | None:
    """The entity inside an annotation such as `tuple[Topic, ...] | None`."""
    for part in (annotation, *typing.get_args(annotation)):
        for leaf in (part, *typing.get_args(part)):
            if isinstance(leaf, type) and dataclasses.is_dataclass(leaf):
                return leaf
    return None


def _value(annotation: Any, kafka_type: str | None, value: Any, known: frozenset[str]) -> Any:
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return tuple(_value(annotation, kafka_type, one, known) for one in value)
    if kafka_type is None:
        nested = _nested(annotation)
        if nested is None:
            raise CaseError(f"no entity in {annotation!r}")
        return _entity(nested, value, known)
    if kafka_type.startswith("timedelta"):
        return datetime.timedelta(milliseconds=value)
    return value


def _entity(schema: type, values: dict[str, Any], known: frozenset[str]) -> Any:
    unknown = values.keys() - known
    if unknown:
        raise CaseError(f"{schema.__name__} has no field {sorted(unknown)} in any version")
    arguments = {}
    for f in dataclasses.fields(schema):
        if f.name in values:
            arguments[f.name] = _value(f.type, f.metadata.get("kafka_type"), values[f.name], known)
        elif f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING:
            continue
        elif f.metadata.get("kafka_type") == "bool":
            arguments[f.name] = False
        elif typing.get_origin(f.type) is tuple:
            arguments[f.name] = ()
        else:
            raise CaseError(f"{schema.__module__}.{schema.__name__} needs {f.name}")
    return schema(**arguments)


def encode_body(api_key: int, version: int, values: dict[str, Any]) -> bytes:
    """The request's body; fields this version lacks are left out, booleans and arrays not given are false and empty."""
    schema = kio.index.load_request_schema(api_key, version)
    out = io.BytesIO()
    entity_writer(schema)(out, _entity(schema, values, _field_names(api_key)))
    return out.getvalue()


def header(api_key: int, version: int, correlation_id: int, client_id: str | None, *, flexible: bool) -> bytes:
    """A request header, version 2 if flexible, else 1."""
    text = b"" if client_id is None else client_id.encode()
    length = -1 if client_id is None else len(text)
    head = struct.pack(">hhih", api_key, version, correlation_id, length) + text
    return head + b"\0" if flexible else head


def is_flexible(api_key: int, version: int) -> bool:
    """Whether this version of the request has tagged fields (and header version 2)."""
    return bool(kio.index.load_request_schema(api_key, version).__flexible__)


# -------------------- answers as dicts


def plain(value: Any) -> Plain:
    """A decoded entity as dicts, lists and scalars: error codes as names, times as milliseconds, ids as text."""
    if isinstance(value, ErrorCode):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, datetime.timedelta):
        return round(value / datetime.timedelta(milliseconds=1))
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, memoryview):
        return bytes(value)
    return value


def decode(api_key: int, version: int, frame: bytes) -> Plain:
    """The response's body as a dict; what kio cannot read, or does not read to the end, is told apart."""
    schema = kio.index.load_response_schema(api_key, version)
    try:
        _, position = entity_reader(schema.__header_schema__)(frame, 0)
        body, size = entity_reader(schema)(frame, position)
    except Exception as error:  # noqa: BLE001 - whatever kio raises is the finding
        return {"undecodable": f"{type(error).__name__}: {error}", "bytes": frame[:64].hex()}
    result = plain(body)
    if position + size != len(frame):
        result["trailing_bytes"] = len(frame) - position - size
    return result


# -------------------- the connection


class Connection:
    """One blocking connection; requests may be pipelined with send() and recv()."""

    def __init__(self, host: str, port: int, *, timeout_s: float = 10) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation_id = 0
        self.pending: list[tuple[int, int, int]] = []

    def close(self) -> None:
        self.socket.close()

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are; a reset by the peer shows at the next read."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def recv_frame(self, timeout_s: float) -> bytes | None:
        """The next frame; b"" when the peer closed, None when nothing came in time."""
        head = self._exactly(4, timeout_s)
        if not head:
            return head
        (size,) = struct.unpack(">i", head)
        if not 0 <= size <= MAX_FRAME_BYTES:
            raise CaseError(f"the broker sent a frame of {size} bytes")
        return self._exactly(size, timeout_s)

    def _exactly(self, count: int, timeout_s: float) -> bytes | None:
        self.socket.settimeout(timeout_s)
        parts: list[bytes] = []
        try:
            while count:
                part = self.socket.recv(min(count, 1 << 20))
                if not part:
                    return b""
                parts.append(part)
                count -= len(part)
        except TimeoutError:
            return None
        except ConnectionResetError:
            return b""
        return b"".join(parts)

    def send(self, api_key: int, version: int, *, client_id: str | None = "parity", **values: Any) -> None:
        """Send one request."""
        body = encode_body(api_key, version, values)
        self.send_body(api_key, version, body, client_id=client_id)

    def send_body(self, api_key: int, version: int, body: bytes, *, client_id: str | None = "parity") -> None:
        """Send one request whose body is given as bytes."""
        self.correlation_id += 1
        head = header(api_key, version, self.correlation_id, client_id, flexible=is_flexible(api_key, version))
        self.pending.append((api_key, version, self.correlation_id))
        self.send_raw(struct.pack(">i", len(head) + len(body)) + head + body)

    def recv(self, timeout_s: float = 15) -> Plain:
        """The answer to the oldest unanswered request: a dict, CLOSED or SILENT."""
        api_key, version, correlation_id = self.pending.pop(0)
        frame = self.recv_frame(timeout_s)
        if frame is None:
            return dict(SILENT)
        if frame == b"":
            return dict(CLOSED)
        (answered,) = struct.unpack_from(">i", frame)
        if answered != correlation_id:
            return {"correlation_id": "of another request"}
        return decode(api_key, version, frame)

    def call(self, api_key: int, version: int, *, timeout_s: float = 15, **values: Any) -> Plain:
        """Send one request and return its answer."""
        self.send(api_key, version, **values)
        return self.recv(timeout_s)
