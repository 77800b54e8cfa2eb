"""What the fields of a message are, read from kio's dataclasses into a form that readers and writers are made from.

kio generates one dataclass per struct, version and direction out of Kafka's own message definitions; names, order,
types, nullability, tags and defaults come from there. Loading one version costs 5 to 15 ms, so it is done on first use.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, Literal

from kio.index import load_request_schema, load_response_schema
from kio.schema.index import api_key_map, schema_name_map

from protocol.apis import SERVED
from protocol.errors import UnsupportedVersion

Side = Literal["request", "response"]

REQUIRED: Final = dataclasses.MISSING
"""Default of a field that has none."""

FIXED_FORMATS: Final = {
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint16": "H",
    "float64": "d",
    "bool": "?",
    "error_code": "h",
    "timedelta_i32": "i",
    "timedelta_i64": "q",
    "datetime_i64": "q",
    "uuid": "16s",
}
"""`struct` format of each type that has a fixed size."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """`kind` is kio's `kafka_type`, or "struct" where `struct` is set. `nullable` is that of the array if `is_array`.
    A field with a `tag` stands in the tagged section."""

    name: str
    kind: str
    is_array: bool
    nullable: bool
    tag: int | None
    default: Any
    struct: Message | None

    @property
    def fixed_format(self) -> str | None:
        return None if self.is_array else FIXED_FORMATS.get(self.kind)


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One struct of one version. `path` leads to it from the top of its message, by field names."""

    api_key: int
    side: Side
    entity: type[Any]
    flexible: bool
    path: tuple[str, ...]
    fields: tuple[Field, ...]

    @property
    def ordered(self) -> Iterator[Field]:
        return (field for field in self.fields if field.tag is None)

    @property
    def tagged(self) -> list[Field]:
        return sorted((field for field in self.fields if field.tag is not None), key=lambda field: field.tag or 0)


@cache
def load(api_key: int, version: int, side: Side) -> Message:
    """The schema of one served API and version. Raises UnsupportedVersion."""
    api = SERVED.get(api_key)
    if api is None or not api.serves(version):
        raise UnsupportedVersion(f"served API and version expected, got API {api_key} version {version}")
    entity = (load_request_schema if side == "request" else load_response_schema)(api_key, version)
    return _message(api_key, side, entity, ())


@cache
def names_in_any_version(api_key: int, side: Side, path: tuple[str, ...]) -> frozenset[str]:
    """Names of the fields that the struct at `path` has in some served version."""
    api = SERVED[api_key]
    names: set[str] = set()
    for version in range(api.served_from, api.max_version + 1):
        message: Message | None = load(api_key, version, side)
        for step in path:
            if message is None:
                break
            message = next((field.struct for field in message.fields if field.name == step), None)
        if message is not None:
            names.update(field.name for field in message.fields)
    return frozenset(names)


@cache
def entity_has_field_in_any_version(entity: type[Any], name: str) -> bool:
    """True if kio's class of this name has the field in some version of its message."""
    api_key: int = entity.__api_key__
    for version in schema_name_map[api_key_map[api_key]]:
        load_schema = load_request_schema if entity.__module__.endswith(".request") else load_response_schema
        sibling = getattr(sys.modules[load_schema(api_key, version).__module__], entity.__name__, None)
        if sibling is not None and any(field.name == name for field in dataclasses.fields(sibling)):
            return True
    return False


def _message(api_key: int, side: Side, entity: type[Any], path: tuple[str, ...]) -> Message:
    return Message(
        api_key,
        side,
        entity,
        entity.__flexible__,
        path,
        tuple(_field(api_key, side, field, path) for field in dataclasses.fields(entity)),
    )


def _field(api_key: int, side: Side, field: dataclasses.Field[Any], path: tuple[str, ...]) -> Field:
    annotation, nullable = _without_none(field.type)
    is_array = typing.get_origin(annotation) is tuple
    if is_array:
        annotation, _ = _without_none(typing.get_args(annotation)[0])
    is_struct = isinstance(annotation, type) and dataclasses.is_dataclass(annotation)
    struct = _message(api_key, side, annotation, (*path, field.name)) if is_struct else None
    return Field(
        name=field.name,
        kind="struct" if struct else field.metadata["kafka_type"],
        is_array=is_array,
        nullable=nullable,
        tag=field.metadata.get("tag"),
        default=field.default,
        struct=struct,
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) not in (types.UnionType, typing.Union):
        return annotation, False
    (inner,) = (arg for arg in typing.get_args(annotation) if arg is not types.NoneType)
    return inner, True
