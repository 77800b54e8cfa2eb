"""A WAL device in memory: for tests and for brokers whose log may vanish with the process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from typing_extensions import Buffer

from s3stream.errors import Invalid
from s3stream.ports import Done

_LARGE_BYTES = 8 << 10
"""Buffers of this mean size are copied one by one: to join them first costs more than a slice for each."""


class MemoryWalDevice:
    """`WalDevice` over one bytearray per segment, kept in `segments` so that it outlives the WAL that uses it.

    A write is done in the next turn of the loop. Removed segments are recycled with their content, as files are.
    Invalid for a misuse of the port.
    """

    def __init__(self, segment_size_bytes: int) -> None:
        self.segment_size_bytes = segment_size_bytes
        self.segments: dict[int, bytearray] = {}
        self._spares: list[bytearray] = []
        self._busy = False

    async def list_segments(self) -> Sequence[int]:
        return sorted(self.segments)

    async def read_segment(self, number: int, size_bytes: int | None = None) -> Buffer:
        return bytes(self._segment(number)[:size_bytes])

    async def create_segment(self, number: int) -> None:
        if number in self.segments:
            raise Invalid(f"WAL segment {number} exists already")
        self.segments[number] = self._spares.pop() if self._spares else bytearray(self.segment_size_bytes)

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        if self._busy:
            raise Invalid("two writes under way on one WAL device")
        sizes = list(map(len, cast("Sequence[bytes]", buffers)))
        size = sum(sizes)
        if offset + size > self.segment_size_bytes:
            raise Invalid(f"a write of {size} bytes at {offset} leaves WAL segment {number}")
        segment = memoryview(self._segment(number))  # a bytearray would copy what is assigned to it once more
        if size < _LARGE_BYTES * len(sizes):
            segment[offset : offset + size] = b"".join(buffers)
        else:
            for data, length in zip(buffers, sizes, strict=True):
                segment[offset : offset + length] = data
                offset += length
        self._busy = True
        asyncio.get_running_loop().call_soon(self._written, done)

    def _written(self, done: Done) -> None:
        self._busy = False
        done(None)

    async def remove_segments(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            segment = self.segments.pop(number, None)
            if segment is not None and len(self._spares) < 2:
                self._spares.append(segment)

    async def close(self) -> None:
        """Nothing to do: the content stays in `segments`."""

    def _segment(self, number: int) -> bytearray:
        segment = self.segments.get(number)
        if segment is None:
            raise Invalid(f"WAL segment {number} does not exist")
        return segment
