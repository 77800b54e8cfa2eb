"""Record batches: golden bytes, aiokafka as a second opinion, validation, in-place writes, bounded decompression."""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.compression import compress, decompress
from protocol.errors import ErrorCode
from protocol.records import (
    ATTRIBUTES_AT,
    HEADER,
    HEADER_BYTES,
    NO_TIMESTAMP,
    BatchHeader,
    InvalidBatch,
    Record,
    assign,
    batch_size_bytes,
    crc_is_valid,
    encode_batch,
    iter_batches,
    iter_records,
    parse_batch_header,
    repair_max_timestamp,
    set_log_append_time,
    validate_produce_batch,
)

CODECS = range(5)
GOLDEN = bytes.fromhex(
    "00000000000003e8 0000004e 00000003 02 36686e79 0000 00000001 0000018bcfe56800 0000018bcfe56805"
    "0000000000000fa1 0002 00000007 00000002"
    "2a 00 00 00 06 6b6579 0a 76616c7565 04 02 68 02 31 02 6e 01"
    "0c 00 0a 02 01 00 00"
)
GOLDEN_RECORDS = [
    Record(b"key", b"value", (("h", b"1"), ("n", None)), 1_700_000_000_000, 1000),
    Record(None, b"", (), 1_700_000_000_005, 1001),
]

TIMESTAMP = st.integers(NO_TIMESTAMP, 2**42)
records = st.lists(
    st.builds(
        Record,
        key=st.none() | st.binary(max_size=5),
        value=st.none() | st.binary(max_size=9) | st.just(b"v" * 300),
        headers=st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=2).map(tuple),
        timestamp_ms=TIMESTAMP,
    ),
    min_size=1,
    max_size=5,
)


def three_records(codec: int = 0, **options: Any) -> bytearray:
    return encode_batch([Record(b"k", b"v" * 50, (), 1000 + index) for index in range(3)], codec, **options)


def with_fields(**changes: int) -> memoryview:
    """A sound batch of three records with header fields changed and the CRC made right again."""
    batch = three_records()
    batch[:HEADER_BYTES] = HEADER.pack(*parse_batch_header(batch)._replace(**changes))
    if "crc" not in changes:
        struct.pack_into(">I", batch, 17, crc32c(batch[ATTRIBUTES_AT:]))
    return memoryview(batch)


def test_golden_bytes() -> None:
    batch = encode_batch(
        GOLDEN_RECORDS, base_offset=1000, leader_epoch=3, producer_id=4001, producer_epoch=2, base_sequence=7
    )
    assert batch == GOLDEN
    header = parse_batch_header(GOLDEN)
    assert header == (1000, 78, 3, 2, 0x36686E79, 0, 1, 1_700_000_000_000, 1_700_000_000_005, 4001, 2, 7, 2)
    assert (header.size_bytes, header.last_offset, header.codec) == (len(GOLDEN), 1001, 0)
    assert list(iter_records(memoryview(GOLDEN))) == GOLDEN_RECORDS
    assert crc_is_valid(memoryview(GOLDEN))


@given(records=records, codec=st.sampled_from(CODECS))
@settings(max_examples=80, deadline=None)
def test_records_round_trip_and_aiokafka_reads_them(records: list[Record], codec: int) -> None:
    batch = encode_batch(records, codec, base_offset=50)
    expected = [record._replace(offset=50 + index) for index, record in enumerate(records)]
    assert list(iter_records(memoryview(batch))) == expected
    assert parse_batch_header(batch).max_timestamp == max(record.timestamp_ms for record in records)
    theirs = DefaultRecordBatch(bytes(batch))
    assert theirs.validate_crc()
    assert [(item.offset, item.key, item.value, tuple(item.headers)) for item in theirs] == [
        (item.offset, item.key, item.value, item.headers) for item in expected
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_batches_of_aiokafka_are_read(codec: int) -> None:
    builder = DefaultRecordBatchBuilder(2, codec, 1, 77, 3, 9, 100_000)
    for index in range(20):
        builder.append(index, 5000 + index, b"key", b"value" * index, [("h", b"x")])
    batch = memoryview(bytearray(builder.build()))
    header = BatchHeader(*validate_produce_batch(batch))
    assert (header.codec, header.is_transactional, header.record_count) == (codec, True, 20)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (77, 3, 9)
    assert list(iter_records(batch)) == [
        Record(b"key", b"value" * index, (("h", b"x"),), 5000 + index, index) for index in range(20)
    ]


def test_lz4_blocks_are_independent_as_java_needs_them() -> None:
    data = random.Random(1).randbytes(70_000) + b"x" * 200_000
    frame = compress(3, data)
    assert frame[4] & 0x20
    assert bytes(cramjam.lz4.decompress(frame)) == data
    assert decompress(3, memoryview(frame)) == data
    assert decompress(3, memoryview(bytes(cramjam.lz4.compress(data)))) == data


@pytest.mark.parametrize("codec", CODECS)
def test_a_sound_batch_is_accepted(codec: int) -> None:
    batch = memoryview(three_records(codec, producer_id=5, producer_epoch=0, base_sequence=0))
    assert validate_produce_batch(batch, max_batch_bytes=len(batch)) == parse_batch_header(batch)


REFUSED: list[tuple[Callable[[], memoryview | None], ErrorCode, str]] = [
    (lambda: None, ErrorCode.INVALID_RECORD, "one record batch expected"),
    (lambda: memoryview(b""), ErrorCode.INVALID_RECORD, "one record batch expected"),
    (lambda: memoryview(three_records())[:16], ErrorCode.INVALID_RECORD, "one record batch expected"),
    (lambda: memoryview(three_records())[:60], ErrorCode.INVALID_RECORD, "got 60"),
    (lambda: memoryview(three_records())[:-1], ErrorCode.INVALID_RECORD, "bytes expected"),
    (lambda: memoryview(three_records() + b"\x00"), ErrorCode.INVALID_RECORD, "exactly one batch"),
    (lambda: memoryview(three_records() * 2), ErrorCode.INVALID_RECORD, "exactly one batch"),
    (lambda: with_fields(magic=0), ErrorCode.INVALID_RECORD, "magic 2 expected, got 0"),
    (lambda: with_fields(magic=1), ErrorCode.INVALID_RECORD, "magic 2 expected, got 1"),
    (lambda: with_fields(magic=3), ErrorCode.CORRUPT_MESSAGE, "magic 2 expected, got 3"),
    (lambda: with_fields(magic=-1), ErrorCode.CORRUPT_MESSAGE, "magic 2 expected"),
    (lambda: with_fields(batch_length=13), ErrorCode.CORRUPT_MESSAGE, "batch length of 14"),
    (lambda: with_fields(batch_length=-13), ErrorCode.CORRUPT_MESSAGE, "batch length of 14"),
    (lambda: with_fields(batch_length=2**31 - 1), ErrorCode.INVALID_RECORD, "bytes expected"),
    (lambda: with_fields(batch_length=48)[:60], ErrorCode.CORRUPT_MESSAGE, "61 bytes or more"),
    (lambda: with_fields(attributes=5), ErrorCode.INVALID_RECORD, "codec 0 to 4 expected, got 5"),
    (lambda: with_fields(base_offset=1), ErrorCode.INVALID_RECORD, "base offset 0"),
    (lambda: with_fields(crc=1), ErrorCode.CORRUPT_MESSAGE, "CRC-32C 0x00000001 expected"),
    (lambda: with_fields(record_count=0), ErrorCode.INVALID_RECORD, "1 or more records"),
    (lambda: with_fields(record_count=-1), ErrorCode.INVALID_RECORD, "1 or more records"),
    (lambda: with_fields(record_count=2), ErrorCode.INVALID_RECORD, "last offset delta 1 expected"),
    (lambda: with_fields(last_offset_delta=3), ErrorCode.INVALID_RECORD, "last offset delta 2 expected"),
    (lambda: with_fields(last_offset_delta=-1), ErrorCode.INVALID_RECORD, "last offset delta"),
    (lambda: with_fields(attributes=0x20), ErrorCode.INVALID_RECORD, "control"),
    (lambda: with_fields(attributes=0x08), ErrorCode.INVALID_TIMESTAMP, "LogAppendTime"),
    (lambda: with_fields(attributes=0x40), ErrorCode.INVALID_RECORD, "delete horizon"),
    (lambda: with_fields(producer_id=1, base_sequence=-1), ErrorCode.INVALID_RECORD, "sequence from 0"),
]


@pytest.mark.parametrize(("make", "code", "message"), REFUSED)
def test_unsound_batches_are_refused_with_kafkas_code(
    make: Callable[[], memoryview | None], code: ErrorCode, message: str
) -> None:
    with pytest.raises(InvalidBatch, match=message) as caught:
        validate_produce_batch(make())
    assert caught.value.error_code is code


def test_size_limit_and_zstd_before_version_7() -> None:
    batch = memoryview(three_records(4))
    with pytest.raises(InvalidBatch) as caught:
        validate_produce_batch(batch, max_batch_bytes=len(batch) - 1)
    assert caught.value.error_code is ErrorCode.MESSAGE_TOO_LARGE
    with pytest.raises(InvalidBatch) as caught:
        validate_produce_batch(batch, zstd_allowed=False)
    assert caught.value.error_code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


def test_every_flipped_bit_behind_the_leader_epoch_is_noticed() -> None:
    batch = three_records()
    for pos in range(16, len(batch)):
        for bit in range(8):
            batch[pos] ^= 1 << bit
            with pytest.raises(InvalidBatch):
                validate_produce_batch(memoryview(batch))
            batch[pos] ^= 1 << bit
    validate_produce_batch(memoryview(batch))


@given(data=st.binary(min_size=1, max_size=200))
def test_arbitrary_bytes_raise_only_invalid_batch(data: bytes) -> None:
    view = memoryview(bytearray(data))
    with pytest.raises(InvalidBatch):
        validate_produce_batch(view)
    with pytest.raises(InvalidBatch):
        list(iter_records(view))
    with pytest.raises(InvalidBatch):
        list(iter_batches(view))
    with pytest.raises(InvalidBatch):
        repair_max_timestamp(view)


@given(records=records, codec=st.sampled_from(CODECS), data=st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_records_raise_only_invalid_batch(records: list[Record], codec: int, data: st.DataObject) -> None:
    batch = encode_batch(records, codec)
    batch[data.draw(st.integers(HEADER_BYTES, len(batch) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidBatch):
        list(iter_records(memoryview(batch)))
    with contextlib.suppress(InvalidBatch):
        repair_max_timestamp(memoryview(batch))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x0c\x00\x00\x00\x01\x01",
        b"\x0c\x00\x00\x00\x01\x01\x00\x00",
        b"\x0e\x00\x00\x00\x01\x01\x00\x00\x00",
        b"\x0c\x00\x00\x00\x01\x01\x02",
        b"\x0c\x00\x00\x00\x01\x03\x00",
        b"\x0c\x00\x00\x00\x01\xfe\x00",
        b"\x10\x00\x00\x00\x01\x01\x02\x01\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff" * 12,
    ],
)
def test_torn_records_are_corrupt(body: bytes) -> None:
    header = parse_batch_header(three_records())._replace(
        batch_length=HEADER_BYTES - 12 + len(body), record_count=1, last_offset_delta=0
    )
    with pytest.raises(InvalidBatch) as caught:
        list(iter_records(memoryview(HEADER.pack(*header) + body)))
    assert caught.value.error_code is ErrorCode.CORRUPT_MESSAGE


def test_a_huge_record_or_header_count_allocates_nothing() -> None:
    many_records = with_fields(record_count=2**31 - 1)
    many_headers = bytearray(three_records())
    many_headers[-1:] = b"\xfe\xff\xff\xff\x0f"
    struct.pack_into(">i", many_headers, 8, len(many_headers) - 12)
    tracemalloc.start()
    try:
        for batch in (many_records, memoryview(many_headers)):
            with pytest.raises(InvalidBatch):
                list(iter_records(batch))
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_decompression_is_bounded(codec: int) -> None:
    bomb = encode_batch([Record(None, bytes(8 * 1024 * 1024))], codec)
    assert len(bomb) < 1_000_000
    with pytest.raises(InvalidBatch) as caught:
        list(iter_records(memoryview(bomb), max_decompressed_bytes=1024 * 1024))
    assert caught.value.error_code is ErrorCode.MESSAGE_TOO_LARGE
    (record,) = iter_records(memoryview(bomb))
    assert len(record.value or b"") == 8 * 1024 * 1024


def test_raw_snappy_of_librdkafka_is_read() -> None:
    data = b"some data " * 100
    assert decompress(2, memoryview(bytes(cramjam.snappy.compress_raw(data)))) == data
    with pytest.raises(InvalidBatch):
        decompress(2, memoryview(b"\xff\xff\xff\xff\x0f"), 1000)


@pytest.mark.parametrize("tail", [b"\x00", b"\x00\x00\x00\x05ab", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02\x05a"])
def test_a_damaged_snappy_stream_is_corrupt(tail: bytes) -> None:
    with pytest.raises(InvalidBatch):
        decompress(2, memoryview(compress(2, b"data") + tail))


def test_assign_writes_in_place_and_keeps_the_crc() -> None:
    batch = memoryview(three_records())
    before = bytes(batch[16:])
    assign(batch, 2**40, 9)
    header = parse_batch_header(batch)
    assert (header.base_offset, header.last_offset, header.partition_leader_epoch) == (2**40, 2**40 + 2, 9)
    assert batch[16:] == before
    assert crc_is_valid(batch)


@pytest.mark.parametrize("codec", CODECS)
def test_log_append_time_is_written_with_a_new_crc(codec: int) -> None:
    batch = memoryview(three_records(codec))
    set_log_append_time(batch, 123_456)
    header = parse_batch_header(batch)
    assert (header.is_log_append_time, header.max_timestamp, header.codec) == (True, 123_456, codec)
    assert crc_is_valid(batch)
    assert {record.timestamp_ms for record in iter_records(batch)} == {123_456}


@given(records=records, codec=st.sampled_from(CODECS))
@settings(max_examples=60, deadline=None)
def test_a_max_timestamp_left_out_is_computed_from_the_records(records: list[Record], codec: int) -> None:
    sound = encode_batch(records, codec)
    batch = bytearray(sound)
    struct.pack_into(">q", batch, 35, NO_TIMESTAMP)
    assert parse_batch_header(batch).max_timestamp_is_unset == (records[0].timestamp_ms > NO_TIMESTAMP)
    assert repair_max_timestamp(memoryview(batch)) == parse_batch_header(sound).max_timestamp
    assert batch == sound


def test_attributes() -> None:
    header = parse_batch_header(GOLDEN)
    for bit, name in (
        (0x08, "is_log_append_time"),
        (0x10, "is_transactional"),
        (0x20, "is_control"),
        (0x40, "has_delete_horizon"),
    ):
        assert not getattr(header, name)
        assert getattr(header._replace(attributes=bit), name)
    control = parse_batch_header(three_records(control=True, transactional=True))
    assert control.is_control
    assert control.is_transactional


@given(sizes=st.lists(st.integers(1, 3), max_size=5))
def test_batches_of_a_concatenation(sizes: list[int]) -> None:
    batches = [encode_batch([Record(None, b"v" * size)] * size) for size in sizes]
    data = memoryview(b"".join(batches))
    assert list(iter_batches(data)) == batches
    if batches:
        assert batch_size_bytes(data) == len(batches[0])
        with pytest.raises(InvalidBatch):
            list(iter_batches(data[:-1]))


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="one or more records"):
        encode_batch([])
    with pytest.raises(ValueError, match="codec"):
        encode_batch([Record(None, None)], 5)
    with pytest.raises(ValueError, match="codec"):
        compress(0, b"")
    with pytest.raises(InvalidBatch):
        decompress(7, memoryview(b""))
    with pytest.raises(InvalidBatch):
        parse_batch_header(b"short")
