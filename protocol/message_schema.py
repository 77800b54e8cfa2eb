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
    """One struct of one version."""

    entity: type[Any]
    flexible: bool
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
    return _message(entity)


@cache
def has_field_in_any_version(entity: type[Any], name: str) -> bool:
    """Whether the struct of this class, of whatever version, has the field in some served version."""
    key = _key(entity)
    return name in RETIRED_FIELDS.get(key, ()) or name in _newest_names(key)


_StructKey = tuple[int, Side, str]

RETIRED_FIELDS: Final[dict[_StructKey, tuple[str, ...]]] = {
    (0, "request", "TopicProduceData"): ("name",),
    (0, "response", "TopicProduceResponse"): ("name",),
    (1, "request", "FetchRequest"): ("replica_id",),
    (1, "request", "FetchTopic"): ("topic",),
    (1, "request", "ForgottenTopic"): ("topic",),
    (1, "response", "FetchableTopicResponse"): ("topic",),
    (3, "request", "MetadataRequest"): ("include_cluster_authorized_operations",),
    (3, "response", "MetadataResponse"): ("cluster_authorized_operations",),
    (8, "request", "OffsetCommitRequest"): ("retention_time",),
    (8, "request", "OffsetCommitRequestTopic"): ("name",),
    (8, "response", "OffsetCommitResponseTopic"): ("name",),
    (9, "request", "OffsetFetchRequest"): ("group_id", "topics"),
    (9, "request", "OffsetFetchRequestTopic"): ("name", "partition_indexes"),
    (9, "request", "OffsetFetchRequestTopics"): ("name",),
    (9, "response", "OffsetFetchResponse"): ("error_code", "topics"),
    (9, "response", "OffsetFetchResponsePartition"): (
        "committed_leader_epoch",
        "committed_offset",
        "error_code",
        "metadata",
        "partition_index",
    ),
    (9, "response", "OffsetFetchResponseTopic"): ("name", "partitions"),
    (9, "response", "OffsetFetchResponseTopics"): ("name",),
    (10, "request", "FindCoordinatorRequest"): ("key",),
    (10, "response", "FindCoordinatorResponse"): ("error_code", "error_message", "host", "node_id", "port"),
    (13, "request", "LeaveGroupRequest"): ("member_id",),
    (20, "request", "DeleteTopicsRequest"): ("topic_names",),
}
"""Fields of served versions that the newest version lacks, by API key, side and struct. Written down because to find
them out every version of an API has to be loaded, 100 ms of CPU in the midst of serving; a test holds it to kio."""


def _key(entity: type[Any]) -> _StructKey:
    return entity.__api_key__, "request" if entity.__module__.endswith(".request") else "response", entity.__name__


@cache
def _newest_names(key: _StructKey) -> frozenset[str]:
    api_key, side, struct = key
    newest = load(api_key, SERVED[api_key].max_version, side)
    entity = getattr(sys.modules[newest.entity.__module__], struct, None)
    return frozenset(field.name for field in dataclasses.fields(entity)) if entity is not None else frozenset()


def _message(entity: type[Any]) -> Message:
    return Message(entity, entity.__flexible__, tuple(map(_field, dataclasses.fields(entity))))


def _field(field: dataclasses.Field[Any]) -> Field:
    annotation, nullable = _without_none(field.type)
    is_array = typing.get_origin(annotation) is tuple
    if is_array:
        annotation, _ = _without_none(typing.get_args(annotation)[0])
    is_struct = isinstance(annotation, type) and dataclasses.is_dataclass(annotation)
    struct = _message(annotation) if is_struct else None
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
