"""The folder device: what the file system does to it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from s3stream.errors import Fatal, Invalid, Retry
from s3stream.wal.device_folder import FolderWalDevice

SEGMENT = 2 * 1024 * 1024


@pytest.fixture(params=["past the page cache", "cached"])
async def device(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[FolderWalDevice]:
    device = FolderWalDevice(tmp_path / "wal", SEGMENT, direct=request.param != "cached")
    yield device
    await device.close()


async def write(device: FolderWalDevice, number: int, offset: int, buffers: Sequence[Any]) -> BaseException | None:
    outcome: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    device.write(number, offset, buffers, outcome.set_result)
    async with asyncio.timeout(20):
        return await outcome


def names(device: FolderWalDevice) -> list[str]:
    return sorted(os.listdir(device.path))


async def test_segments_are_made_written_read_and_removed(device: FolderWalDevice) -> None:
    assert await device.list_segments() == []
    await device.create_segment(3)
    await device.create_segment(12)
    assert await device.list_segments() == [3, 12]
    assert await write(device, 12, 4096, [b"ab", memoryview(b"cd"), bytearray(b"ef")]) is None
    content = bytes(await device.read_segment(12))
    assert len(content) == SEGMENT
    assert content.strip(b"\0") == b"abcdef"
    assert content[4096:4102] == b"abcdef"
    await device.remove_segments([3, 12, 99])
    assert await device.list_segments() == []


async def test_more_buffers_than_one_call_takes(device: FolderWalDevice) -> None:
    await device.create_segment(1)
    pieces = [bytes([number % 255 + 1]) * (number % 7 + 1) for number in range(5000)]
    assert await write(device, 1, 0, pieces) is None
    assert bytes(await device.read_segment(1)).rstrip(b"\0") == b"".join(pieces)


async def test_partial_writes_are_continued(device: FolderWalDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    await device.create_segment(1)
    real = os.pwritev

    def few_bytes(descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        # A direct write ends at a block boundary however little the disk took.
        few = 4096 if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT else 7
        return real(descriptor, [memoryview(buffers[0])[:few]] if len(buffers[0]) else buffers, offset)

    monkeypatch.setattr(os, "pwritev", few_bytes)
    data = [os.urandom(size) for size in (1, 0, 13, 7, 7, 30)]
    assert await write(device, 1, 100, data) is None
    monkeypatch.setattr(os, "pwritev", real)
    assert bytes(await device.read_segment(1))[100:158] == b"".join(data)


async def test_groups_that_share_a_block(device: FolderWalDevice) -> None:
    await device.create_segment(1)
    await device.create_segment(2)
    expected = bytearray(SEGMENT)
    at = 0
    for size in (100, 3900, 96, 8192, 5000, 1, 7, 4095, 1 << 20, 30):
        at += -at % 8  # as the WAL does between groups
        data = os.urandom(size)
        assert await write(device, 1, at, [data[: size // 2], data[size // 2 :]]) is None
        expected[at : at + size] = data
        at += size
        assert await write(device, 2, 0, [b"elsewhere"]) is None if size == 1 else True
    assert bytes(await device.read_segment(1)) == bytes(expected)


async def test_a_write_without_progress_is_an_error(device: FolderWalDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    await device.create_segment(1)
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    assert isinstance(await write(device, 1, 0, [b"x"]), Fatal)


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
async def test_an_error_of_the_disk_is_fatal(
    device: FolderWalDevice, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await device.create_segment(1)
    monkeypatch.setattr(os, call, failing(errno.EIO))
    error = await write(device, 1, 0, [b"x"])
    assert isinstance(error, Fatal)
    assert "Input/output error" in str(error)


async def test_no_space_is_retry_and_leaves_nothing(device: FolderWalDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", failing(errno.ENOSPC))
        with pytest.raises(Retry, match="no space"):
            await device.create_segment(1)
    assert names(device) == ["lock"]
    await device.create_segment(1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(Fatal):
            await device.create_segment(2)
    assert await device.list_segments() == [1]


async def test_the_second_segment_is_written_with_zeros(
    device: FolderWalDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    real = os.pwritev

    def counting(descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        count = real(descriptor, buffers, offset)
        written.append(count)
        return count

    monkeypatch.setattr(os, "pwritev", counting)
    await device.create_segment(1)
    assert sum(written) == 0  # start-up does not wait for it
    await device.create_segment(2)
    assert sum(written) == SEGMENT


async def test_removed_segments_are_recycled_but_only_a_few_kept(device: FolderWalDevice) -> None:
    for number in range(1, 6):
        await device.create_segment(number)
    await write(device, 5, 0, [b"stale"])
    await device.remove_segments([1, 2, 3])
    assert [name for name in names(device) if name.endswith(".spare")] == [f"{n:016d}.spare" for n in (1, 2)]
    await device.remove_segments([4, 5])
    await device.create_segment(6)
    await device.create_segment(7)
    assert names(device) == ["0000000000000006.wal", "0000000000000007.wal", "lock"]


async def test_the_next_process_takes_over_spares_and_clears_half_made_files(tmp_path: Path) -> None:
    first = FolderWalDevice(tmp_path, SEGMENT)
    await first.create_segment(1)
    await first.remove_segments([1])
    await first.close()
    (tmp_path / "0000000000000009.tmp").write_bytes(b"half")
    second = FolderWalDevice(tmp_path, SEGMENT)
    assert names(second) == ["0000000000000001.spare", "lock"]
    await second.create_segment(2)
    assert names(second) == ["0000000000000002.wal", "lock"]
    await second.close()
    third = FolderWalDevice(tmp_path, 2 * SEGMENT)
    await third.remove_segments([2])
    await third.create_segment(3)
    assert (tmp_path / "0000000000000003.wal").stat().st_size == 2 * SEGMENT
    assert names(third) == ["0000000000000003.wal", "lock"]
    await third.close()


async def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    device = FolderWalDevice(tmp_path, SEGMENT)
    code = f"from s3stream.wal.device_folder import FolderWalDevice; FolderWalDevice({str(tmp_path)!r}, {SEGMENT})"
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, said = await other.communicate()
    assert other.returncode == 1
    assert f"in use by another process (pid {os.getpid()})" in said.decode()
    await device.close()
    again = FolderWalDevice(tmp_path, SEGMENT)
    await again.close()


async def test_no_buffer_is_kept_after_its_write(device: FolderWalDevice) -> None:
    await device.create_segment(1)
    memory = bytearray(100)
    assert await write(device, 1, 0, [memoryview(memory)]) is None
    for _ in range(100):  # the thread drops its last reference right after it reports
        try:
            memory.extend(b"x")
            return
        except BufferError:
            await asyncio.sleep(0.01)
    pytest.fail("the idle I/O thread holds a view")


async def test_misuse_is_refused(device: FolderWalDevice, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not created"):
        device.write(1, 0, [b"x"], lambda error: None)
    await device.create_segment(1)
    with pytest.raises(Invalid, match="exists already"):
        await device.create_segment(1)
    for size in (4096, 65537):
        with pytest.raises(Invalid, match="multiple of 4096"):
            FolderWalDevice(tmp_path / "other", size)
    await device.close()
    with pytest.raises(Invalid):
        device.write(1, 0, [b"x"], lambda error: None)
    with pytest.raises(Invalid, match="closed"):
        await device.list_segments()


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail
