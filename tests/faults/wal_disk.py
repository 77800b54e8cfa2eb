"""A disk under a file WAL that a test drives by hand: which writes are under way, synced, lost, torn or flipped.

`CrashDisk` is the hardware and outlives the processes that use it; `open()` gives one process its `WalDevice`. What is
not synced survives a power cut in pieces of any size. A removed segment may come back, since nothing makes the removal
durable.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from typing_extensions import Buffer

from s3stream.errors import Fatal, Invalid, Retry
from s3stream.ports import Done

GRANULARITIES = (1, 8, 64, 512, 4096)


class CrashDisk:
    """`cached`: what reads return; `synced`: what a power cut surely leaves. With `by_hand` a write is durable only
    when the test calls `finish_write`; otherwise in the next turn of the loop."""

    def __init__(self, segment_size_bytes: int, *, by_hand: bool = False) -> None:
        self.segment_size_bytes = segment_size_bytes
        self.by_hand = by_hand
        self.cached: dict[int, bytearray] = {}
        self.synced: dict[int, bytearray] = {}
        self.spares: list[bytearray] = []
        self.removed: dict[int, bytearray] = {}
        self.unsynced: list[tuple[int, int, bytes]] = []
        self.under_way: Done | None = None
        self.fail_next_sync = False
        self.out_of_space = False
        self.syncs = 0
        self.device: CrashDevice | None = None

    def open(self) -> CrashDevice:
        """A device for a new process; that of the former one is dead from now on."""
        self.under_way = None
        self.device = CrashDevice(self)
        return self.device

    def finish_write(self) -> bool:
        """fdatasync returns; False when no write is under way."""
        done, self.under_way = self.under_way, None
        if done is None:
            return False
        if self.fail_next_sync:
            self.fail_next_sync = False
            done(Fatal("fdatasync: input/output error"))
            return True
        self.syncs += 1
        for number, offset, data in self.unsynced:
            if number in self.synced:
                self.synced[number][offset : offset + len(data)] = data
        self.unsynced.clear()
        done(None)
        return True

    def kill(self) -> None:
        """The process ends: what reached the page cache stays."""
        self.under_way = None
        self.device = None

    def power_cut(self, rng: random.Random) -> None:
        """Of what was not synced a random part of each write survives, at a random granularity."""
        self.kill()
        for number, content in self.removed.items():
            if number not in self.synced and rng.random() < 0.3:
                self.synced[number] = content
        self.removed.clear()
        for number, offset, data in self.unsynced:
            if number in self.synced:
                self._tear(self.synced[number], offset, data, rng)
        self.unsynced.clear()
        self.cached = {number: bytearray(content) for number, content in self.synced.items()}

    def _tear(self, segment: bytearray, offset: int, data: bytes, rng: random.Random) -> None:
        granularity, share = rng.choice(GRANULARITIES), rng.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        position = 0
        while position < len(data):
            piece = data[position : position + granularity - (offset + position) % granularity]
            if rng.random() < share:
                segment[offset + position : offset + position + len(piece)] = piece
            position += len(piece)

    def flip(self, number: int, offset: int, bit: int) -> None:
        """Bit rot."""
        self.synced[number][offset] ^= 1 << bit
        self.cached[number][offset] ^= 1 << bit


class CrashDevice:
    """`WalDevice` of one process on a `CrashDisk`."""

    def __init__(self, disk: CrashDisk) -> None:
        self.segment_size_bytes = disk.segment_size_bytes
        self._disk = disk

    def _live(self) -> CrashDisk:
        if self._disk.device is not self:
            raise Invalid("a dead process used its disk")
        return self._disk

    async def list_segments(self) -> Sequence[int]:
        return sorted(self._live().cached)

    async def read_segment(self, number: int, size_bytes: int | None = None) -> Buffer:
        return bytes(self._live().cached[number][:size_bytes])

    async def create_segment(self, number: int) -> None:
        disk = self._live()
        if disk.out_of_space:
            raise Retry("no space left on device")
        if number in disk.cached:
            raise Invalid(f"segment {number} exists already")
        content = disk.spares.pop() if disk.spares else bytearray(self.segment_size_bytes)
        disk.removed = {number: old for number, old in disk.removed.items() if old is not content}
        disk.cached[number], disk.synced[number] = bytearray(content), bytearray(content)
        await asyncio.sleep(0)

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        disk = self._disk
        if disk.device is not self:
            return  # nobody hears from a dead process any more
        if disk.under_way is not None:
            raise Invalid("two writes under way")
        data = b"".join(buffers)
        if offset + len(data) > self.segment_size_bytes:
            raise Invalid("a write leaves its segment")
        disk.cached[number][offset : offset + len(data)] = data
        disk.unsynced.append((number, offset, data))
        disk.under_way = done
        if not disk.by_hand:
            asyncio.get_running_loop().call_soon(self._finish)

    def _finish(self) -> None:
        if self._disk.device is self:
            self._disk.finish_write()

    async def remove_segments(self, numbers: Sequence[int]) -> None:
        disk = self._live()
        for number in numbers:
            await asyncio.sleep(0)
            if disk.cached.pop(number, None) is not None:
                content = disk.synced.pop(number)
                disk.removed[number] = content
                if len(disk.spares) < 2:
                    disk.spares.append(content)

    async def close(self) -> None:
        return None


class AckBeforeSyncDevice(CrashDevice):
    """A planted bug: reports a write as durable before it is synced."""

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        super().write(number, offset, buffers, lambda error: None)
        asyncio.get_running_loop().call_soon(done, None)
        self._disk.under_way = None
