"""Produce's hand-written codec against kio, versions 3 to 13."""

from __future__ import annotations

import tracemalloc
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import MalformedRequest, UnsupportedVersion
from protocol.message_schema import load
from protocol.messages import encode_response
from protocol.produce import (
    MAX_VERSION,
    MIN_VERSION,
    accepted_index,
    encode_accepted,
    encode_produce_response,
    parse_produce_request,
)
from tests.unit.protocol.message_samples import kio_bytes, to_entity

VERSIONS = range(MIN_VERSION, MAX_VERSION + 1)
INT16 = st.integers(-(2**15), 2**15 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=5) | st.just("x" * 200)
TOPIC_ID = st.uuids().map(lambda value: value.bytes)

requests = st.fixed_dictionaries(
    {
        "transactional_id": st.none() | TEXT,
        "acks": INT16,
        "timeout": INT32,
        "topic_data": st.lists(
            st.fixed_dictionaries(
                {
                    "name": TEXT,
                    "topic_id": st.uuids(),
                    "partition_data": st.lists(
                        st.fixed_dictionaries(
                            {"index": INT32, "records": st.none() | st.binary(max_size=9) | st.just(b"r" * 20_000)}
                        ),
                        max_size=3,
                    ),
                }
            ),
            max_size=3,
        ),
    }
)
partitions = st.tuples(
    INT32,
    st.sampled_from([0, 3, 87, 6]),
    INT64,
    st.integers(-1, 2**40),
    INT64,
    st.just(()) | st.lists(st.tuples(INT32, st.none() | TEXT), max_size=3),
    st.none() | TEXT,
    st.none() | st.tuples(INT32, INT32) | st.just((-1, -1)),
)
topics = st.lists(st.tuples(TEXT, TOPIC_ID, st.lists(partitions, max_size=3)), max_size=3)
endpoints = st.lists(st.tuples(INT32, TEXT, INT32, st.none() | TEXT), max_size=2)


def request_bytes(version: int, body: dict[str, Any]) -> bytes:
    return kio_bytes(to_entity(load(0, version, "request"), body))


def response_body(
    topics: list[Any], throttle_ms: int, node_endpoints: list[tuple[int, str, int, str | None]]
) -> dict[str, Any]:
    """The same response as `encode_response` takes it; that is proved equal to kio elsewhere."""
    return {
        "responses": [
            {
                "name": name,
                "topic_id": uuid.UUID(bytes=topic_id),
                "partition_responses": [
                    {
                        "index": index,
                        "error_code": error,
                        "base_offset": base_offset,
                        "log_append_time": append_time_ms,
                        "log_start_offset": start_offset,
                        "record_errors": [
                            {"batch_index": batch_index, "batch_index_error_message": text}
                            for batch_index, text in record_errors
                        ],
                        "error_message": message,
                        "current_leader": {"leader_id": leader[0], "leader_epoch": leader[1]} if leader else {},
                    }
                    for index, error, base_offset, append_time_ms, start_offset, record_errors, message, leader in rows
                ],
            }
            for name, topic_id, rows in topics
        ],
        "throttle_time": throttle_ms,
        "node_endpoints": [
            {"node_id": node_id, "host": host, "port": port, "rack": rack}
            for node_id, host, port, rack in node_endpoints
        ],
    }


@given(version=st.sampled_from(VERSIONS), body=requests, offset=st.integers(0, 3))
@settings(max_examples=120, deadline=None)
def test_requests_equal_kio(version: int, body: dict[str, Any], offset: int) -> None:
    buf = memoryview(bytearray(b"\xff" * offset + request_bytes(version, body)))
    request = parse_produce_request(version, buf, offset)
    assert (request.transactional_id, request.acks, request.timeout_ms) == (
        body["transactional_id"],
        body["acks"],
        body["timeout"],
    )
    assert request.topics == [
        (
            topic["topic_id"].bytes if version >= 13 else topic["name"],
            [(partition["index"], partition["records"]) for partition in topic["partition_data"]],
        )
        for topic in body["topic_data"]
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_records_are_writable_views_of_the_buffer(version: int) -> None:
    body = {
        "transactional_id": None,
        "acks": -1,
        "timeout": 1,
        "topic_data": [
            {"name": "t", "topic_id": uuid.UUID(int=1), "partition_data": [{"index": 0, "records": b"before"}]}
        ],
    }
    frame = bytearray(request_bytes(version, body))
    ((_, ((_, records),)),) = parse_produce_request(version, memoryview(frame), 0).topics
    assert records is not None
    assert records.obj is frame
    records[:] = b"behind"
    assert b"behind" in frame


@pytest.mark.parametrize("version", VERSIONS)
def test_every_truncation_and_every_huge_count_is_malformed_in_bounded_memory(version: int) -> None:
    partitions = [{"index": 1, "records": b"abc"}, {"index": 2, "records": None}]
    topics = [{"name": "ab", "topic_id": uuid.UUID(int=5), "partition_data": partitions}] * 2
    data = request_bytes(version, {"transactional_id": "t", "acks": 1, "timeout": 5, "topic_data": topics})
    parse_produce_request(version, memoryview(data), 0)
    for end in range(len(data)):
        with pytest.raises(MalformedRequest):
            parse_produce_request(version, memoryview(data)[:end], 0)
    with_more = parse_produce_request(version, memoryview(data + b"\x00\x07"), 0)
    assert with_more == parse_produce_request(version, memoryview(data), 0)
    tracemalloc.start()
    try:
        for pos in range(len(data)):
            for count in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff"):
                try:
                    parse_produce_request(version, memoryview(data[:pos] + count + data[pos + len(count) :]), 0)
                except MalformedRequest:
                    continue
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


@given(version=st.sampled_from(VERSIONS), data=st.binary(max_size=60))
@settings(max_examples=120, deadline=None)
def test_arbitrary_bytes_raise_only_malformed_request(version: int, data: bytes) -> None:
    try:
        parse_produce_request(version, memoryview(data), 0)
    except MalformedRequest:
        return


@given(data=st.data(), version=st.sampled_from(VERSIONS), body=requests)
@settings(max_examples=80, deadline=None)
def test_mutated_requests_raise_only_malformed_request(data: st.DataObject, version: int, body: dict[str, Any]) -> None:
    raw = bytearray(request_bytes(version, body))
    raw[data.draw(st.integers(0, min(len(raw) - 1, 300)))] = data.draw(st.integers(0, 255))
    try:
        parse_produce_request(version, memoryview(raw), 0)
    except MalformedRequest:
        return


def test_unknown_tagged_fields_are_skipped() -> None:
    tags = b"\x01\x09\x02ab"
    data = b"\x00\x00\x01\x00\x00\x00\x05\x02\x02t\x02\x00\x00\x00\x07\x03rr" + tags + tags + tags
    request = parse_produce_request(9, memoryview(data), 0)
    assert request.topics == [("t", [(7, b"rr")])]


def accepted_encoded(version: int, topics: list[Any]) -> list[Any]:
    """The same response with those partitions encoded before that were taken."""

    def row(partition: tuple[Any, ...]) -> Any:
        index, error, base_offset, append_time_ms, start_offset, errors, message, leader = partition
        if error or errors or message is not None or leader is not None:
            return partition
        return encode_accepted(version, index, base_offset, append_time_ms, start_offset)

    return [(name, topic_id, [row(each) for each in partitions]) for name, topic_id, partitions in topics]


@given(
    version=st.sampled_from(VERSIONS),
    correlation_id=INT32,
    topics=topics,
    throttle_ms=st.sampled_from([0, 9]),
    endpoints=st.just([]) | endpoints,
)
@settings(max_examples=150, deadline=None)
def test_responses_equal_kio(
    version: int, correlation_id: int, topics: list[Any], throttle_ms: int, endpoints: list[Any]
) -> None:
    expected = encode_response(0, version, correlation_id, response_body(topics, throttle_ms, endpoints))
    assert encode_produce_response(version, correlation_id, topics, throttle_ms, endpoints) == expected
    topics = accepted_encoded(version, topics)
    assert encode_produce_response(version, correlation_id, topics, throttle_ms, endpoints) == expected


@given(
    version=st.sampled_from(VERSIONS),
    name=TEXT,
    topic_id=TOPIC_ID,
    index=INT32,
    error=st.sampled_from([0, 10]),
    base_offset=INT64,
    append_time_ms=st.integers(-1, 2**40),
)
@settings(max_examples=80, deadline=None)
def test_responses_for_one_partition_equal_kio(
    version: int, name: str, topic_id: bytes, index: int, error: int, base_offset: int, append_time_ms: int
) -> None:
    topics = [(name, topic_id, [(index, error, base_offset, append_time_ms, 5, (), None, None)])]
    expected = encode_response(0, version, 3, response_body(topics, 2, []))
    assert encode_produce_response(version, 3, topics, 2) == expected
    assert encode_produce_response(version, 3, accepted_encoded(version, topics), 2) == expected


@given(version=st.sampled_from(VERSIONS), index=INT32)
def test_the_index_of_an_accepted_partition_is_found_again(version: int, index: int) -> None:
    assert accepted_index(encode_accepted(version, index, 5, -1, 0)) == index


@pytest.mark.parametrize("version", [2, 14])
def test_other_versions_are_unsupported(version: int) -> None:
    with pytest.raises(UnsupportedVersion):
        parse_produce_request(version, memoryview(b""), 0)
    with pytest.raises(UnsupportedVersion):
        encode_produce_response(version, 1, [("t", None, [(0, 0, 0, -1, 0, (), None, None)])])
