"""Every client with every codec: read back by itself and by another client, codec bits checked in what is stored."""

from __future__ import annotations

import itertools
import time
import uuid
from typing import Any

import pytest

from tests.clients.registry import CLIENTS, CODEC_BITS, CODECS, Client
from tests.parity import batches
from tests.parity.wire import Connection

PARTITIONS = 2
COUNT = 40
BASE_TIMESTAMP_MS = 1_700_000_000_000
NAMES = list(CLIENTS)
_PRODUCE, _FETCH, _METADATA, _CREATE_TOPICS = 0, 1, 3, 19

pytestmark = pytest.mark.timeout(300)


def marked(name: str) -> Any:
    return pytest.param(name, marks=[getattr(pytest.mark, mark) for mark in CLIENTS[name].marks])


def connect(bootstrap: str) -> Connection:
    host, port = bootstrap.rsplit(":", 1)
    return Connection(host, int(port))


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A new topic, ready to be written."""
    name = f"matrix-{uuid.uuid4().hex[:10]}"
    wanted = {
        "name": name,
        "num_partitions": PARTITIONS,
        "replication_factor": 1,
        "assignments": [],
        "configs": [],
    }
    connection = connect(bootstrap)
    try:
        answer = connection.call(_CREATE_TOPICS, 5, topics=[wanted], timeout=20000, validate_only=False)
        assert answer["topics"][0]["error_code"] == "none"
        for _ in range(100):
            found = connection.call(_METADATA, 8, topics=[{"name": name}])["topics"][0]
            if found["error_code"] == "none" and all(p["leader_id"] >= 0 for p in found["partitions"]):
                return name
            time.sleep(0.05)
    finally:
        connection.close()
    raise AssertionError(f"{name} has no leaders")


def stored_batches(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """The headers of every stored batch, by raw Fetch requests."""
    found = []
    connection = connect(bootstrap)
    try:
        for partition in range(PARTITIONS):
            offset = 0
            while True:
                wanted = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
                answer = connection.call(
                    _FETCH,
                    11,
                    replica_id=-1,
                    max_wait=100,
                    min_bytes=1,
                    topics=[{"topic": topic, "partitions": [wanted]}],
                    forgotten_topics_data=[],
                )
                got = answer["responses"][0]["partitions"][0]
                assert got["error_code"] == "none"
                heads = batches.headers(got["records"]) or []
                found += heads
                if not heads:
                    assert offset == got["high_watermark"]
                    break
                offset = heads[-1]["base_offset"] + heads[-1]["last_offset_delta"] + 1
    finally:
        connection.close()
    return found


def check(records: list[dict[str, Any]], tag: str, writer: Client, *, count: int = COUNT) -> None:
    """Each record once, as it was written, in order within each partition."""
    assert sorted(r["k"] for r in records) == sorted(f"{tag}-{i}" for i in range(count))
    for r in records:
        i = int(r["k"].rsplit("-", 1)[1])
        assert r["v"] == f"{tag}-{i}-{'x' * 100}"
        assert r["h"]["tag"] == tag
        if writer.per_record_metadata:
            assert r["h"] == {"tag": tag, "seq": str(i)}
            assert r["t"] == BASE_TIMESTAMP_MS + i
        else:
            assert abs(r["t"] / 1000 - time.time()) < 300
    for partition in range(PARTITIONS):
        own = [r for r in records if r["p"] == partition]
        assert [r["o"] for r in own] == list(range(len(own))), "offsets have gaps or are out of order"
        sequence = [int(r["k"].rsplit("-", 1)[1]) for r in own]
        assert sequence == sorted(sequence)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_codec(bootstrap: str, topic: str, name: str, codec: str) -> None:
    writer = CLIENTS[name]
    # The readers rotate with the codec, so that each writer meets five others.
    shift = 1 + CODECS.index(codec)
    reader = CLIENTS[NAMES[(NAMES.index(name) + shift) % len(NAMES)]]
    assert writer.run("produce", bootstrap, topic, COUNT, codec=codec, tag=codec) == {"produced": COUNT}
    stored = stored_batches(bootstrap, topic)
    assert sum(b["records"] for b in stored) == COUNT
    assert {b["attributes"] & 7 for b in stored} == {CODEC_BITS[codec]}
    assert {b["crc"] for b in stored} == {"good"}
    assert all((b["producer_id"] >= 0) == writer.idempotent for b in stored)
    for one in (writer, reader):
        check(one.run("consume", bootstrap, topic, COUNT, group=topic)["records"], codec, writer)


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_group_restart(bootstrap: str, topic: str, name: str) -> None:
    """A group stops and starts again, the last time as another client, each time from what was committed."""
    client = CLIENTS[name]
    successor = CLIENTS[NAMES[(NAMES.index(name) + 3) % len(NAMES)]]
    client.run("produce", bootstrap, topic, COUNT, codec="lz4", tag="g")
    parts = [
        client.run("group", bootstrap, topic, 13, group=topic)["records"],
        client.run("group", bootstrap, topic, 17, group=topic)["records"],
        successor.run("group", bootstrap, topic, COUNT - 30, group=topic)["records"],
    ]
    assert [len(part) for part in parts] == [13, 17, COUNT - 30]
    everything = sorted(itertools.chain(*parts), key=lambda r: (r["p"], r["o"]))
    check(everything, "g", client)
