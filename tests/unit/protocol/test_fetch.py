"""Fetch's hand-written codec against kio, versions 4 to 18."""

from __future__ import annotations

import tracemalloc
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import MalformedRequest, UnsupportedVersion
from protocol.fetch import (
    MAX_VERSION,
    MIN_VERSION,
    encode_empty_partition,
    encode_fetch_response,
    parse_fetch_request,
    unpack_partition,
)
from protocol.message_schema import load
from protocol.messages import encode_response
from tests.unit.protocol.message_samples import kio_bytes, to_entity

VERSIONS = range(MIN_VERSION, MAX_VERSION + 1)
INT8 = st.integers(-128, 127)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=5) | st.just("x" * 200)

request_partitions = st.fixed_dictionaries(
    {
        "partition": INT32,
        "current_leader_epoch": INT32,
        "fetch_offset": INT64,
        "last_fetched_epoch": INT32,
        "log_start_offset": INT64,
        "partition_max_bytes": INT32,
        "replica_directory_id": st.none() | st.none() | st.uuids(),
    }
)
requests = st.fixed_dictionaries(
    {
        "replica_id": INT32,
        "replica_state": st.fixed_dictionaries({"replica_id": INT32, "replica_epoch": INT64}) | st.just({}),
        "cluster_id": st.none() | TEXT,
        "max_wait": INT32,
        "min_bytes": INT32,
        "max_bytes": INT32,
        "isolation_level": INT8,
        "session_id": INT32,
        "session_epoch": INT32,
        "topics": st.lists(
            st.fixed_dictionaries(
                {"topic": TEXT, "topic_id": st.uuids(), "partitions": st.lists(request_partitions, max_size=3)}
            ),
            max_size=3,
        ),
        "forgotten_topics_data": st.lists(
            st.fixed_dictionaries({"topic": TEXT, "topic_id": st.uuids(), "partitions": st.lists(INT32, max_size=3)}),
            max_size=2,
        ),
        "rack_id": TEXT,
    }
)
EPOCH_PAIR = st.none() | st.tuples(INT32, INT32) | st.just((-1, -1))
partitions = st.tuples(
    INT32,
    st.sampled_from([0, 1, 6, 74]),
    INT64,
    INT64,
    INT64,
    st.none() | st.lists(st.tuples(INT64, INT64), max_size=3),
    INT32,
    st.lists(st.binary(max_size=9) | st.just(b"r" * 20_000), max_size=3).map(
        lambda items: [memoryview(item) for item in items]
    ),
    EPOCH_PAIR,
    EPOCH_PAIR,
)
topics = st.lists(
    st.tuples(TEXT, st.uuids().map(lambda value: value.bytes), st.lists(partitions, max_size=3)), max_size=3
)
endpoints = st.lists(st.tuples(INT32, TEXT, INT32, st.none() | TEXT), max_size=2)


def request_bytes(version: int, body: dict[str, Any]) -> bytes:
    return kio_bytes(to_entity(load(1, version, "request"), body))


def expected_partition(version: int, row: dict[str, Any]) -> tuple[int, ...]:
    return (
        row["partition"],
        row["current_leader_epoch"] if version >= 9 else -1,
        row["fetch_offset"],
        row["last_fetched_epoch"] if version >= 12 else -1,
        row["log_start_offset"] if version >= 5 else -1,
        row["partition_max_bytes"],
    )


def response_body(throttle_ms: int, error_code: int, session_id: int, topics: Any, node_endpoints: Any) -> Any:
    """The same response as `encode_response` takes it; that is proved equal to kio elsewhere."""
    return {
        "throttle_time": throttle_ms,
        "error_code": error_code,
        "session_id": session_id,
        "responses": [
            {
                "topic": name,
                "topic_id": uuid.UUID(bytes=topic_id),
                "partitions": [
                    {
                        "partition_index": index,
                        "error_code": error,
                        "high_watermark": high_watermark,
                        "last_stable_offset": last_stable,
                        "log_start_offset": log_start,
                        "aborted_transactions": None
                        if aborted is None
                        else [{"producer_id": producer, "first_offset": first} for producer, first in aborted],
                        "preferred_read_replica": replica,
                        "records": b"".join(records),
                        "diverging_epoch": {"epoch": diverging[0], "end_offset": diverging[1]} if diverging else {},
                        "current_leader": {"leader_id": leader[0], "leader_epoch": leader[1]} if leader else {},
                    }
                    for (
                        index,
                        error,
                        high_watermark,
                        last_stable,
                        log_start,
                        aborted,
                        replica,
                        records,
                        diverging,
                        leader,
                    ) in rows
                ],
            }
            for name, topic_id, rows in topics
        ],
        "node_endpoints": [
            {"node_id": node_id, "host": host, "port": port, "rack": rack}
            for node_id, host, port, rack in node_endpoints
        ],
    }


@given(version=st.sampled_from(VERSIONS), body=requests, offset=st.integers(0, 3))
@settings(max_examples=120, deadline=None)
def test_requests_equal_kio(version: int, body: dict[str, Any], offset: int) -> None:
    buf = memoryview(b"\xff" * offset + request_bytes(version, body))
    request = parse_fetch_request(version, buf, offset)
    by_id = version >= 13
    assert request.replica_id == (body["replica_state"].get("replica_id", -1) if version >= 15 else body["replica_id"])
    assert (request.max_wait_ms, request.min_bytes, request.max_bytes, request.isolation_level) == (
        body["max_wait"],
        body["min_bytes"],
        body["max_bytes"],
        body["isolation_level"],
    )
    assert (request.session_id, request.session_epoch) == (
        (body["session_id"], body["session_epoch"]) if version >= 7 else (0, -1)
    )
    assert [
        (name, topic_id, [unpack_partition(version, row) for row in rows]) for name, topic_id, rows in request.topics
    ] == [
        (
            None if by_id else topic["topic"],
            topic["topic_id"].bytes if by_id else None,
            [expected_partition(version, row) for row in topic["partitions"]],
        )
        for topic in body["topics"]
    ]
    assert request.forgotten == [
        (
            None if by_id else topic["topic"],
            topic["topic_id"].bytes if by_id else None,
            tuple(topic["partitions"]),
        )
        for topic in (body["forgotten_topics_data"] if version >= 7 else [])
    ]
    assert request.rack_id == (body["rack_id"] if version >= 11 else "")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_truncation_and_every_huge_count_is_malformed_in_bounded_memory(version: int) -> None:
    row = {
        "partition": 1,
        "current_leader_epoch": 2,
        "fetch_offset": 3,
        "last_fetched_epoch": 4,
        "log_start_offset": 5,
        "partition_max_bytes": 6,
        "replica_directory_id": uuid.UUID(int=9),
    }
    topic = {"topic": "ab", "topic_id": uuid.UUID(int=5)}
    body = {
        "replica_state": {"replica_id": 4, "replica_epoch": 4},
        "max_wait": 1,
        "min_bytes": 1,
        "topics": [{**topic, "partitions": [row, {**row, "replica_directory_id": None}]}],
        "forgotten_topics_data": [{**topic, "partitions": [1, 2]}],
        "rack_id": "r",
    }
    data = request_bytes(version, body)
    parse_fetch_request(version, memoryview(data), 0)
    for end in range(len(data)):
        with pytest.raises(MalformedRequest):
            parse_fetch_request(version, memoryview(data)[:end], 0)
    with_more = parse_fetch_request(version, memoryview(data + b"\x00\x07"), 0)
    assert with_more == parse_fetch_request(version, memoryview(data), 0)
    tracemalloc.start()
    try:
        for pos in range(len(data)):
            for count in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff"):
                try:
                    parse_fetch_request(version, memoryview(data[:pos] + count + data[pos + len(count) :]), 0)
                except MalformedRequest:
                    continue
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


@given(version=st.sampled_from(VERSIONS), data=st.binary(max_size=80))
@settings(max_examples=120, deadline=None)
def test_arbitrary_bytes_raise_only_malformed_request(version: int, data: bytes) -> None:
    try:
        parse_fetch_request(version, memoryview(data), 0)
    except MalformedRequest:
        return


@given(data=st.data(), version=st.sampled_from(VERSIONS), body=requests)
@settings(max_examples=80, deadline=None)
def test_mutated_requests_raise_only_malformed_request(data: st.DataObject, version: int, body: dict[str, Any]) -> None:
    raw = bytearray(request_bytes(version, body))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_fetch_request(version, memoryview(raw), 0)
    except MalformedRequest:
        return


@given(
    version=st.sampled_from(VERSIONS),
    correlation_id=INT32,
    throttle_ms=st.sampled_from([0, 9]),
    error_code=st.sampled_from([0, 70]),
    session_id=INT32,
    topics=topics,
    endpoints=st.just([]) | endpoints,
)
@settings(max_examples=120, deadline=None)
def test_responses_equal_kio_and_pass_records_through(
    version: int,
    correlation_id: int,
    throttle_ms: int,
    error_code: int,
    session_id: int,
    topics: list[Any],
    endpoints: list[Any],
) -> None:
    buffers = encode_fetch_response(version, correlation_id, throttle_ms, error_code, session_id, topics, endpoints)
    body = response_body(throttle_ms, error_code, session_id, topics, endpoints)
    assert b"".join(buffers) == encode_response(1, version, correlation_id, body)
    given_views = [view for _, _, rows in topics for row in rows for view in row[7] if any(map(len, row[7]))]
    assert [id(view) for view in buffers if isinstance(view, memoryview)] == [id(view) for view in given_views]
    assert all(len(buffer) for buffer in buffers if isinstance(buffer, bytearray))


@given(version=st.sampled_from(VERSIONS), index=INT32, offsets=st.tuples(INT64, INT64, INT64), committed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_empty_partition_encoded_once_is_what_its_row_would_be(
    version: int, index: int, offsets: tuple[int, int, int], committed: bool
) -> None:
    once = encode_empty_partition(version, index, *offsets, read_committed=committed)
    row = (index, 0, *offsets, () if committed else None, -1, (), None, None)
    records = [memoryview(b"records")]
    other = (index, 0, *offsets, None, -1, records, None, None)
    mixed = encode_fetch_response(version, 1, 0, 0, 0, [("t", bytes(16), [once, other, once])])
    assert b"".join(mixed) == b"".join(
        encode_fetch_response(version, 1, 0, 0, 0, [("t", bytes(16), [row, other, row])])
    )


def test_rows_that_ask_for_the_same_are_equal_whatever_tags_stand_between_them() -> None:
    row = {"partition": 1, "fetch_offset": 3, "partition_max_bytes": 6}
    other = {**row, "partition": 2}
    tagged = {**other, "replica_directory_id": uuid.UUID(int=9)}
    head = {"max_wait": 1, "min_bytes": 1, "forgotten_topics_data": []}

    def rows_of(*partitions: dict[str, Any]) -> list[bytes]:
        body = {**head, "topics": [{"topic_id": uuid.UUID(int=5), "partitions": list(partitions)}]}
        return parse_fetch_request(17, memoryview(request_bytes(17, body)), 0).topics[0][2]

    assert rows_of(row, tagged) == rows_of(row, other)
    assert rows_of(row, tagged) != rows_of(row, row)


@pytest.mark.parametrize("version", [3, 19])
def test_other_versions_are_unsupported(version: int) -> None:
    with pytest.raises(UnsupportedVersion):
        parse_fetch_request(version, memoryview(b""), 0)
    with pytest.raises(UnsupportedVersion):
        encode_fetch_response(version, 1, 0, 0, 0, [])
