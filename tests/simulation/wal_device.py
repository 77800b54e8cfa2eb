"""What one broker process has of its host's disk: the `WalDevice` of the ports, with its latencies and read faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from typing_extensions import Buffer

from s3stream.errors import Corrupt
from s3stream.ports import Done
from s3stream.wal.frame import REWRITTEN, decode_frame_header

if TYPE_CHECKING:
    from tests.simulation.disk import Disk


class SimulatedWalDevice:
    """One process's `WalDevice` on a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._recovering = True
        self.segment_size_bytes = disk.segment_size_bytes

    async def list_segments(self) -> Sequence[int]:
        await self._wait(1)
        return sorted(self._disk.segments)

    async def read_segment(self, number: int, size_bytes: int | None = None) -> Buffer:
        await self._wait(2)
        return self._disk.read(number, size_bytes)

    async def create_segment(self, number: int) -> None:
        await self._at_some_moment(lambda: self._disk.create(number), 4)

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        if self._recovering:
            self._note_recovery(buffers[1] if offset == 0 and len(buffers) > 1 else buffers[0])
        self._disk.submit(number, offset, buffers, done)

    def _note_recovery(self, head: Buffer) -> None:
        """A starting WAL rewrites what it recovered, then seals it: the flags of the first frames tell."""
        try:
            header = decode_frame_header(memoryview(head), 0)
        except Corrupt:
            return  # not a frame: tests write other things
        if header.flags & REWRITTEN:
            self._disk.fired["rare: recovered frames made durable again"] += 1
        self._recovering = bool(header.flags & REWRITTEN)

    async def remove_segments(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._at_some_moment(lambda number=number: self._disk.remove(number), 1)  # type: ignore[misc]

    async def close(self) -> None:
        await self._wait(1)

    async def _wait(self, weight: float) -> None:
        await asyncio.sleep(self._disk.latency_s(0, self._disk.settings.sync_max_s * weight))

    async def _at_some_moment(self, change: Callable[[], None], weight: float) -> None:
        """Before the change, or after it but before it is reported: a kill may fall on either side."""
        await self._wait(weight / 2)
        change()
        await self._wait(weight / 2)
