"""Looks into a folder or a bucket from outside, synchronously, for offline tools: lists, decodes, verifies objects.

It reads only, needs no broker and no metadata, and holds one block at a time in memory. Buckets are read with boto3.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from s3stream.errors import Corrupt, Invalid
from s3stream.object_format import (
    FLAG_STATE,
    FOOTER_SIZE_BYTES,
    Footer,
    IndexEntry,
    parse_footer,
    parse_index,
    parse_key,
    read_block,
)
from s3stream.ports import ObjectInfo
from s3stream.stores.folder_reading import FolderReader
from s3stream.stores.keys import check_range
from s3stream.stores.settings import (
    FolderLocation,
    S3Location,
    StoreSettings,
    find_credentials,
    parse_location,
)

DATA = "data"
WAL = "wal"
PROBE = "probe"
OTHER = "other"
_TAIL_GUESS_BYTES = 256 << 10


class ObjectSource(Protocol):
    """What a tool reads from. Errors are the kinds of `errors`."""

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Objects in key order."""
        ...

    def get(self, key: str, start: int, end: int | None) -> memoryview:
        """Bytes `[start, end)`."""
        ...


class BucketSource:
    """A bucket over boto3."""

    def __init__(self, client: Any, location: S3Location) -> None:
        self._client = client
        self._location = location

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        whole = self._location.prefix
        arguments = {"Bucket": self._location.bucket, "Prefix": whole + prefix}
        if start_after:
            arguments["StartAfter"] = whole + start_after
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(**arguments))
        while (page := self._call(f"list of {prefix!r}", lambda: next(pages, None))) is not None:
            for item in page.get("Contents", ()):
                modified_ms = int(item["LastModified"].timestamp() * 1000)
                yield ObjectInfo(item["Key"][len(whole) :], int(item["Size"]), modified_ms)

    def get(self, key: str, start: int, end: int | None) -> memoryview:
        check_range(key, start, end)
        if start == end:
            return memoryview(b"")
        arguments = {"Bucket": self._location.bucket, "Key": self._location.prefix + key}
        if start or end is not None:
            arguments["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        content = self._call(key, lambda: self._client.get_object(**arguments)["Body"].read())
        if end is not None and len(content) != end - start:
            raise Invalid(f"{key}: {len(content)} bytes came for [{start}, {end})")
        return memoryview(content)

    def _call(self, what: str, work: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        from s3stream.stores.s3_errors import classify_control

        try:
            return work()
        except (BotoCoreError, ClientError, OSError) as error:
            raise classify_control(error, what, writes=False) from error


def open_source(url: str, settings: StoreSettings | None = None) -> ObjectSource:
    """The source that a store URL names; Invalid for `memory:`, which nobody else can see."""
    settings = settings or StoreSettings()
    location = parse_location(url, settings, os.environ)
    if isinstance(location, FolderLocation):
        if not location.path.is_dir():
            raise Invalid(f"{location.path} is not a folder")
        return FolderReader(location.path)
    if isinstance(location, S3Location):
        return BucketSource(_open_client(location, settings), location)
    raise Invalid(f"store URL {url!r}: a store in memory cannot be looked into from outside")


def _open_client(location: S3Location, settings: StoreSettings) -> Any:
    import boto3
    from botocore.config import Config

    credentials = find_credentials(settings, os.environ)
    return boto3.session.Session().client(
        "s3",
        region_name=location.region,
        endpoint_url=location.endpoint or None,
        aws_access_key_id=credentials.access_key_id if credentials else None,
        aws_secret_access_key=credentials.secret_access_key if credentials else None,
        aws_session_token=credentials.session_token if credentials else None,
        config=Config(
            connect_timeout=settings.connect_timeout_ms / 1000,
            read_timeout=settings.request_timeout_ms / 1000,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "path" if location.path_style else "virtual"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


class ListedObject(NamedTuple):
    """An object as its key alone tells it; `cluster_id` and `object_id` are None unless it is a data object."""

    info: ObjectInfo
    object_class: str
    cluster_id: str | None
    object_id: int | None


def list_objects(source: ObjectSource, prefix: str = "") -> Iterator[ListedObject]:
    """Everything under `prefix`, classified by key."""
    for info in source.walk(prefix, ""):
        identity = parse_key(info.key)
        if identity is not None:
            yield ListedObject(info, DATA, *identity)
        else:
            yield ListedObject(info, _class_of(info.key), None, None)


def _class_of(key: str) -> str:
    first = key.split("/", 1)[0]
    return first if first in (WAL, PROBE) else OTHER


@dataclass(slots=True)
class ClassTotal:
    """Objects of one class."""

    count: int = 0
    size_bytes: int = 0
    largest_bytes: int = 0


def totals_by_class(objects: Iterator[ListedObject]) -> dict[str, ClassTotal]:
    """Number and size of the objects of each class, all classes present."""
    totals = {name: ClassTotal() for name in (DATA, WAL, PROBE, OTHER)}
    for item in objects:
        total = totals[item.object_class]
        total.count += 1
        total.size_bytes += item.info.size_bytes
        total.largest_bytes = max(total.largest_bytes, item.info.size_bytes)
    return totals


@dataclass(slots=True)
class DecodedObject:
    """Footer and index of a data object."""

    info: ObjectInfo
    footer: Footer
    entries: list[IndexEntry]
    problems: list[str] = field(default_factory=list)

    @property
    def stream_ids(self) -> list[int]:
        """Ascending."""
        return sorted({entry.stream_id for entry in self.entries})

    @property
    def records(self) -> int:
        return sum(entry.records for entry in self.entries)


def decode_object(source: ObjectSource, info: ObjectInfo) -> DecodedObject:
    """Footer and index, read with one request or two. Corrupt if they do not verify or belong to another key."""
    if info.size_bytes < FOOTER_SIZE_BYTES:
        raise Corrupt(f"{info.key}: {info.size_bytes} bytes cannot be an object")
    tail_start = max(0, info.size_bytes - _TAIL_GUESS_BYTES)
    tail = source.get(info.key, tail_start, info.size_bytes)
    try:
        footer = parse_footer(tail, info.size_bytes)
        if footer.index_position < tail_start:
            tail_start = footer.index_position
            tail = source.get(info.key, tail_start, info.size_bytes)
        index_start = footer.index_position - tail_start
        entries = parse_index(tail[index_start : index_start + footer.index_length], footer)
    except Corrupt as error:
        raise Corrupt(f"{info.key}: {error}") from error
    identity = parse_key(info.key)
    if identity is not None and identity[1] != footer.object_id:
        raise Corrupt(f"{info.key}: the footer says object {footer.object_id}, the key {identity[1]}")
    return DecodedObject(info, footer, entries)


def verify_object(source: ObjectSource, info: ObjectInfo) -> DecodedObject:
    """As `decode_object`, and every block is read and checked; what does not verify stands in `problems`."""
    decoded = decode_object(source, info)
    for entry in decoded.entries:
        content = source.get(info.key, entry.position, entry.position + entry.size)
        try:
            block = read_block(content, entry.stream_id, entry.base_offset)
        except Corrupt as error:
            decoded.problems.append(f"block at {entry.position}: {error}")
            continue
        if block.size != entry.size or (block.flags ^ entry.flags) & FLAG_STATE:
            decoded.problems.append(f"block at {entry.position}: {block.size} bytes, the index says {entry.size}")
    return decoded
