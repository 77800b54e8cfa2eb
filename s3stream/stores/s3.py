"""An object store in an S3 bucket: data over obstore, control over aiobotocore. One request per call, never repeated
by the library: it would repeat an applied conditional PUT and then report "exists" on what looks like the first try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store
from typing_extensions import Buffer

from s3stream.errors import Invalid, OutcomeUnknown, Retry
from s3stream.ports import ObjectInfo
from s3stream.stores.byte_budget import ByteBudget
from s3stream.stores.keys import body_views, check_key, check_range, check_range_within
from s3stream.stores.s3_control import S3Control
from s3stream.stores.s3_errors import classify_data, http_status
from s3stream.stores.settings import Credentials, S3Location, StoreSettings

_UNKNOWN_SIZE_BYTES = 8 << 20
_PARTS_AT_A_TIME = 4
_RANGE_NOT_SATISFIABLE = 416


class S3ObjectStore:
    """Implements `ports.ObjectStore`. Bodies above `max_put_bytes` go up in parts, unless `if_absent`.

    Payloads are not signed (no SHA-256 over the data; use https across networks), requests in flight are bounded by
    bytes, and every call has a time limit: reads then raise Retry, writes OutcomeUnknown.
    """

    def __init__(self, location: S3Location, credentials: Credentials | None, settings: StoreSettings) -> None:
        self._prefix = location.prefix
        self._settings = settings
        self._control = S3Control(location, credentials, settings)
        self._budget = ByteBudget(settings.inflight_bytes)
        self._store = _open_data_path(location, credentials, settings)

    async def start(self) -> None:
        """Check that the bucket is there (and make it, if the location says so)."""
        await self._control.ensure_bucket()

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        check_key(key)
        views = body_views(body)
        size = sum(len(view) for view in views)
        in_parts = size > self._settings.max_put_bytes and not if_absent
        rounds = 1
        if in_parts:
            rounds = 2 + size // (self._settings.part_size_bytes * _PARTS_AT_A_TIME)
        async with self._budget.hold(size):
            try:
                async with asyncio.timeout(self._limit_s(rounds)):
                    await obstore.put_async(
                        self._store,
                        self._prefix + key,
                        views,
                        mode="create" if if_absent else "overwrite",
                        use_multipart=in_parts,
                        chunk_size=self._settings.part_size_bytes,
                        max_concurrency=_PARTS_AT_A_TIME,
                    )
            except TimeoutError as error:
                raise OutcomeUnknown(f"{key}: no answer within {self._limit_s(rounds)} s") from error
            except (BaseError, OSError) as error:
                raise classify_data(error, key, writes=True, if_absent=if_absent) from error

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        check_key(key)
        check_range(key, start, end)
        expected = _UNKNOWN_SIZE_BYTES if end is None else end - start
        async with self._budget.hold(expected):
            try:
                async with asyncio.timeout(self._limit_s(1)):
                    if end == start or (end is None and start):
                        size = await self._size(key)
                        check_range_within(key, start, end, size)
                        if start in (end, size):
                            return memoryview(b"")
                    return await self._get(key, start, end)
            except TimeoutError as error:
                raise Retry(f"{key}: no answer within {self._limit_s(1)} s") from error
            except (BaseError, OSError) as error:
                raise classify_data(error, key, writes=False) from error

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        after = self._prefix + start_after if start_after else ""
        cut = len(self._prefix)
        async for page in self._control.list(self._prefix + prefix, after):
            yield [ObjectInfo(info.key[cut:], info.size_bytes, info.modified_ms) for info in page]

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        await self._control.delete([self._prefix + key for key in keys])

    async def close(self) -> None:
        await self._control.close()

    def _limit_s(self, rounds: int) -> float:
        return rounds * self._settings.request_timeout_ms / 1000

    async def _size(self, key: str) -> int:
        return int((await obstore.head_async(self._store, self._prefix + key))["size"])

    async def _get(self, key: str, start: int, end: int | None) -> memoryview:
        options: Any = None
        if end is not None:
            options = {"range": (start, end)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            result = await obstore.get_async(self._store, self._prefix + key, options=options)
        except BaseError as error:
            if end is not None and http_status(error) == _RANGE_NOT_SATISFIABLE:
                check_range_within(key, start, end, await self._size(key))
            raise
        check_range_within(key, start, end, result.meta["size"])
        content = memoryview(await result.bytes_async())
        wanted = (result.meta["size"] if end is None else end) - start
        if len(content) != wanted:
            raise Retry(f"{key}: {len(content)} bytes came, expected {wanted}")
        return content


def _open_data_path(location: S3Location, credentials: Credentials | None, settings: StoreSettings) -> S3Store:
    config: dict[str, Any] = {}
    if location.endpoint:
        endpoint = location.endpoint
        if not location.path_style:
            parts = urlsplit(endpoint)
            endpoint = f"{parts.scheme}://{location.bucket}.{parts.netloc}{parts.path}"
        config["endpoint"] = endpoint
    if credentials is not None:
        config["access_key_id"] = credentials.access_key_id
        config["secret_access_key"] = credentials.secret_access_key
        if credentials.session_token is not None:
            config["session_token"] = credentials.session_token
    try:
        return S3Store(
            location.bucket,
            region=location.region,
            virtual_hosted_style_request=not location.path_style,
            unsigned_payload=True,
            client_options={
                "allow_http": location.endpoint.startswith("http://"),
                "timeout": timedelta(milliseconds=settings.request_timeout_ms),
                "connect_timeout": timedelta(milliseconds=settings.connect_timeout_ms),
            },
            retry_config={"max_retries": 0, "retry_timeout": timedelta(milliseconds=settings.request_timeout_ms)},
            **config,
        )
    except (BaseError, ValueError) as error:
        raise Invalid(f"S3 settings of bucket {location.bucket}: {error}") from error
