"""The object stores that the contract runs on. S3 is moto, and any server named by WEIR_TEST_S3_ENDPOINT (with
WEIR_TEST_S3_ACCESS_KEY_ID and WEIR_TEST_S3_SECRET_ACCESS_KEY): MinIO, Ceph RGW."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from s3stream.stores import InstrumentedObjectStore, StoreSettings, open_store

PAGE_SIZE = 10
SETTINGS = StoreSettings(
    list_page_size=PAGE_SIZE,
    max_put_bytes=6 << 20,
    part_size_bytes=5 << 20,
    access_key_id="test",
    secret_access_key="testtest",
)
_numbers = itertools.count()


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_url(endpoint: str) -> str:
    """A fresh place in the test bucket."""
    return f"s3://weir-contract/run-{os.getpid()}/{next(_numbers)}?endpoint={endpoint}&create=true"


SERVER = os.environ.get("WEIR_TEST_S3_ENDPOINT", "")


@pytest.fixture(params=["memory", "folder", "moto", *(["server"] if SERVER else [])])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, moto_endpoint: str
) -> AsyncIterator[InstrumentedObjectStore]:
    settings = SETTINGS
    match request.param:
        case "memory":
            url = "memory:"
        case "folder":
            url = (tmp_path / "objects").as_uri()
        case "moto":
            url = s3_url(moto_endpoint)
        case _:
            url = s3_url(SERVER)
            settings = replace(
                SETTINGS,
                access_key_id=os.environ.get("WEIR_TEST_S3_ACCESS_KEY_ID", "test"),
                secret_access_key=os.environ.get("WEIR_TEST_S3_SECRET_ACCESS_KEY", "testtest"),
            )
    opened = await open_store(url, settings)
    try:
        yield opened
    finally:
        await opened.close()
