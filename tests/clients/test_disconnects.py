"""A client that goes away while what it asked for is being made wedges nothing for the next one.

librdkafka does this at every start: it drops its bootstrap connection, with requests on it, once it knows the
broker's name.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parity import apis
from tests.parity.wire import Connection
from tests.services import WeirProcess

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def fresh_port(tmp_path: Path) -> Iterator[int]:
    """The port of a broker that nobody has used: no internal topic exists yet."""
    with WeirProcess(tmp_path) as broker:
        yield broker.port


def ask_and_leave(port: int, pause_s: float, api_key: int, version: int, **values: Any) -> None:
    """Send one request and reset the connection a moment later, without reading."""
    connection = Connection("127.0.0.1", port)
    connection.send(api_key, version, **values)
    time.sleep(pause_s)
    # A reset, not an orderly end: the broker hears of it at once.
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def call(port: int, api_key: int, version: int, **values: Any) -> Any:
    connection = Connection("127.0.0.1", port)
    try:
        return connection.call(api_key, version, **values)
    finally:
        connection.close()


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.003])
def test_coordinator_is_found_after_a_disconnect(fresh_port: int, pause_s: float) -> None:
    """The first FindCoordinator makes `__consumer_offsets`; its client is gone before that is done."""
    ask_and_leave(fresh_port, pause_s, apis.FIND_COORDINATOR, 2, key="one", key_type=0)
    deadline = time.monotonic() + 20
    while True:
        found = call(fresh_port, apis.FIND_COORDINATOR, 2, key="one", key_type=0)
        if found["error_code"] == "none":
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.003])
def test_topic_is_usable_after_a_disconnect(fresh_port: int, pause_s: float) -> None:
    """CreateTopics whose client is gone: the topic is there for all, or for nobody and can be made."""
    wanted = [{"name": "left-behind", "num_partitions": 2, "replication_factor": 1}]
    ask_and_leave(fresh_port, pause_s, apis.CREATE_TOPICS, 5, topics=wanted, timeout=10000)
    answer = call(fresh_port, apis.CREATE_TOPICS, 5, topics=wanted, timeout=10000)["topics"][0]
    assert answer["error_code"] in ("none", "topic_already_exists")
    deadline = time.monotonic() + 20
    while True:
        topics = [{"name": "left-behind"}]
        found = call(fresh_port, apis.METADATA, 9, topics=topics, allow_auto_topic_creation=False)["topics"][0]
        if found["error_code"] == "none" and all(p["leader_id"] >= 0 for p in found["partitions"]):
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
