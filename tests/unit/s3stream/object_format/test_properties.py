"""Objects of any shape read back as what went in; any other bytes raise Corrupt and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3stream.errors import Corrupt, Invalid
from s3stream.object_builder import BuiltObject, ObjectBuilder, Run
from s3stream.object_format import (
    BLOCK_HEADER_SIZE_BYTES,
    FLAG_STATE,
    FOOTER_SIZE_BYTES,
    KIND_STREAM,
    AbortedTxn,
    Footer,
    decode_state,
    parse_footer,
    parse_index,
    parse_key,
    read_block,
    read_blocks,
)

offsets = st.integers(0, 1 << 40)


@st.composite
def runs(draw: st.DrawFn, stream_id: int) -> Run:
    base = draw(offsets)
    bases, ends, payloads, stamps = [], [], [], []
    for _ in range(draw(st.integers(1, 6))):
        base += draw(st.integers(0, 3))
        end = base + draw(st.integers(1, 100))
        bases.append(base)
        ends.append(end)
        payloads.append(memoryview(draw(st.binary(min_size=1, max_size=60))))
        stamps.append(draw(st.integers(-1, 1 << 45)))
        base = end
    counts = [end - base for base, end in zip(bases, ends, strict=True)]
    aborted = draw(st.lists(st.builds(AbortedTxn, offsets, offsets, offsets, offsets), max_size=2))
    return Run(stream_id, bases, ends, counts, stamps, payloads, draw(st.none() | st.binary(max_size=20)), aborted)


@st.composite
def objects(draw: st.DrawFn) -> tuple[list[Run], BuiltObject, int]:
    target = draw(st.integers(1, 200))
    stream_ids = sorted(draw(st.sets(st.integers(0, 1 << 50), min_size=1, max_size=4)))
    content = [draw(runs(stream_id)) for stream_id in stream_ids]
    builder = ObjectBuilder(draw(offsets), draw(st.integers(0, 1 << 30)), draw(offsets), KIND_STREAM, target)
    for run in content:
        builder.add_run(run)
    return content, builder.finish(), target


@settings(max_examples=40)
@given(objects())
def test_object_reads_back(built: tuple[list[Run], BuiltObject, int]) -> None:
    content, result, target = built
    data = b"".join(result.buffers)
    assert len(data) == result.size_bytes
    footer = parse_footer(data[-FOOTER_SIZE_BYTES:], len(data))
    index_end = footer.index_position + footer.index_length
    assert parse_index(data[footer.index_position : index_end], footer) == result.entries
    for run, placed in zip(content, result.runs, strict=True):
        blocks = list(read_blocks(data[placed.position : placed.position + placed.size_bytes], run.stream_id))
        assert b"".join(block.payload for block in blocks) == b"".join(run.payloads)
        assert sum(block.batches for block in blocks) == len(run.payloads)
        assert all(block.batches == 1 or len(block.payload) <= target for block in blocks)
        assert (placed.start_offset, placed.end_offset) == (run.base_offsets[0], run.end_offsets[-1])
        assert placed.records == sum(run.record_counts)
        assert placed.max_timestamp_ms == max(run.max_timestamps_ms)
        if run.state is None and not run.aborted:
            assert placed.state_size == 0
        else:
            block = read_block(data[placed.state_position :], run.stream_id, run.end_offsets[-1])
            assert (block.flags, block.size) == (FLAG_STATE, placed.state_size)
            assert decode_state(block.payload) == (run.state, list(run.aborted))


@settings(max_examples=40)
@given(objects(), st.integers(0), st.integers(0, 7))
def test_every_flipped_bit_is_found(built: tuple[list[Run], BuiltObject, int], place: int, bit: int) -> None:
    data = bytearray(b"".join(built[1].buffers))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(Corrupt):
        read_everything(bytes(data))


def read_everything(data: bytes) -> None:
    footer = parse_footer(data, len(data))
    entries = parse_index(data[footer.index_position : footer.index_position + footer.index_length], footer)
    for entry in entries:
        read_block(data[entry.position : entry.position + entry.size], entry.stream_id, entry.base_offset)


READERS: list[Callable[[bytes], object]] = [
    parse_footer,
    decode_state,
    lambda data: parse_index(data, Footer(0, len(data), 1, 1, 1, 1, 1)),
    lambda data: read_block(data, 1),
    lambda data: list(read_blocks(data, 1)),
    read_everything,
]


@pytest.mark.parametrize("reader", READERS)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_corrupt(reader: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(Corrupt):
        reader(data)


@given(st.text(max_size=60))
def test_parse_key_takes_any_text(text: str) -> None:
    parse_key(text)


def test_payload_views_pass_through_uncopied() -> None:
    payload = memoryview(bytearray(b"batch"))
    builder = ObjectBuilder(1, 1, 1, KIND_STREAM)
    builder.add_run(Run(1, [0], [1], [1], [0], [payload]))
    assert any(buffer is payload for buffer in builder.finish().buffers)


def test_block_of_another_stream_or_offset_is_refused() -> None:
    builder = ObjectBuilder(1, 1, 1, KIND_STREAM)
    builder.add_run(Run(7, [10], [11], [1], [0], [memoryview(b"batch")]))
    data = b"".join(builder.finish().buffers)
    assert read_block(data, 7, 10).size == BLOCK_HEADER_SIZE_BYTES + 5
    with pytest.raises(Corrupt, match="expected a block of stream 8, found 7 at 10"):
        read_block(data, 8)
    with pytest.raises(Corrupt, match="expected a block of stream 7 at 9, found 7 at 10"):
        read_block(data, 7, 9)
    with pytest.raises(Corrupt, match="44 bytes of 45 came"):
        read_block(data[:44], 7)


def bad_run(stream_id: int = 5, bases: tuple[int, ...] = (0, 1), ends: tuple[int, ...] = (1, 2), size: int = 1) -> Run:
    return Run(stream_id, bases, ends, [1] * len(bases), [0] * len(bases), [memoryview(b"x" * size)] * len(bases))


@pytest.mark.parametrize(
    "run",
    [
        bad_run(stream_id=4),
        bad_run(bases=(), ends=()),
        bad_run(ends=(1, 2, 3)),
        bad_run(bases=(0, 0)),
        bad_run(ends=(0, 2)),
        bad_run(size=0),
    ],
)
def test_builder_refuses_misuse(run: Run) -> None:
    builder = ObjectBuilder(1, 1, 1, KIND_STREAM)
    builder.add_run(bad_run(stream_id=4))
    with pytest.raises(Invalid):
        builder.add_run(run)


def test_builder_refuses_empty_object_and_unknown_kind() -> None:
    with pytest.raises(Invalid):
        ObjectBuilder(1, 1, 1, KIND_STREAM).finish()
    with pytest.raises(Invalid):
        ObjectBuilder(1, 1, 1, 7)


def test_steps_give_way_after_each_block() -> None:
    builder = ObjectBuilder(1, 1, 1, KIND_STREAM, block_target_size_bytes=10)
    run = Run(1, range(5), range(1, 6), [1] * 5, [0] * 5, [memoryview(b"x" * 10)] * 5, state=b"")
    assert list(builder.add_run_in_steps(run)) == [0, *[50] * 5, BLOCK_HEADER_SIZE_BYTES + 12]


def test_a_run_of_very_many_batches_is_checked_in_steps_to_its_last() -> None:
    count = 10_000
    payloads = [memoryview(b"x")] * count
    run = Run(1, range(count), range(1, count + 1), [1] * count, [0] * count, payloads)
    assert list(ObjectBuilder(1, 1, 1, KIND_STREAM).add_run_in_steps(run))[:-1] == [0] * 3
    overlapping = [*range(1, count), count - 1]
    with pytest.raises(Invalid, match=rf"batch \[{count - 1}, {count - 1}\) after offset {count - 1}"):
        ObjectBuilder(1, 1, 1, KIND_STREAM).add_run(run._replace(end_offsets=overlapping))
    between = [*range(4096), 4095, *range(4097, count)]  # it overlaps the one before, across two steps
    with pytest.raises(Invalid, match=r"batch \[4095, 4097\) after offset 4096"):
        ObjectBuilder(1, 1, 1, KIND_STREAM).add_run(run._replace(base_offsets=between))


def test_a_block_of_many_batches_is_one_buffer_with_the_same_bytes() -> None:
    payloads = [memoryview(bytes([number % 256]) * (1 + number % 7)) for number in range(300)]

    def built(target: int) -> BuiltObject:
        builder = ObjectBuilder(1, 1, 1, KIND_STREAM, block_target_size_bytes=target)
        builder.add_run(Run(1, range(300), range(1, 301), [1] * 300, [0] * 300, payloads))
        return builder.finish()

    one = built(1 << 20)
    assert len(one.buffers) == 3  # header, batches, index and footer
    assert len(one.buffers[1]) == sum(map(len, payloads)) == one.entries[0].size - BLOCK_HEADER_SIZE_BYTES
    assert bytes(one.buffers[1]) == b"".join(payloads)
    few = built(100)
    assert len(few.buffers) == 300 + len(few.entries) + 1
