"""The bytes of the WAL: golden, round trip, and no damage goes unseen."""

from __future__ import annotations

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from s3stream.errors import Corrupt
from s3stream.wal.device_memory import MemoryWalDevice
from s3stream.wal.file_wal import FileWal, FileWalSettings
from s3stream.wal.frame import (
    FRAME_HEADER_SIZE,
    REWRITTEN,
    SEAL,
    SEGMENT_HEADER_SIZE,
    FrameHeader,
    NewerFormat,
    SegmentHeader,
    claim_durable,
    decode_frame_header,
    decode_payload,
    decode_segment_header,
    encode_frame_header,
    encode_segment_header,
    frame_size,
)

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
HEADERS = st.builds(
    FrameHeader,
    flags=st.sampled_from([0, SEAL, REWRITTEN]),
    segment=U32,
    wal_epoch=U64,
    durable_lsn=U64,
    length=U32,
    lsn=U64,
    previous_lsn=U64,
    stream_id=U64,
    base_offset=U64,
    max_timestamp_ms=st.integers(-(2**63), 2**63 - 1),
    stream_epoch=U32,
    record_count=U32,
    payload_crc=U32,
)
HEADER = FrameHeader(REWRITTEN, 7, 3, 99, 5, 101, 100, 42, 1_000_000, 1_700_000_000_123, 6, 2, crc32c(b"hello"))
GOLDEN_FRAME = bytes.fromhex(
    "5746524d01020000000000070000000000000003000000000000006300000005"
    "00000000000000650000000000000064000000000000002a00000000000f4240"
    "0000018bcfe5687b00000006000000029a71bb4ca7a9b267"
)
GOLDEN_SEGMENT = bytes.fromhex(
    "5753454701010000000000000000000700000000000000030000000000000065000000000000003c0000000015070046"
)


def test_golden_bytes() -> None:
    assert encode_frame_header(HEADER).hex() == GOLDEN_FRAME.hex()
    assert decode_frame_header(memoryview(GOLDEN_FRAME), 0) == HEADER
    header = SegmentHeader(True, 7, 3, 101, 60)
    assert encode_segment_header(header).hex() == GOLDEN_SEGMENT.hex()
    assert decode_segment_header(memoryview(GOLDEN_SEGMENT)) == header
    assert (len(GOLDEN_FRAME), len(GOLDEN_SEGMENT)) == (FRAME_HEADER_SIZE, SEGMENT_HEADER_SIZE)


def test_frames_begin_at_multiples_of_eight() -> None:
    assert [frame_size(length) for length in (0, 1, 8, 9)] == [88, 96, 96, 104]


@given(HEADERS)
def test_headers_survive_the_round_trip(header: FrameHeader) -> None:
    encoded = encode_frame_header(header)
    assert decode_frame_header(memoryview(b"\0" * 8 + encoded), 8) == header
    assert claim_durable(encoded, 5) == encode_frame_header(header._replace(durable_lsn=5))


@given(HEADERS, st.integers(0, FRAME_HEADER_SIZE * 8 - 1))
def test_any_flipped_bit_of_a_header_is_seen(header: FrameHeader, bit: int) -> None:
    damaged = bytearray(encode_frame_header(header))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corrupt):
        decode_frame_header(memoryview(damaged), 0)


@given(st.integers(0, SEGMENT_HEADER_SIZE * 8 - 1))
def test_any_flipped_bit_of_a_segment_header_is_seen(bit: int) -> None:
    damaged = bytearray(GOLDEN_SEGMENT)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corrupt):
        decode_segment_header(memoryview(damaged))


@given(st.binary(max_size=200), st.integers(0, 200))
def test_arbitrary_bytes_raise_only_corrupt(data: bytes, offset: int) -> None:
    with pytest.raises(Corrupt):
        decode_frame_header(memoryview(data), offset)
    with pytest.raises(Corrupt):
        decode_segment_header(memoryview(data))


def test_payloads() -> None:
    frame = memoryview(GOLDEN_FRAME + b"hello!")
    assert bytes(decode_payload(frame, 0, HEADER)) == b"hello"
    with pytest.raises(Corrupt, match="ends after 4"):
        decode_payload(frame[:-2], 0, HEADER)
    with pytest.raises(Corrupt, match="payload is"):
        decode_payload(memoryview(GOLDEN_FRAME + b"hellO!"), 0, HEADER)


def test_whole_bytes_of_a_newer_version_are_not_taken_for_damage() -> None:
    newer = bytearray(GOLDEN_FRAME)
    newer[4] = 2
    newer[84:] = crc32c(newer[:84]).to_bytes(4, "big")
    with pytest.raises(NewerFormat, match="newer release"):
        decode_frame_header(memoryview(newer), 0)
    segment = bytearray(GOLDEN_SEGMENT)
    segment[4] = 2
    segment[44:] = crc32c(segment[:44]).to_bytes(4, "big")
    with pytest.raises(NewerFormat, match="newer release"):
        decode_segment_header(memoryview(segment))


async def test_the_file_wal_writes_these_bytes() -> None:
    device = MemoryWalDevice(4096)
    wal = FileWal(device, FileWalSettings(capacity_bytes=4 * 4096), lambda entries: None, lambda error: None)
    await wal.begin(3, await wal.recover(0))
    wal.append(42, 6, 1000, 2, 123, memoryview(b"hello"), "a")
    wal.append(43, 7, 2000, 3, -1, memoryview(b"world"), "b")
    await wal.close()
    expected = encode_segment_header(SegmentHeader(False, 1, 3, 1, 1))
    expected += encode_frame_header(FrameHeader(SEAL, 1, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0))
    expected += encode_frame_header(FrameHeader(0, 1, 3, 1, 5, 2, 1, 42, 1000, 123, 6, 2, crc32c(b"hello")))
    expected += b"hello\0\0\0"
    expected += encode_frame_header(FrameHeader(0, 1, 3, 1, 5, 3, 2, 43, 2000, -1, 7, 3, crc32c(b"world")))
    expected += b"world"
    assert bytes(device.segments[1][: len(expected)]).hex() == expected.hex()
