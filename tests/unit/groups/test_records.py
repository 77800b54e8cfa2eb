"""Formats of `__consumer_offsets`: bytes written by Apache Kafka 4.3, round trips, arbitrary input."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.groups.consumer_protocol import subscribed_topics
from broker.groups.records import (
    GroupKey,
    GroupValue,
    MemberValue,
    OffsetKey,
    OffsetValue,
    OtherKey,
    decode_group_value,
    decode_key,
    decode_offset_value,
    encode_group_key,
    encode_group_value,
    encode_offset_key,
    encode_offset_value,
)
from s3stream.errors import Corrupt, Invalid

TOPIC_ID = UUID("45915a16-b218-440d-81ab-93effc40a98b")
SUBSCRIPTION = bytes.fromhex("000300000001000577676f6c640000000000000000ffffffff0000")
ASSIGNMENT = bytes.fromhex("000000000001000577676f6c6400000002000000000000000100000000")

OFFSET_KEY = bytes.fromhex("0001000777676f6c642d67000577676f6c6400000000")
OFFSET_VALUE = bytes.fromhex(
    "00040000000000000005ffffffff066d65746100000001a1fc1554fb01001045915a16b218440d81ab93effc40a98b"
)
OFFSET_WITH_EPOCH = bytes.fromhex(
    "000400000000000000080000000001000001a1fc15689301001085b7faa900a640b882cb50c56390dd2a"
)
GROUP_KEY = bytes.fromhex("0002000777676f6c642d67")
EMPTY_GROUP_VALUE = bytes.fromhex("0003000000000000ffffffff000001a1fc15534300000000")
GROUP_VALUE = bytes.fromhex(
    "00030008636f6e73756d657200000001000572616e6765002a696e7374312d64663239636636642d666466352d346264612d383132652d6261"
    "63653130353064366336000001a1fc15534500000001002a696e7374312d64663239636636642d666466352d346264612d383132652d626163"
    "6531303530643663360005696e7374310003636c69000a2f3132372e302e302e31000493e0000027100000001b000300000001000577676f6c"
    "640000000000000000ffffffff00000000001d000000000001000577676f6c6400000002000000000000000100000000"
)


def test_offset_golden_bytes() -> None:
    assert decode_key(OFFSET_KEY) == OffsetKey("wgold-g", "wgold", 0)
    assert encode_offset_key("wgold-g", "wgold", 0) == OFFSET_KEY
    value = OffsetValue(5, -1, "meta\x00", 0x1A1FC1554FB, -1, TOPIC_ID)  # the client sent the NUL
    assert decode_offset_value(OFFSET_VALUE) == value
    assert encode_offset_value(value) == OFFSET_VALUE
    assert decode_offset_value(OFFSET_WITH_EPOCH).leader_epoch == 0


def test_group_golden_bytes() -> None:
    assert decode_key(GROUP_KEY) == GroupKey("wgold-g")
    assert encode_group_key("wgold-g") == GROUP_KEY
    empty = GroupValue("", 0, None, None, 0x1A1FC155343, ())
    assert decode_group_value(EMPTY_GROUP_VALUE) == empty
    assert encode_group_value(empty) == EMPTY_GROUP_VALUE
    value = decode_group_value(GROUP_VALUE)
    member_id = "inst1-df29cf6d-fdf5-4bda-812e-bace1050d6c6"
    member = MemberValue(member_id, "inst1", "cli", "/127.0.0.1", 300_000, 10_000, SUBSCRIPTION, ASSIGNMENT)
    assert value == GroupValue("consumer", 1, "range", member_id, 0x1A1FC155345, (member,))
    assert encode_group_value(value) == GROUP_VALUE


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("0000 0000000000000007 0001 6d 0000000000000009", OffsetValue(7, -1, "m", 9)),
        ("0001 0000000000000007 0001 6d 0000000000000009 000000000000000a", OffsetValue(7, -1, "m", 9, 10)),
        ("0002 0000000000000007 0000 0000000000000009", OffsetValue(7, -1, "", 9)),
        ("0003 0000000000000007 00000002 0000 0000000000000009", OffsetValue(7, 2, "", 9)),
        ("0004 0000000000000007 00000002 01 0000000000000009 00", OffsetValue(7, 2, "", 9)),
    ],
)
def test_every_offset_value_version(raw: str, expected: OffsetValue) -> None:
    data = bytes.fromhex(raw)
    assert decode_offset_value(data) == expected
    assert encode_offset_value(expected, data[1]) == data


def test_unknown_tagged_fields_and_long_metadata_are_read() -> None:
    value = OffsetValue(1, 2, "m" * 300, 3, -1, TOPIC_ID)
    assert decode_offset_value(encode_offset_value(value)) == value
    two_tags = encode_offset_value(value)[:-19] + b"\x02\x00\x10" + TOPIC_ID.bytes + b"\x05\x01z"
    assert decode_offset_value(two_tags) == value
    nil = encode_offset_value(value._replace(topic_id=UUID(int=0)))
    assert decode_offset_value(nil).topic_id is None


@given(st.integers(0, len(OFFSET_VALUE) - 1), st.integers(0, len(OFFSET_KEY) - 1))
def test_every_truncation_of_an_offset_is_corrupt(value_length: int, key_length: int) -> None:
    with pytest.raises(Corrupt):
        decode_offset_value(OFFSET_VALUE[:value_length])
    with pytest.raises(Corrupt):
        decode_key(OFFSET_KEY[:key_length])


def test_other_record_types_are_only_named() -> None:
    assert decode_key(b"\x00\x03\x00\x01g") == OtherKey(3)


text = st.text(max_size=20)
offset_values = st.builds(
    OffsetValue,
    st.integers(-1, 2**62),
    st.integers(-1, 2**30),
    text,
    st.integers(0, 2**50),
    st.just(-1),
    st.none() | st.uuids(),
).filter(lambda value: value.topic_id is None or value.topic_id.int != 0)
members = st.builds(
    MemberValue,
    text,
    st.none() | text,
    text,
    text,
    st.integers(0, 2**30),
    st.integers(0, 2**30),
    st.binary(max_size=30),
    st.binary(max_size=30),
)
group_values = st.builds(
    GroupValue,
    text,
    st.integers(0, 2**30),
    st.none() | text,
    st.none() | text,
    st.integers(-1, 2**50),
    st.lists(members, max_size=3).map(tuple),
)


@given(offset_values)
def test_offset_value_round_trip(value: OffsetValue) -> None:
    assert decode_offset_value(encode_offset_value(value)) == value


@given(group_values, st.sampled_from([3, 4]))
def test_group_value_round_trip(value: GroupValue, version: int) -> None:
    assert decode_group_value(encode_group_value(value, version)) == value


@given(st.binary(max_size=80), st.sampled_from([0, 1, 2, 3, 4]))
def test_arbitrary_bytes_raise_only_corrupt(tail: bytes, version: int) -> None:
    for decode in (decode_key, decode_offset_value, decode_group_value, subscribed_topics):
        try:
            decode(version.to_bytes(2, "big") + tail)
        except Corrupt:
            pass


@given(st.integers(0, len(GROUP_VALUE) - 1))
def test_every_truncation_is_corrupt(length: int) -> None:
    with pytest.raises(Corrupt):
        decode_group_value(GROUP_VALUE[:length])


def test_too_long_string_is_refused() -> None:
    with pytest.raises(Invalid):
        encode_group_key("x" * 40_000)


def test_subscription_prefix_of_any_version() -> None:
    assert subscribed_topics(SUBSCRIPTION) == {"wgold"}
