"""Which appends share a sync: what queues behind one, and what a group waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from typing_extensions import Buffer

from s3stream.ports import Done
from s3stream.wal.device_memory import MemoryWalDevice
from s3stream.wal.file_wal import FileWal, FileWalSettings

SEGMENT = 1 << 20
LONG_MS = 60_000


class SlowDevice(MemoryWalDevice):
    """Says "done" when it is told to."""

    def __init__(self) -> None:
        super().__init__(SEGMENT)
        self.under_way: list[Done] = []
        self.by_hand = False

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        super().write(number, offset, buffers, (lambda _: self.under_way.append(done)) if self.by_hand else done)

    def finish(self) -> None:
        self.under_way.pop()(None)


class Started:
    """A WAL whose device is driven by hand; `groups` has the entries of each durable group."""

    def __init__(self, hold_ms: float) -> None:
        self.device = SlowDevice()
        self.groups: list[list[object]] = []
        settings = FileWalSettings(capacity_bytes=6 * SEGMENT, hold_ms=hold_ms)
        self.wal = FileWal(self.device, settings, lambda entries: self.groups.append(list(entries)), self._fail)
        self._count = 0

    @staticmethod
    def _fail(error: BaseException) -> None:
        raise AssertionError("the WAL failed") from error

    async def begin(self) -> Started:
        await self.wal.begin(1, await self.wal.recover(0))
        self.device.by_hand = True
        return self

    async def append(self, count: int = 1, size: int = 10) -> None:
        for _ in range(count):
            self._count += 1
            self.wal.append(1, 1, self._count, 1, 0, memoryview(bytes(size)), self._count)
        await turns()

    async def finish(self) -> None:
        self.device.finish()
        await turns()

    async def until_writing(self) -> None:
        """However long a busy machine takes."""
        for _ in range(10_000):
            if self.writing:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("no write began")

    @property
    def writing(self) -> bool:
        return bool(self.device.under_way)

    async def close(self) -> None:
        self.device.by_hand = False
        while self.device.under_way:
            self.device.finish()
        await self.wal.close()


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def started(hold_ms: float = LONG_MS) -> Started:
    return await Started(hold_ms).begin()


async def test_what_comes_during_a_sync_shares_the_next() -> None:
    each = await started(hold_ms=0)
    await each.append()
    await each.append(3)
    await each.finish()
    assert each.writing
    await each.finish()
    assert each.groups == [[1], [2, 3, 4]]
    await each.close()


async def test_who_was_answered_together_is_waited_for() -> None:
    each = await started()
    await each.append(3)
    await each.finish()
    await each.append()
    assert not each.writing
    await each.append(2)
    assert each.writing
    await each.finish()
    assert each.groups == [[1, 2, 3], [4, 5, 6]]
    await each.close()


async def test_what_queued_behind_a_group_waits_for_those_whom_it_answered() -> None:
    each = await started()
    await each.append(4)
    await each.append()
    await each.finish()
    assert not each.writing
    await each.append(4)
    assert each.writing
    await each.close()


async def test_after_a_lone_append_nothing_waits() -> None:
    each = await started()
    await each.append()
    await each.finish()
    await each.append()
    assert each.writing
    await each.close()


async def test_nobody_waits_longer_than_the_hold() -> None:
    each = await started(hold_ms=200)
    await each.append(3)
    await each.finish()
    await each.append()
    assert not each.writing
    await each.until_writing()
    await each.finish()
    await each.append(3)
    await each.finish()
    await asyncio.sleep(0.3)
    await each.append()
    assert each.writing, "the time of the hold runs from the answer"
    await each.close()


async def test_waiting_in_vain_is_not_repeated_soon() -> None:
    each = await started(hold_ms=100)
    held = 0
    for _ in range(40):
        await each.append(3)
        await each.until_writing()
        await each.finish()
        await each.append()
        held += not each.writing
        await each.until_writing()
        await each.finish()
    assert 1 <= held <= 4
    await each.close()


async def test_a_large_group_waits_for_nobody() -> None:
    each = await started()
    await each.append(3)
    await each.finish()
    await each.append(size=100_000)
    assert not each.writing
    await each.append(size=200_000)
    assert each.writing
    await each.close()


async def test_closing_does_not_wait() -> None:
    each = await started()
    await each.append(3)
    await each.finish()
    await each.append()
    assert not each.writing
    await each.close()
    assert each.groups == [[1, 2, 3], [4]]
