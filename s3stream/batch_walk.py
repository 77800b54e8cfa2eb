"""Walking RecordBatch v2: the few header fields that the engine needs to find its way, nothing about records.

Layout (big-endian, Kafka's record batch magic 2): base offset i64 @0, length i32 @8 (bytes after it), magic i8 @16,
last offset delta i32 @23, max timestamp i64 @35, record count i32 @57; the header is 61 bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from s3stream.errors import Corrupt

HEADER_SIZE_BYTES = 61
_OVERHEAD = 12  # base offset and length, which the length field does not count
_HEADER = Struct(">qi4xb4x2xi8xq")  # up to and with the max timestamp: 43 bytes
_MAGIC = 2


class BatchSpan(NamedTuple):
    """One batch inside a buffer: `[start_offset, end_offset)` at `[position, position + size_bytes)`."""

    start_offset: int
    end_offset: int
    max_timestamp_ms: int
    position: int
    size_bytes: int


def walk(payload: memoryview) -> Iterator[BatchSpan]:
    """The batches that `payload` holds back to back. Corrupt when a header makes no sense or the end is torn."""
    position, size = 0, len(payload)
    while position < size:
        if size - position < HEADER_SIZE_BYTES:
            raise Corrupt(f"torn record batch: {size - position} bytes left at {position}, a header takes 61")
        base, length, magic, delta, max_timestamp = _HEADER.unpack_from(payload, position)
        whole = length + _OVERHEAD
        if magic != _MAGIC or whole < HEADER_SIZE_BYTES or whole > size - position or base < 0 or delta < 0:
            raise Corrupt(
                f"no record batch at {position}: magic {magic}, size {whole} of {size - position} bytes left, "
                f"base offset {base}, last offset delta {delta}"
            )
        yield BatchSpan(base, base + delta + 1, max_timestamp, position, whole)
        position += whole


class BatchIndex:
    """The batches of one block as arrays: where each starts and ends, in offsets and in bytes."""

    __slots__ = ("ends", "payload", "positions", "starts", "timestamps")

    def __init__(self, payload: memoryview) -> None:
        self.payload = payload
        self.starts = array("q")
        self.ends = array("q")
        self.timestamps = array("q")
        self.positions = array("q")
        last_end = -1
        for span in walk(payload):
            if span.start_offset < last_end:
                raise Corrupt(f"record batches overlap: {span.start_offset} after {last_end}")
            last_end = span.end_offset
            self.starts.append(span.start_offset)
            self.ends.append(span.end_offset)
            self.timestamps.append(span.max_timestamp_ms)
            self.positions.append(span.position)
        self.positions.append(len(payload))

    def first_at_or_after(self, offset: int) -> int:
        """Number of the first batch whose last offset is at or after `offset`; the count of batches when none is."""
        return bisect_left(self.ends, offset + 1)

    def batch(self, number: int) -> memoryview:
        return self.payload[self.positions[number] : self.positions[number + 1]]

    def own(self) -> None:
        """Keep nothing alive but the batches themselves: a payload that is part of something larger is copied."""
        if self.payload.obj is not None and self.payload.nbytes < memoryview(self.payload.obj).nbytes:
            self.payload = memoryview(bytes(self.payload))

    def __len__(self) -> int:
        return len(self.ends)

    def take(self, offset: int, max_bytes: int, below: int) -> list[memoryview]:
        """Batches from the one that holds `offset` (or the next) while they end at or before `below` and fit.

        The first one is returned even when it is larger than `max_bytes`.
        """
        taken: list[memoryview] = []
        number, room = self.first_at_or_after(offset), max_bytes
        while number < len(self.ends) and self.ends[number] <= below:
            size = self.positions[number + 1] - self.positions[number]
            if taken and size > room:
                break
            taken.append(self.batch(number))
            room -= size
            number += 1
        return taken
