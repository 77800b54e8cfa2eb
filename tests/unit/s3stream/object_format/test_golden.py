"""The bytes of the object format: a change here is a change of what is in everybody's buckets."""

from __future__ import annotations

import pytest
from crc32c import crc32c

from s3stream.errors import Corrupt, Invalid
from s3stream.object_builder import ObjectBuilder, Run
from s3stream.object_format import (
    KIND_STREAM_SET,
    AbortedTxn,
    Footer,
    IndexEntry,
    decode_state,
    encode_state,
    object_key,
    object_prefix,
    parse_footer,
    parse_index,
    parse_key,
    read_blocks,
)

GOLDEN = bytes.fromhex(
    # block of stream 3 at 0: two batches, 7 bytes
    "57424c4b 0000 00 00 0000000000000003 0000000000000000 00000002 00000007 00000007 7277b30a"
    "616263 64656667"
    # STATE block of stream 3 at 5: version 1, has state, 2 bytes of it, one aborted transaction
    "57424c4b 0001 00 00 0000000000000003 0000000000000005 00000000 0000002e 0000002e 66eded0b"
    "01 01 0000 00000002 00000001 0000000000000001 0000000000000002 0000000000000003 0000000000000004 7374"
    # block of stream 4 at 0
    "57424c4b 0000 00 00 0000000000000004 0000000000000000 00000001 00000003 00000003 eaa168e6"
    "616263"
    # index
    "00000003"
    "0000000000000003 0000000000000000 00000005 00000005 0000000000000000 0000002f 0000000000000014 0000"
    "0000000000000003 0000000000000005 00000000 00000000 000000000000002f 00000056 ffffffffffffffff 0001"
    "0000000000000004 0000000000000000 00000002 00000002 0000000000000085 0000002b 000000000000000a 0000"
    "0116e9c0"
    # footer
    "00000000000000b0 00000092 0000000000000005 00000001 0000000000000002 0001 0001 ad592384 57454952"
)


def build() -> bytes:
    builder = ObjectBuilder(object_id=5, broker_id=1, broker_epoch=2, kind=KIND_STREAM_SET)
    builder.add_run(
        Run(
            3, [0, 2], [2, 5], [2, 3], [10, 20], [memoryview(b"abc"), memoryview(b"defg")],
            b"st", [AbortedTxn(1, 2, 3, 4)],
        )
    )  # fmt: skip
    builder.add_run(Run(4, [0], [2], [2], [10], [memoryview(b"abc")]))
    return b"".join(builder.finish().buffers)


def test_built_object_is_the_golden_one() -> None:
    assert build().hex() == GOLDEN.hex()


def test_golden_object_reads_as_what_was_built() -> None:
    footer = parse_footer(GOLDEN, len(GOLDEN))
    assert footer == Footer(176, 146, 5, 1, 2, KIND_STREAM_SET, 1)
    entries = parse_index(GOLDEN[176:322], footer)
    assert entries == [
        IndexEntry(3, 0, 5, 5, 0, 47, 20, 0),
        IndexEntry(3, 5, 0, 0, 47, 86, -1, 1),
        IndexEntry(4, 0, 2, 2, 133, 43, 10, 0),
    ]
    data, state = read_blocks(GOLDEN[0:133], 3)
    assert (bytes(data.payload), data.batches, data.base_offset) == (b"abcdefg", 2, 0)
    assert decode_state(state.payload) == (b"st", [AbortedTxn(1, 2, 3, 4)])


@pytest.mark.parametrize(("state", "aborted"), [(None, []), (b"", []), (None, [AbortedTxn(9, 8, 7, 6)])])
def test_state_keeps_absent_and_empty_apart(state: bytes | None, aborted: list[AbortedTxn]) -> None:
    assert decode_state(encode_state(state, aborted)) == (state, aborted)


def test_state_of_another_version_is_refused() -> None:
    payload = bytearray(encode_state(b"x", []))
    payload[0] = 2
    with pytest.raises(Corrupt, match="version 2, this code reads 1"):
        decode_state(payload)


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_keys() -> None:
    key = object_key("weir", 0x2A, 0xFEED)
    assert key == "0235/weir/d/000000000000002a-000000000000feed"
    assert key.startswith(object_prefix("weir", 0x2A))
    assert parse_key(key) == ("weir", 42)
    assert parse_key("0000" + key[4:]) is None
    assert parse_key("probe/x") is None
    with pytest.raises(Invalid):
        object_key("weir", 1, 1 << 64)
