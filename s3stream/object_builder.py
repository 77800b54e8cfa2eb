"""Builds one object from the runs of its streams. Pure; the format is specified in `object_format.py`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import gt, sub
from typing import NamedTuple

from typing_extensions import Buffer

from s3stream.errors import Invalid
from s3stream.object_format import (
    BLOCK_HEADER_SIZE_BYTES,
    FLAG_STATE,
    KIND_STREAM,
    KIND_STREAM_SET,
    MAX_PAYLOAD_SIZE_BYTES,
    RANGE_HAS_ABORTED,
    RANGE_HAS_STATE,
    AbortedTxn,
    IndexEntry,
    encode_block_header,
    encode_index_and_footer,
    encode_state,
)

BLOCK_TARGET_SIZE_BYTES = 1 << 20
_MAX_OFFSET_DELTA = 0xFFFFFFFF
_CHECK_BATCHES = 4096
_JOINED_FROM = 64
"""A block of more batches is copied into one buffer: each further buffer costs the checksum and the store's write about
a microsecond with the interpreter's lock held, a copy 0.1 us per KiB."""


class Run(NamedTuple):
    """What one stream contributes: its batches as columns of equal length, in offset order, none of them parsed here.

    `payloads[i]` is one whole RecordBatch v2 that covers `[base_offsets[i], end_offsets[i])`. Holes between batches are
    allowed (compacted data), overlaps are not. `state` and `aborted` go into a STATE block when there is anything.
    """

    stream_id: int
    base_offsets: Sequence[int]
    end_offsets: Sequence[int]
    record_counts: Sequence[int]
    max_timestamps_ms: Sequence[int]
    payloads: Sequence[memoryview]
    state: bytes | None = None
    aborted: Sequence[AbortedTxn] = ()


class BuiltRun(NamedTuple):
    """Where a run ended up: the content of its range row. `[position, position + size_bytes)` are its data blocks,
    `[state_position, state_position + state_size)` its STATE block (size 0: none), right behind them."""

    stream_id: int
    start_offset: int
    end_offset: int
    position: int
    size_bytes: int
    records: int
    max_timestamp_ms: int
    flags: int
    state_position: int
    state_size: int


class BuiltObject(NamedTuple):
    buffers: list[Buffer]
    size_bytes: int
    entries: list[IndexEntry]
    runs: list[BuiltRun]


class ObjectBuilder:
    """Builds one object from runs given in ascending stream order. Payload views are passed through; only those of a
    block of many small batches are joined, once.

    Invariants: a batch is never split; a block is at most `block_target_size_bytes` unless one batch alone is larger;
    nothing is kept of a run but its views or their copy, its header bytes and its index entries. Misuse raises Invalid.
    """

    def __init__(
        self,
        object_id: int,
        broker_id: int,
        broker_epoch: int,
        kind: int,
        block_target_size_bytes: int = BLOCK_TARGET_SIZE_BYTES,
    ) -> None:
        if kind not in (KIND_STREAM_SET, KIND_STREAM):
            raise Invalid(f"object kind is {kind}, expected {KIND_STREAM_SET} or {KIND_STREAM}")
        self._identity = (object_id, broker_id, broker_epoch, kind)
        self._target = block_target_size_bytes
        self._buffers: list[Buffer] = []
        self._position = 0
        self._entries: list[IndexEntry] = []
        self._runs: list[BuiltRun] = []
        self._last_stream_id = -1

    @property
    def size_bytes(self) -> int:
        """Bytes of the blocks so far."""
        return self._position

    def add_run(self, run: Run) -> BuiltRun:
        """Append a run whole."""
        for _ in self.add_run_in_steps(run):
            pass
        return self._runs[-1]

    def add_run_in_steps(self, run: Run) -> Iterator[int]:
        """Append a run, yielding after each step (about 0.1 ms per MiB of CRC, 1 ms for the checks of many batches) the
        bytes it added, so that a caller on an event loop can give way; it must be exhausted before anything else is
        called."""
        _check_shape(run, self._last_stream_id)
        for begin in range(0, len(run.payloads), _CHECK_BATCHES):
            _check_columns(run, begin, begin + _CHECK_BATCHES)
            yield 0
        self._last_stream_id = run.stream_id
        start = self._position
        first = len(self._entries)
        for begin, end in _cut_blocks(run, self._target):
            yield self._add_data_block(run, begin, end)
        flags, state_position, state_size = 0, 0, 0
        size = self._position - start
        if run.state is not None or run.aborted:
            state_position = self._position
            state_size = self._add_state_block(run)
            flags = (RANGE_HAS_STATE if run.state is not None else 0) | (RANGE_HAS_ABORTED if run.aborted else 0)
            yield state_size
        data = [entry for entry in self._entries[first:] if not entry.flags & FLAG_STATE]
        self._runs.append(
            BuiltRun(
                run.stream_id,
                run.base_offsets[0],
                run.end_offsets[-1],
                start,
                size,
                sum(entry.records for entry in data),
                max(entry.max_timestamp_ms for entry in data),
                flags,
                state_position,
                state_size,
            )
        )

    def finish(self) -> BuiltObject:
        """The whole object; the builder is used up."""
        if not self._runs:
            raise Invalid("an object needs at least one run")
        object_id, broker_id, broker_epoch, kind = self._identity
        tail = encode_index_and_footer(self._entries, self._position, object_id, broker_id, broker_epoch, kind)
        self._buffers.append(tail)
        return BuiltObject(self._buffers, self._position + len(tail), self._entries, self._runs)

    def _add_data_block(self, run: Run, begin: int, end: int) -> int:
        payloads: Sequence[memoryview] = run.payloads[begin:end]
        if end - begin > _JOINED_FROM:
            payloads = (memoryview(b"".join(payloads)),)
        base = run.base_offsets[begin]
        size = self._add_block(0, run.stream_id, base, end - begin, payloads)
        self._entries.append(
            IndexEntry(
                run.stream_id,
                base,
                run.end_offsets[end - 1] - base,
                sum(run.record_counts[begin:end]),
                self._position - size,
                size,
                max(run.max_timestamps_ms[begin:end]),
                0,
            )
        )
        return size

    def _add_state_block(self, run: Run) -> int:
        payload = memoryview(encode_state(run.state, run.aborted))
        end_offset = run.end_offsets[-1]
        size = self._add_block(FLAG_STATE, run.stream_id, end_offset, 0, (payload,))
        self._entries.append(IndexEntry(run.stream_id, end_offset, 0, 0, self._position - size, size, -1, FLAG_STATE))
        return size

    def _add_block(
        self, flags: int, stream_id: int, base_offset: int, batches: int, payloads: Sequence[memoryview]
    ) -> int:
        header = encode_block_header(flags, stream_id, base_offset, batches, payloads)
        self._buffers.append(header)
        self._buffers.extend(payloads)
        size = BLOCK_HEADER_SIZE_BYTES + sum(map(len, payloads))
        self._position += size
        return size


def _check_shape(run: Run, last_stream_id: int) -> None:
    if run.stream_id <= last_stream_id:
        raise Invalid(f"run of stream {run.stream_id} after stream {last_stream_id}: one run per stream, ascending")
    count = len(run.payloads)
    columns = (run.base_offsets, run.end_offsets, run.record_counts, run.max_timestamps_ms)
    if count == 0 or any(len(column) != count for column in columns):
        raise Invalid(f"run of stream {run.stream_id}: columns of {count} and {[len(column) for column in columns]}")


def _check_columns(run: Run, begin: int, end: int) -> None:
    """Batches `begin` to `end` of a run. Column by column: a run of small batches has many thousands of them."""
    bases, ends = run.base_offsets[begin:end], run.end_offsets[begin:end]
    sizes = list(map(len, run.payloads[begin:end]))
    reached = run.end_offsets[begin - 1] if begin else 0
    widths = list(map(sub, ends, bases))
    overlaps = map(gt, [reached, *ends], bases)
    if min(widths) <= 0 or max(widths) > _MAX_OFFSET_DELTA or any(overlaps):
        raise Invalid(f"run of stream {run.stream_id}: {_first_out_of_order(reached, bases, ends)}")
    if min(sizes) <= 0 or max(sizes) > MAX_PAYLOAD_SIZE_BYTES:
        raise Invalid(f"run of stream {run.stream_id}: a batch has {min(sizes)} or {max(sizes)} bytes")


def _first_out_of_order(reached: int, bases: Sequence[int], ends: Sequence[int]) -> str:
    for base, end in zip(bases, ends, strict=True):
        if base < reached or not base < end <= base + _MAX_OFFSET_DELTA:
            return f"batch [{base}, {end}) after offset {reached}"
        reached = end
    return "no batch out of order"


def _cut_blocks(run: Run, target_size_bytes: int) -> Iterator[tuple[int, int]]:
    """Half-open index ranges of the batches that share a block."""
    ends_at = list(accumulate(map(len, run.payloads)))  # position behind each batch, from the start of the run
    begin, began_at = 0, 0
    while begin < len(ends_at):
        fits_size = bisect_right(ends_at, began_at + target_size_bytes, begin)
        fits_width = bisect_right(run.end_offsets, run.base_offsets[begin] + _MAX_OFFSET_DELTA, begin)
        end = max(begin + 1, min(fits_size, fits_width))
        yield begin, end
        begin, began_at = end, ends_at[end - 1]
