"""The offline look at a folder: what the store wrote is listed, decoded, verified, and damage is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from s3stream.errors import Corrupt, Invalid
from s3stream.inspect import decode_object, list_objects, open_source, totals_by_class, verify_object
from s3stream.object_builder import ObjectBuilder, Run
from s3stream.object_format import KIND_STREAM_SET, object_key
from s3stream.stores import StoreSettings, open_store

SETTINGS = StoreSettings(access_key_id="test", secret_access_key="testtest")
KEY = object_key("weir", 7, 99)


def data_object() -> bytes:
    builder = ObjectBuilder(7, 1, 3, KIND_STREAM_SET, block_target_size_bytes=100)
    for stream_id in (4, 9):
        builder.add_run(
            Run(stream_id, range(5), range(1, 6), [1] * 5, [0] * 5, [memoryview(b"x" * 60)] * 5, state=b"state")
        )
    return b"".join(builder.finish().buffers)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return (tmp_path / "objects").as_uri()
    endpoint: str = request.getfixturevalue("endpoint")
    return f"s3://weir-inspect/{tmp_path.name}?endpoint={endpoint}&create=true"


async def test_lists_decodes_and_verifies(url: str) -> None:
    content = data_object()
    store = await open_store(url, SETTINGS)
    await store.put(KEY, [content])
    await store.put("wal/1", [b"12345"])
    await store.put("foreign", [b"12"])
    source = open_source(url, SETTINGS)
    listed = list(list_objects(source))
    assert [(item.info.key, item.object_class, item.object_id) for item in listed] == sorted(
        [(KEY, "data", 7), ("wal/1", "wal", None), ("foreign", "other", None)]
    )
    totals = totals_by_class(iter(listed))
    assert (totals["data"].count, totals["data"].size_bytes) == (1, len(content))
    assert (totals["wal"].largest_bytes, totals["probe"].count) == (5, 0)
    info = next(item.info for item in listed if item.info.key == KEY)
    decoded = verify_object(source, info)
    assert (decoded.footer.object_id, decoded.stream_ids, decoded.records) == (7, [4, 9], 10)
    assert decoded.problems == []
    damaged = bytearray(content)
    damaged[70] ^= 1
    await store.put(KEY, [damaged])
    assert len(verify_object(source, info).problems) == 1
    damaged[-1] ^= 1
    await store.put(KEY, [damaged])
    with pytest.raises(Corrupt, match="footer magic"):
        decode_object(source, info)
    wrong = object_key("weir", 8, 99)
    await store.put(wrong, [content])
    with pytest.raises(Corrupt, match="the footer says object 7, the key 8"):
        decode_object(source, info._replace(key=wrong))
    foreign = next(item.info for item in listed if item.info.key == "foreign")
    with pytest.raises(Corrupt):
        decode_object(source, foreign)
    await store.close()


def test_places_that_cannot_be_looked_into(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        open_source("memory:")
    with pytest.raises(Invalid, match="is not a folder"):
        open_source((tmp_path / "nothing").as_uri())


def test_missing_bucket(endpoint: str) -> None:
    source = open_source(f"s3://weir-nothing?endpoint={endpoint}", SETTINGS)
    with pytest.raises(Invalid, match="bucket does not exist"):
        list(list_objects(source))
