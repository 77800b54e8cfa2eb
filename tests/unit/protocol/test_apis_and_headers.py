"""The table of served APIs, ApiVersions responses, headers, size prefix and varints, against kio and Kafka's table."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode as KioErrorCode
from kio.schema.request_header.v1.header import RequestHeader as KioHeader1
from kio.schema.request_header.v2.header import RequestHeader as KioHeader2
from kio.serial import entity_writer

from protocol.apis import API_VERSIONS, NEVER_FLEXIBLE, SERVED, api_versions_response, is_served
from protocol.errors import ErrorCode, MalformedRequest, error_for_code
from protocol.headers import (
    NOT_SERVED,
    RequestHeader,
    parse_request_header,
    parse_size,
    request_header,
    response_header,
)
from protocol.message_schema import load
from protocol.messages import decode_response, encode_response
from protocol.varint import read_uvarint, read_varlong, uvarint, varlong
from tests.unit.protocol.message_samples import ALL_VERSIONS

KAFKA_4_3 = (
    "0 0-13, 1 4-18, 2 1-11, 3 0-13, 8 2-10, 9 1-10, 10 0-6, 11 0-9, 12 0-4, 13 0-5, 14 0-5, 15 0-6, 16 0-5, 18 0-4, "
    "19 2-7, 20 1-6, 21 0-2, 22 0-5, 23 2-4, 32 1-4, 33 0-2, 37 0-3, 42 0-2, 44 0-1, 47 0-0, 60 0-2"
)


def test_ranges_are_those_of_kafka_4_3() -> None:
    table = ", ".join(f"{api.key} {api.min_version}-{api.max_version}" for api in SERVED.values())
    assert table == KAFKA_4_3
    assert [api.key for api in SERVED.values() if api.served_from != api.min_version] == [0]
    assert [is_served(0, version) for version in (-1, 2, 3, 13, 14)] == [False, False, True, True, False]
    assert not is_served(17, 0)


@pytest.mark.parametrize(("api_key", "version"), ALL_VERSIONS)
def test_flexibility_is_that_of_kio(api_key: int, version: int) -> None:
    api = SERVED[api_key]
    assert api.is_flexible(version) == load(api_key, version, "request").flexible
    assert load(api_key, version, "response").flexible == api.is_flexible(version)
    header_version = load(api_key, version, "response").entity.__header_schema__.__version__
    assert response_header(api_key, version, 9) == struct.pack(">i", 9) + b"\x00" * header_version
    assert api.flexible_from <= api.max_version or api.flexible_from == NEVER_FLEXIBLE


def test_error_codes_are_those_of_kio() -> None:
    assert {code.name: (int(code), code.retriable) for code in ErrorCode} == {
        code.name.upper(): (int(code), code.retriable) for code in KioErrorCode
    }
    assert error_for_code(6) is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert error_for_code(9999) is ErrorCode.UNKNOWN_SERVER_ERROR


@pytest.mark.parametrize("version", range(5))
def test_api_versions_responses_list_every_served_api(version: int) -> None:
    frame = api_versions_response(version, 3)
    keys = [
        {"api_key": api.key, "min_version": api.min_version, "max_version": api.max_version} for api in SERVED.values()
    ]
    assert frame == encode_response(API_VERSIONS, version, 3, {"error_code": 0, "api_keys": keys, "throttle_time": 0})
    _, entity = decode_response(API_VERSIONS, version, frame[4:])
    assert len(entity.api_keys) == len(SERVED)


@pytest.mark.parametrize("version", [-1, 5, 99])
def test_unknown_api_versions_version_is_answered_in_version_0_with_its_own_range(version: int) -> None:
    assert api_versions_response(version, 3) == bytes.fromhex("00000010 00000003 0023 00000001 0012 0000 0004")


def test_a_refused_api_versions_request_lists_nothing() -> None:
    frame = api_versions_response(3, 8, ErrorCode.INVALID_REQUEST)
    assert decode_response(API_VERSIONS, 3, frame[4:])[1].error_code is ErrorCode.INVALID_REQUEST
    assert decode_response(API_VERSIONS, 3, frame[4:])[1].api_keys == ()


@pytest.mark.parametrize("client_id", [None, "", "weir-é"])
@pytest.mark.parametrize(("api_key", "version"), [(3, 8), (3, 9), (18, 0), (18, 3), (47, 0), (60, 0)])
def test_request_headers_equal_kio(api_key: int, version: int, client_id: str | None) -> None:
    kio_header = KioHeader2 if SERVED[api_key].is_flexible(version) else KioHeader1
    with io.BytesIO() as out:
        entity_writer(kio_header)(
            out,
            kio_header(request_api_key=api_key, request_api_version=version, correlation_id=-2, client_id=client_id),
        )
        data = out.getvalue()
    assert request_header(api_key, version, -2, client_id) == data
    assert parse_request_header(memoryview(data + b"body")) == (api_key, version, -2, client_id, len(data))
    for end in range(len(data)):
        with pytest.raises(MalformedRequest):
            parse_request_header(memoryview(data)[:end])


@pytest.mark.parametrize(("api_key", "version"), [(99, 0), (-1, 5), (0, 2), (3, 14), (API_VERSIONS, 7)])
def test_a_header_of_what_is_not_served_gives_key_version_and_correlation_id(api_key: int, version: int) -> None:
    data = memoryview(struct.pack(">hhi", api_key, version, 42) + b"\xff\xfe\xff")
    assert parse_request_header(data) == RequestHeader(api_key, version, 42, None, NOT_SERVED)


def test_tagged_fields_of_a_header_are_skipped() -> None:
    data = struct.pack(">hhih", 3, 9, 1, -1)
    assert parse_request_header(memoryview(data + b"\x02\x00\x01a\x07\x02bcX")).body_offset == len(data) + 8
    for section in (b"\x01\x00\x05a", b"\x01", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff"):
        with pytest.raises(MalformedRequest):
            parse_request_header(memoryview(data + section))


@pytest.mark.parametrize("length", [1, 32767])
def test_a_bad_client_id_length_is_malformed(length: int) -> None:
    with pytest.raises(MalformedRequest):
        parse_request_header(memoryview(struct.pack(">hhih", 3, 0, 1, length)))


def test_a_client_id_of_any_negative_length_is_null() -> None:
    assert parse_request_header(memoryview(struct.pack(">hhih", 3, 0, 1, -2))).client_id is None


def test_a_client_id_that_is_not_utf_8_is_read_with_replacement_characters() -> None:
    header = parse_request_header(memoryview(struct.pack(">hhih", 3, 0, 1, 2) + b"\xffa"))
    assert (header.client_id, header.body_offset) == ("\ufffda", 12)


@given(data=st.binary(max_size=40))
def test_arbitrary_header_bytes_raise_only_malformed_request(data: bytes) -> None:
    try:
        header = parse_request_header(memoryview(data))
    except MalformedRequest:
        return
    assert NOT_SERVED <= header.body_offset <= len(data)


def test_size_prefix() -> None:
    assert parse_size(struct.pack(">i", 100) + b"rest", 100) == 100
    assert parse_size(struct.pack(">i", 0), 100) == 0
    with pytest.raises(MalformedRequest, match="0 to 100 bytes expected, got 101"):
        parse_size(struct.pack(">i", 101), 100)
    with pytest.raises(MalformedRequest, match="got -1"):
        parse_size(struct.pack(">i", -1), 100)
    with pytest.raises(MalformedRequest, match="4 bytes expected, got 3"):
        parse_size(b"\x00\x00\x00", 100)


@given(value=st.integers(0, 2**32 - 1))
@example(0)
@example(127)
@example(128)
@example(2**32 - 1)
def test_unsigned_varints_round_trip(value: int) -> None:
    data = uvarint(value)
    assert read_uvarint(b"\x00" + data, 1) == (value, len(data) + 1)
    for end in range(len(data)):
        with pytest.raises(IndexError):
            read_uvarint(data[:end], 0)


@given(value=st.integers(-(2**63), 2**63 - 1))
@example(-64)
@example(63)
@example(64)
@example(-65)
@example(-(2**63))
def test_zigzag_varints_round_trip(value: int) -> None:
    data = varlong(value)
    assert read_varlong(data, 0) == (value, len(data))


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\x10", b"\x80\x80\x80\x80\x80\x00", b"\xff" * 12])
def test_overlong_unsigned_varints_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_uvarint(data, 0)


@pytest.mark.parametrize("data", [b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x00", b"\xff" * 20])
def test_overlong_zigzag_varints_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_varlong(data, 0)


@pytest.mark.parametrize("value", [-1, 2**32])
def test_numbers_out_of_range_are_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        uvarint(value)
    with pytest.raises(ValueError, match="expected"):
        varlong(2**63 if value > 0 else -(2**63) - 1)
