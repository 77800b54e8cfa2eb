"""What no client library sends but Kafka answers in a certain way: the same here, on a raw socket."""

from __future__ import annotations

import socket
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from broker.embedded import BrokerThread
from protocol.errors import ErrorCode
from protocol.messages import decode_response, encode_request
from protocol.record_batch import CODEC_ZSTD
from protocol.record_codec import Record, encode_batch

PRODUCE, FETCH, METADATA, HEARTBEAT = 0, 1, 3, 12


class Client:
    """One connection, one request at a time."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)

    def ask(self, key: int, version: int, body: dict[str, Any], behind: bytes = b"") -> Any:
        frame = encode_request(key, version, 1, "edges", body)[4:] + behind
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", self.socket.recv(4, socket.MSG_WAITALL))
        return decode_response(key, version, self.socket.recv(size, socket.MSG_WAITALL))[1]

    def produce(self, version: int, topic: str, topic_id: uuid.UUID | None, partition: int, codec: int = 0) -> Any:
        records = bytes(encode_batch([Record(b"k", b"v", timestamp_ms=1_700_000_000_000)], codec))
        data = {"name": topic, "topic_id": topic_id, "partition_data": [{"index": partition, "records": records}]}
        body = {"transactional_id": None, "acks": -1, "timeout": 5000, "topic_data": [data]}
        return self.ask(PRODUCE, version, body).responses[0].partition_responses[0]

    def fetch(self, topic: str, offset: int = 0, limit: int = 1 << 20, replica_id: int = -1) -> Any:
        row = {"partition": 0, "fetch_offset": offset, "partition_max_bytes": limit}
        body = {
            "replica_id": replica_id,
            "max_wait": 0,
            "min_bytes": 1,
            "max_bytes": limit,
            "isolation_level": 0,
            "topics": [{"topic": topic, "partitions": [row]}],
        }
        return self.ask(FETCH, 4, body).responses[0].partitions[0]


@pytest.fixture
def client(weir_session_broker: BrokerThread) -> Iterator[Client]:
    made = Client(weir_session_broker.bootstrap)
    yield made
    made.socket.close()


@pytest.fixture
def topic(client: Client) -> tuple[str, uuid.UUID]:
    """A new topic; its name and id."""
    body = {
        "topics": [{"name": f"edges-{uuid.uuid4()}", "topic_id": None}],
        "allow_auto_topic_creation": True,
        "include_topic_authorized_operations": False,
    }
    made = client.ask(METADATA, 12, body).topics[0]
    assert made.error_code == ErrorCode.NONE
    return made.name, made.topic_id


def test_bytes_behind_a_body_are_ignored(client: Client) -> None:
    body = {"group_id": "", "generation_id": 0, "member_id": ""}
    assert client.ask(HEARTBEAT, 0, body, b"more").error_code == ErrorCode.INVALID_GROUP_ID


def test_an_unknown_partition_of_a_known_id_is_no_unknown_id(client: Client, topic: tuple[str, uuid.UUID]) -> None:
    assert client.produce(13, *topic, 900).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert client.produce(13, "", uuid.UUID(int=7), 0).error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_zstd_needs_produce_version_7(client: Client, topic: tuple[str, uuid.UUID]) -> None:
    assert client.produce(6, *topic, 0, CODEC_ZSTD).error_code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert client.produce(7, *topic, 0, CODEC_ZSTD).error_code == ErrorCode.NONE


def test_limits_of_zero_give_the_first_batch(client: Client, topic: tuple[str, uuid.UUID]) -> None:
    for _ in range(2):
        assert client.produce(9, *topic, 0).error_code == ErrorCode.NONE
    both = client.fetch(topic[0])
    one = client.fetch(topic[0], limit=0)
    assert 0 < len(one.records) < len(both.records)


def test_a_replica_is_refused(client: Client, topic: tuple[str, uuid.UUID]) -> None:
    assert client.fetch(topic[0], replica_id=4242).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
