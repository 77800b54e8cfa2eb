"""Which segments a WAL keeps: made ahead, kept for a grace, given up when their space is needed."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence

import pytest
from typing_extensions import Buffer

from s3stream.errors import Corrupt, Invalid
from s3stream.ports import Done
from s3stream.wal.device_memory import MemoryWalDevice
from s3stream.wal.file_wal import FileWal, FileWalSettings
from s3stream.wal.frame import FRAME_HEADER_SIZE, SEGMENT_HEADER_SIZE

SEGMENT = 4096
FRAME = memoryview(bytes(1000))  # three of them fill a segment


async def started(device: MemoryWalDevice, **settings: int) -> FileWal:
    def fail(error: BaseException) -> None:
        raise AssertionError("the WAL failed") from error

    each = FileWalSettings(capacity_bytes=6 * SEGMENT, hold_ms=0, **settings)  # steps are counted in turns of the loop
    wal = FileWal(device, each, lambda entries: None, fail)
    await wal.begin(1, await wal.recover(0))
    return wal


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def append(wal: FileWal, count: int) -> int:
    lsn = 0
    for number in range(count):
        lsn = wal.append(1, 1, number, 1, 0, FRAME, None)
    await turns()
    assert wal.durable_lsn() == lsn
    return lsn


async def test_the_next_segment_is_made_before_the_current_is_full() -> None:
    device = MemoryWalDevice(SEGMENT)
    wal = await started(device)
    await append(wal, 1)
    assert sorted(device.segments) == [1]
    await append(wal, 1)
    assert sorted(device.segments) == [1, 2]
    await append(wal, 1)
    assert sorted(device.segments) == [1, 2]
    await wal.close()


async def test_trimmed_segments_are_kept_for_their_grace() -> None:
    device = MemoryWalDevice(SEGMENT)
    wal = await started(device, grace_ms=50)
    before = wal.free_bytes()
    wal.trim(await append(wal, 7))
    await asyncio.sleep(0)
    assert min(device.segments) == 1
    assert wal.free_bytes() >= before - SEGMENT  # kept ones do not cost room
    await asyncio.sleep(0.1)
    assert min(device.segments) == 3
    await wal.close()


class HeldDevice(MemoryWalDevice):
    """Keeps back what it should report, as a disk that does not come back from a sync."""

    def __init__(self) -> None:
        super().__init__(SEGMENT)
        self.held: list[Done] | None = None

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        super().write(number, offset, buffers, done if self.held is None else lambda _: self._hold(done))

    def _hold(self, done: Done) -> None:
        assert self.held is not None
        self.held.append(done)


async def test_the_newest_segment_with_something_durable_stays_until_its_successor_has() -> None:
    device = HeldDevice()
    wal = await started(device)
    lsn = await append(wal, 3)
    device.held = []
    wal.append(1, 1, 3, 1, 0, FRAME, None)  # begins the next segment
    await turns()
    assert wal.durable_lsn() == lsn
    wal.trim(lsn + 1)  # all that is durable was uploaded; now the power fails: what does the next start find?
    await turns()
    survived = MemoryWalDevice(SEGMENT)
    survived.segments = {1: device.segments[1]}
    again = FileWal(survived, FileWalSettings(capacity_bytes=6 * SEGMENT), print, print)
    assert await again.recover(lsn + 1) == []
    assert again.next_lsn() == lsn + 1
    device.held.pop()(None)
    await turns()
    assert min(device.segments) == 2  # and no longer than that
    await wal.close()


async def test_a_grace_never_holds_up_appends() -> None:
    device = MemoryWalDevice(SEGMENT)
    wal = await started(device, grace_ms=3_600_000)
    for _ in range(40):
        assert wal.free_bytes() >= 3 * SEGMENT
        wal.trim(await append(wal, 3))
        assert len(device.segments) <= 6
    assert len(device.segments) == 6
    await wal.close()


async def test_a_capacity_of_a_few_segments_is_refused() -> None:
    with pytest.raises(Invalid, match="holds less than 4"):
        FileWal(MemoryWalDevice(SEGMENT), FileWalSettings(capacity_bytes=3 * SEGMENT), print, print)


class CountingDevice(MemoryWalDevice):
    """Notes what is read, and how many contents of whole segments are held at a time."""

    def __init__(self) -> None:
        super().__init__(SEGMENT)
        self.read_whole: list[int] = []
        self.most_held = 0
        self._held: weakref.WeakSet[Content] = weakref.WeakSet()

    async def read_segment(self, number: int, size_bytes: int | None = None) -> Buffer:
        if size_bytes is not None:
            return await super().read_segment(number, size_bytes)
        self.read_whole.append(number)
        content = Content(await super().read_segment(number))
        self._held.add(content)
        self.most_held = max(self.most_held, len(self._held))
        return content


class Content(bytearray):
    """A weak reference to it can be made."""

    __hash__ = object.__hash__


async def test_recovery_reads_what_the_trim_point_has_not_passed_one_segment_at_a_time() -> None:
    device = CountingDevice()
    wal = await started(device, grace_ms=60_000)
    last = await append(wal, 17)
    kept = last - 9  # 3 + 3 frames before it are trimmed, with the SEAL and what shares its segment
    wal.trim(kept)
    await turns()
    await wal.close()
    assert len(device.segments) == 6

    again = FileWal(device, FileWalSettings(capacity_bytes=6 * SEGMENT), print, print)
    records = await again.recover(kept)
    assert [record.lsn for record in records] == list(range(kept, last + 1))
    assert all(record.payload == FRAME for record in records)
    passed = min(device.read_whole) - 1
    assert passed >= 2
    assert sorted(set(device.read_whole)) == list(range(passed + 1, 7))
    assert device.most_held <= 2
    await again.begin(2, records)
    await again.close()


async def test_damage_is_described_although_its_segment_is_no_longer_held() -> None:
    device = CountingDevice()
    wal = await started(device)
    await append(wal, 7)
    await wal.close()
    number = sorted(device.segments)[1]
    first = SEGMENT_HEADER_SIZE + FRAME_HEADER_SIZE
    device.segments[number][first - 1] ^= 1  # the checksum of the first frame's header
    again = FileWal(device, FileWalSettings(capacity_bytes=6 * SEGMENT), print, print)
    with pytest.raises(
        Corrupt, match=rf"WAL segment {number}, offset {SEGMENT_HEADER_SIZE}: expected a frame with LSN"
    ):
        await again.recover(0)


async def test_a_frame_that_is_gone_when_it_is_read_again_is_no_frame() -> None:
    device = CountingDevice()
    wal = await started(device)
    await append(wal, 4)
    await wal.close()

    async def read_segment(number: int, size_bytes: int | None = None) -> Buffer:
        content = bytearray(await CountingDevice.read_segment(device, number, size_bytes))
        if size_bytes is None and device.read_whole.count(1) == 2:
            content[SEGMENT_HEADER_SIZE] ^= 1
        return content

    device.read_segment = read_segment  # type: ignore[method-assign]
    again = FileWal(device, FileWalSettings(capacity_bytes=6 * SEGMENT), print, print)
    with pytest.raises(Corrupt, match="was there when the segment was read first, but not when it was read again"):
        await again.recover(0)
