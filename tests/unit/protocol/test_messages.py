"""Message codecs against kio, on every served API and version, both directions."""

from __future__ import annotations

import datetime
import random
import struct
import tracemalloc
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.serial.errors import NegativeByteLength

from protocol.apis import SERVED
from protocol.errors import ErrorCode, MalformedRequest, UnsupportedVersion
from protocol.headers import parse_request_header, request_header
from protocol.message_schema import RETIRED_FIELDS, Message, Side, load
from protocol.messages import (
    MAX_BODY_BYTES,
    decode_request,
    decode_response,
    duration_ms,
    encode_request,
    encode_response,
    field,
)
from tests.unit.protocol.message_samples import ALL_VERSIONS, kio_bytes, kio_entity, random_body, to_entity

SAMPLES_PER_VERSION = 4
SIDES: tuple[Side, ...] = ("request", "response")
_COMMIT = {"group_id": "g", "generation_id_or_member_epoch": 1, "member_id": "m", "topics": []}
HUGE_COUNTS = (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f")


@pytest.mark.parametrize(("api_key", "version"), ALL_VERSIONS)
def test_requests_equal_kio(api_key: int, version: int) -> None:
    message = load(api_key, version, "request")
    rng = random.Random(api_key * 100 + version)
    for _ in range(SAMPLES_PER_VERSION):
        body = random_body(message, rng)
        entity = to_entity(message, body)
        frame = encode_request(api_key, version, 77, "client", body)
        header = parse_request_header(memoryview(frame)[4:])
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        assert header[:4] == (api_key, version, 77, "client")
        data = frame[4 + header.body_offset :]
        assert data == kio_bytes(entity)
        decoded = decode_request(api_key, version, memoryview(frame)[4:], header.body_offset)
        assert decoded == entity == kio_entity(message.entity, data)


@pytest.mark.parametrize(("api_key", "version"), ALL_VERSIONS)
def test_responses_equal_kio(api_key: int, version: int) -> None:
    message = load(api_key, version, "response")
    header_bytes = 4 + message.entity.__header_schema__.__version__  # correlation id, and one tag count in version 1
    rng = random.Random(api_key * 100 + version + 7)
    for _ in range(SAMPLES_PER_VERSION):
        body = random_body(message, rng)
        entity = to_entity(message, body)
        frame = encode_response(api_key, version, -5, body)
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        assert frame[4 + header_bytes :] == kio_bytes(entity)
        assert decode_response(api_key, version, frame[4:]) == (-5, entity)
        assert decode_response(api_key, version, frame[4:])[1] == kio_entity(message.entity, frame[4 + header_bytes :])


@pytest.mark.parametrize(("api_key", "version"), ALL_VERSIONS)
def test_every_truncation_and_every_huge_count_is_malformed_in_bounded_memory(api_key: int, version: int) -> None:
    message = load(api_key, version, "request")
    body = random_body(message, random.Random(api_key * 100 + version + 13), small=True)
    data = kio_bytes(to_entity(message, body))
    decode_request(api_key, version, memoryview(data), 0)
    for end in range(len(data)):
        with pytest.raises(MalformedRequest):
            decode_request(api_key, version, memoryview(data)[:end], 0)
    with_more = decode_request(api_key, version, memoryview(data + b"\x00\x07"), 0)
    assert with_more == decode_request(api_key, version, memoryview(data), 0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for pos in range(len(data)):
            for count in HUGE_COUNTS:
                try:
                    decode_request(api_key, version, memoryview(data[:pos] + count + data[pos + len(count) :]), 0)
                except MalformedRequest:
                    continue
        assert tracemalloc.get_traced_memory()[1] - before < 1_000_000
    finally:
        tracemalloc.stop()


@given(key_and_version=st.sampled_from(ALL_VERSIONS), data=st.binary(max_size=60))
@settings(max_examples=400, deadline=None)
def test_arbitrary_bytes_raise_only_malformed_request(key_and_version: tuple[int, int], data: bytes) -> None:
    for decode in (
        lambda: decode_request(*key_and_version, memoryview(data), 0),
        lambda: decode_response(*key_and_version, data),
    ):
        try:
            decode()
        except MalformedRequest:
            continue


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_mutated_requests_decode_as_kio_decodes_them_or_are_malformed(data: st.DataObject) -> None:
    api_key, version = data.draw(st.sampled_from(ALL_VERSIONS))
    message = load(api_key, version, "request")
    body = random_body(message, data.draw(st.randoms(use_true_random=False)))
    raw = bytearray(kio_bytes(to_entity(message, body)))
    if raw:
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_request(api_key, version, memoryview(raw), 0)
    except MalformedRequest:
        return
    # What decodes is safe for kio's own reader, which knows no unknown tags, no boolean but 0 and 1, and of negative
    # lengths only -1.
    try:
        expected = kio_entity(message.entity, bytes(raw), bytes_may_follow=True)
    except (KeyError, ValueError, OverflowError, NegativeByteLength):
        return
    assert decoded == expected


def test_a_five_byte_request_that_would_end_kio_is_malformed() -> None:
    with pytest.raises(MalformedRequest, match="Metadata version 9"):
        decode_request(3, 9, memoryview(b"\xff\xff\xff\xff\x0f"), 0)


def test_a_body_above_the_limit_is_malformed() -> None:
    with pytest.raises(MalformedRequest, match="at most"):
        decode_request(3, 9, memoryview(bytes(MAX_BODY_BYTES + 2)), 1)


def test_an_entity_holds_no_view_of_the_buffer() -> None:
    body = {
        "group_id": "g",
        "session_timeout": 10_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b"before"}],
    }
    frame = bytearray(encode_request(11, 0, 1, None, body))
    view = memoryview(frame)[4:]
    entity = decode_request(11, 0, view, parse_request_header(view).body_offset)
    view[-6:] = b"behind"
    assert entity.protocols[0].metadata == b"before"


def test_null_is_refused_where_kafka_forbids_it() -> None:
    create_topics = struct.pack(">iib", -1, 0, 0)
    with pytest.raises(MalformedRequest, match="array topics expected, got null"):
        decode_request(19, 2, memoryview(create_topics), 0)


def test_any_negative_length_is_null() -> None:
    assert decode_request(3, 1, memoryview(struct.pack(">i", -2)), 0).topics is None


def test_unknown_tagged_fields_are_skipped() -> None:
    entity = decode_request(3, 9, memoryview(b"\x01\x01\x01\x01\x02\x05\x02ab\x06\x00"), 0)
    assert entity.topics == ()
    with pytest.raises(MalformedRequest):
        decode_request(3, 9, memoryview(b"\x01\x01\x01\x01\x01\x05\x03ab"), 0)


def test_any_byte_but_zero_is_true() -> None:
    assert decode_request(19, 2, memoryview(struct.pack(">iib", 0, 0, 7)), 0).validate_only is True


def test_durations_beyond_a_timedelta_are_clamped() -> None:
    body = {"group_id": "g", "generation_id_or_member_epoch": 1, "member_id": "", "topics": []}
    frame = memoryview(encode_request(8, 2, 1, None, {**body, "retention_time": (1 << 63) - 1}))[4:]
    entity = decode_request(8, 2, frame, parse_request_header(frame).body_offset)
    assert duration_ms(entity.retention_time) == 86_400_000 * 999_999_999


def test_one_body_serves_every_version() -> None:
    coordinator = {"error_code": 0, "error_message": None, "node_id": 1, "host": "h", "port": 9092}
    body = {"throttle_time": 3, **coordinator, "coordinators": [{"key": "g", **coordinator}]}
    for version in range(SERVED[10].max_version + 1):
        _, entity = decode_response(10, version, encode_response(10, version, 1, body)[4:])
        node = entity.coordinators[0] if version >= 4 else entity
        assert (node.node_id, node.host, node.port) == (1, "h", 9092)
        assert field(entity, "throttle_time", datetime.timedelta(0)) == datetime.timedelta(
            milliseconds=3 * (version > 0)
        )


def test_missing_unknown_and_null_fields_are_type_errors() -> None:
    with pytest.raises(TypeError, match=r"Heartbeat version 4.*error_code"):
        encode_response(12, 4, 1, {"throttle_time": 0})
    with pytest.raises(TypeError, match="trottle_time"):
        encode_response(12, 4, 1, {"throttle_time": 0, "error_code": 0, "trottle_time": 1})
    topic = {"error_code": 0, "name": "t", "topic_id": None, "partitions": [], "is_internl": True}
    with pytest.raises(TypeError, match="is_internl"):
        encode_response(3, 1, 1, {"brokers": [], "controller_id": 1, "topics": [topic], "throttle_time": 0})
    with pytest.raises(TypeError, match="topics"):
        encode_response(3, 1, 1, {"brokers": [], "controller_id": 1, "topics": None})
    with pytest.raises(ValueError, match="Heartbeat"):
        encode_response(12, 4, 1, {"throttle_time": 0, "error_code": 70_000})


def test_retired_fields_are_those_that_the_newest_version_lacks() -> None:
    found: dict[tuple[int, Side, str], set[str]] = {}
    for api in SERVED.values():
        for side in SIDES:
            newest = dict(_structs(load(api.key, api.max_version, side)))
            for version in range(api.served_from, api.max_version + 1):
                for name, fields in _structs(load(api.key, version, side)):
                    found.setdefault((api.key, side, name), set()).update(fields - newest.get(name, set()))
    assert {key: tuple(sorted(names)) for key, names in found.items() if names} == RETIRED_FIELDS


def _structs(message: Message) -> Iterator[tuple[str, set[str]]]:
    yield message.entity.__name__, {each.name for each in message.fields}
    for each in message.fields:
        if each.struct is not None:
            yield from _structs(each.struct)


def test_a_field_of_another_version_has_its_default_and_a_misspelt_one_none() -> None:
    old = decode_request(8, 5, memoryview(encode_request(8, 5, 1, "c", _COMMIT)), len(request_header(8, 5, 1, "c")) + 4)
    assert field(old, "group_instance_id", None) is None  # newer
    assert field(old, "retention_time", 7) == 7  # older
    with pytest.raises(AttributeError):
        field(old, "group_instance", None)


def test_values_are_coerced() -> None:
    topic_id = uuid.UUID(int=7)
    for given_id, expected in ((topic_id, topic_id), (topic_id.bytes, topic_id), (None, None), (bytes(16), None)):
        topic = {"name": "t", "topic_id": given_id, "error_code": ErrorCode.UNKNOWN_TOPIC_ID, "error_message": None}
        body = {"throttle_time": datetime.timedelta(seconds=2), "responses": [topic]}
        _, entity = decode_response(20, 6, encode_response(20, 6, 1, body)[4:])
        assert entity.responses[0].topic_id == expected
        assert entity.responses[0].error_code is ErrorCode.UNKNOWN_TOPIC_ID
        assert duration_ms(entity.throttle_time) == 2000


def test_field_gives_the_default_only_for_a_field_of_another_version() -> None:
    frame = memoryview(encode_request(12, 0, 1, None, {"group_id": "g", "generation_id": 1, "member_id": "m"}))[4:]
    entity = decode_request(12, 0, frame, parse_request_header(frame).body_offset)
    assert field(entity, "group_id", None) == "g"
    assert field(entity, "group_instance_id", None) is None
    with pytest.raises(AttributeError, match="group_instance"):
        field(entity, "group_instance", None)


@pytest.mark.parametrize(("api_key", "version"), [(0, 2), (3, 14), (17, 0), (-1, 0), (12, -1), (22, 6)])
def test_what_is_not_served_is_an_unsupported_version(api_key: int, version: int) -> None:
    with pytest.raises(UnsupportedVersion):
        decode_request(api_key, version, memoryview(b""), 0)
    with pytest.raises(UnsupportedVersion):
        encode_response(api_key, version, 1, {})
    with pytest.raises(UnsupportedVersion):
        encode_request(api_key, version, 1, None, {})
    with pytest.raises(UnsupportedVersion):
        decode_response(api_key, version, b"\x00\x00\x00\x00")
