"""Message bodies for every API and version, and the same bodies as kio entities, kio being the oracle."""

from __future__ import annotations

import datetime
import io
import random
import uuid
from collections.abc import Mapping
from functools import cache
from typing import Any

from kio.schema.errors import ErrorCode as KioErrorCode
from kio.serial import entity_reader, entity_writer

from protocol.apis import SERVED
from protocol.message_schema import REQUIRED, Field, Message, Side

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
ALL_VERSIONS = [
    (api.key, version) for api in SERVED.values() for version in range(api.served_from, api.max_version + 1)
]
SIDES: tuple[Side, ...] = ("request", "response")
_INT_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "timedelta_i32": 32, "timedelta_i64": 45}
_ERROR_CODES = [int(code) for code in KioErrorCode]
_TEXTS = ["", "a", "topic-1", "é", "\N{GRINNING FACE}", "x" * 126, "x" * 127, "y" * 300]


def random_body(message: Message, rng: random.Random, *, small: bool = False) -> dict[str, Any]:
    """A body of the shape that `encode_response` takes; fields with a default are left out now and then. A small one
    has an item in each array and short strings."""
    return {
        field.name: _random_value(field, rng, small)
        for field in message.fields
        if field.default is REQUIRED or rng.random() < 0.7
    }


def _random_value(field: Field, rng: random.Random, small: bool) -> Any:
    if field.is_array:
        if field.nullable and rng.random() < 0.3:
            return None
        return [_random_item(field, rng, small) for _ in range(rng.choice((1,) if small else (0, 1, 2, 2, 3)))]
    if field.nullable and field.tag is None and rng.random() < 0.3:
        return None
    return _random_item(field, rng, small)


def _random_item(field: Field, rng: random.Random, small: bool) -> Any:
    if field.struct is not None:
        return random_body(field.struct, rng, small=small)
    match field.kind:
        case "bool":
            return rng.random() < 0.5
        case "error_code":
            return rng.choice(_ERROR_CODES)
        case "uuid":
            return uuid.UUID(int=rng.getrandbits(128) | 1)
        case "datetime_i64":
            return rng.getrandbits(41)
        case "string":
            return "ab" if small else rng.choice(_TEXTS)
        case "bytes" | "records":
            return rng.randbytes(rng.choice((0, 1, 5, 2 if small else 200)))
    bits = _INT_BITS[field.kind]
    return rng.choice((0, -1, 1, -(1 << bits - 1), (1 << bits - 1) - 1, rng.getrandbits(bits - 1)))


def to_entity(message: Message, body: Mapping[str, Any]) -> Any:
    """The kio entity that says the same as `body`."""
    values = {}
    for field in message.fields:
        value = body.get(field.name, field.default)
        if field.name in body and value is not None:
            value = tuple(_to_item(field, item) for item in value) if field.is_array else _to_item(field, value)
        values[field.name] = value
    return message.entity(**values)


def _to_item(field: Field, value: Any) -> Any:
    if field.struct is not None:
        return to_entity(field.struct, value)
    match field.kind:
        case "error_code":
            return KioErrorCode(value)
        case "timedelta_i32" | "timedelta_i64":
            return datetime.timedelta(milliseconds=value)
        case "datetime_i64":
            return EPOCH + datetime.timedelta(milliseconds=value)
    return value


@cache
def _kio_writer(entity_type: type[Any]) -> Any:
    return entity_writer(entity_type)


@cache
def _kio_reader(entity_type: type[Any]) -> Any:
    return entity_reader(entity_type)


def kio_bytes(entity: Any) -> bytes:
    with io.BytesIO() as out:
        _kio_writer(type(entity))(out, entity)
        return out.getvalue()


def kio_entity(entity_type: type[Any], data: bytes, *, bytes_may_follow: bool = False) -> Any:
    entity, size = _kio_reader(entity_type)(data, 0)
    assert size == len(data) or bytes_may_follow
    return entity
