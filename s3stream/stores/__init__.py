"""Object stores: adapters of `ports.ObjectStore`, chosen by URL. See README.md."""

from __future__ import annotations

import os
import time

from s3stream.ports import ObjectStore
from s3stream.stores.instrumented import InstrumentedObjectStore
from s3stream.stores.settings import (
    FolderLocation,
    MemoryLocation,
    StoreSettings,
    find_credentials,
    parse_location,
)

__all__ = ["InstrumentedObjectStore", "StoreSettings", "open_store", "place_of"]


async def open_store(url: str, settings: StoreSettings | None = None, *, ask: bool = True) -> InstrumentedObjectStore:
    """The store that `url` names (`memory:`, `file:///path`, `s3://bucket/prefix?endpoint=...&region=...`), open and
    counting. Invalid for a bad URL, missing bucket or refused credentials; Retry if the store cannot be reached.
    Without `ask` a bucket is taken for there: nothing is sent to the store yet."""
    settings = settings or StoreSettings()
    location = parse_location(url, settings, os.environ)
    store: ObjectStore
    if isinstance(location, MemoryLocation):
        from s3stream.stores.memory import MemoryObjectStore

        store = MemoryObjectStore(now_ms=lambda: time.time_ns() // 1_000_000, page_size=settings.list_page_size)
    elif isinstance(location, FolderLocation):
        from s3stream.stores.folder import FolderObjectStore

        store = FolderObjectStore(
            location.path, timeout_s=settings.request_timeout_ms / 1000, page_size=settings.list_page_size
        )
    else:
        # The S3 libraries cost a third of a second and 50 MiB: only who uses them pays.
        from s3stream.stores.s3 import S3ObjectStore

        bucket = S3ObjectStore(location, find_credentials(settings, os.environ), settings)
        try:
            if ask:
                await bucket.start()
        except BaseException:
            await bucket.close()
            raise
        store = bucket
    return InstrumentedObjectStore(store)


def place_of(url: str, settings: StoreSettings) -> str:
    """One line that tells the places of objects apart: endpoint, bucket and prefix of a bucket (whatever the region,
    credentials or spelling), the path of a folder."""
    location = parse_location(url, settings, os.environ)
    if isinstance(location, MemoryLocation):
        return "memory:"
    if isinstance(location, FolderLocation):
        return location.path.as_uri()
    return f"{location.endpoint or 'AWS'} s3://{location.bucket}/{location.prefix}"
