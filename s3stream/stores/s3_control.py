"""The control path to a bucket, on aiobotocore: head, create, list, batch delete. The library retries these itself,
briefly: all of them may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader

from s3stream.errors import Invalid, NotFound, OutcomeUnknown, Retry, StreamError
from s3stream.ports import ObjectInfo
from s3stream.stores.s3_errors import classify_control, classify_status
from s3stream.stores.settings import Credentials, S3Location, StoreSettings

_ATTEMPTS = 3
_DELETE_BATCH = 1000
_MAX_CONNECTIONS = 16


@cache
def _service_models() -> Any:
    """Parsed once per process: parsing them is most of what a client costs (0.3 s, on the event loop)."""
    return create_loader()


class S3Control:
    """Opens its client at the first call. Keys are whole, with the location's prefix."""

    def __init__(self, location: S3Location, credentials: Credentials | None, settings: StoreSettings) -> None:
        self._location = location
        self._credentials = credentials
        self._settings = settings
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None

    async def ensure_bucket(self) -> None:
        """Invalid if the bucket is not there and may not be made, or may not be used; Retry if a store that can be
        connected to has not answered after one time limit."""
        name = self._location.bucket
        try:
            await self._call("head_bucket", f"bucket {name}", writes=False, rounds=1, Bucket=name)
            return
        except NotFound as error:
            if not self._location.create_bucket:
                raise Invalid(f"bucket {name} does not exist (create=true in the store URL makes it)") from error
        arguments: dict[str, Any] = {"Bucket": name}
        if not self._location.endpoint and self._location.region != "us-east-1":
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": self._location.region}
        await self._call("create_bucket", f"bucket {name}", writes=True, **arguments)

    async def list(self, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Pages in key order."""
        arguments: dict[str, Any] = {
            "Bucket": self._location.bucket,
            "Prefix": prefix,
            "MaxKeys": self._settings.list_page_size,
        }
        if start_after:
            arguments["StartAfter"] = start_after
        while True:
            answer = await self._call("list_objects_v2", f"list of {prefix!r}", writes=False, **arguments)
            page = [
                ObjectInfo(item["Key"], int(item["Size"]), int(item["LastModified"].timestamp() * 1000))
                for item in answer.get("Contents", ())
            ]
            if page:
                yield page
            if not answer.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = answer["NextContinuationToken"]

    async def delete(self, keys: Sequence[str]) -> None:
        """Batches of a thousand. The first key that the store keeps raises; the call may be repeated."""
        for first in range(0, len(keys), _DELETE_BATCH):
            batch = keys[first : first + _DELETE_BATCH]
            answer = await self._call(
                "delete_objects",
                f"delete of {len(batch)} objects",
                writes=True,
                Bucket=self._location.bucket,
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
            )
            for failure in answer.get("Errors", ()):
                code = str(failure.get("Code", ""))
                if code == "NoSuchKey":
                    continue
                status = 403 if code == "AccessDenied" else 500
                what = f"{failure.get('Key')}: delete refused: {code} {failure.get('Message', '')}"
                raise classify_status(status, code, what, writes=True)

    async def close(self) -> None:
        await self._stack.aclose()

    async def _call(self, name: str, what: str, *, writes: bool, rounds: int = _ATTEMPTS, **arguments: Any) -> Any:
        limit_s = rounds * self._settings.request_timeout_ms / 1000
        try:
            client = await self._open()
            async with asyncio.timeout(limit_s):
                return await getattr(client, name)(**arguments)
        except TimeoutError as error:
            text = f"{what}: {self._location.endpoint or 'AWS'} gave no answer within {limit_s:g} s"
            raise (OutcomeUnknown(text) if writes else Retry(text)) from error
        except (ClientError, BotoCoreError, OSError) as error:
            kind: StreamError = classify_control(error, what, writes=writes)
            raise kind from error

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                config = AioConfig(
                    connect_timeout=self._settings.connect_timeout_ms / 1000,
                    read_timeout=self._settings.request_timeout_ms / 1000,
                    max_pool_connections=_MAX_CONNECTIONS,
                    retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                    s3={
                        "addressing_style": "path" if self._location.path_style else "virtual",
                        "payload_signing_enabled": False,
                    },
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                credentials = self._credentials
                session = get_session()
                session.register_component("data_loader", _service_models())
                self._client = await self._stack.enter_async_context(
                    session.create_client(
                        "s3",
                        region_name=self._location.region,
                        endpoint_url=self._location.endpoint or None,
                        aws_access_key_id=credentials.access_key_id if credentials else None,
                        aws_secret_access_key=credentials.secret_access_key if credentials else None,
                        aws_session_token=credentials.session_token if credentials else None,
                        config=config,
                    )
                )
            return self._client
