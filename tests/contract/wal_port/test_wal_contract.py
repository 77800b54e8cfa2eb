"""What every adapter of the `Wal` port promises, on every device. One suite; a new WAL adds a fixture parameter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from s3stream.errors import Corrupt, Fatal, Invalid
from s3stream.ports import WalDevice, WalRecord
from s3stream.wal.device_folder import FolderWalDevice
from s3stream.wal.device_memory import MemoryWalDevice
from s3stream.wal.file_wal import FileWal, FileWalSettings

SEGMENT = 64 * 1024
CAPACITY = 6 * SEGMENT


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - the port has no event for it
            await asyncio.sleep(0.001)


class Node:
    """A WAL and what it reported; `restart()` is the next process on the same device."""

    def __init__(self, open_device: Callable[[], WalDevice]) -> None:
        self._open_device = open_device
        self.epoch = 0
        self.trim_lsn = 0
        self.groups: list[list[object]] = []
        self.errors: list[BaseException] = []
        self.wal = self._new()

    def _new(self) -> FileWal:
        self.groups, self.errors = [], []
        self.device = self._open_device()
        settings = FileWalSettings(capacity_bytes=CAPACITY, hold_ms=0)  # groups are shown by turns of the loop
        return FileWal(self.device, settings, self._durable, self.errors.append)

    def _durable(self, entries: Sequence[object]) -> None:
        self.groups.append(list(entries))

    @property
    def acked(self) -> list[object]:
        return [entry for group in self.groups for entry in group]

    async def start(self) -> tuple[Sequence[WalRecord], Sequence[int]]:
        records = await self.wal.recover(self.trim_lsn)
        self.epoch += 1
        return records, await self.wal.begin(self.epoch, records)

    async def restart(self) -> tuple[Sequence[WalRecord], Sequence[int]]:
        await self.wal.close()
        self.wal = self._new()
        return await self.start()

    def append(self, name: str, size: int = 100, stream_id: int = 1) -> int:
        payload = memoryview((name.encode() + b"." * size)[:size])
        return self.wal.append(stream_id, 3, 10, 5, 1234, payload, name)

    async def settle(self) -> None:
        await eventually(lambda: self.wal.durable_lsn() == self.wal.next_lsn() - 1)


@pytest.fixture(params=["memory", "folder"])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    memory = MemoryWalDevice(SEGMENT)
    node = Node(lambda: memory if request.param == "memory" else FolderWalDevice(tmp_path / "wal", SEGMENT))
    yield node
    await node.wal.close()


def names(records: Sequence[WalRecord]) -> list[str]:
    return [bytes(record.payload).decode().rstrip(".") for record in records]


async def test_a_new_wal_is_empty(node: Node) -> None:
    assert node.wal.free_bytes() == 0
    assert await node.start() == ([], [])
    assert node.wal.free_bytes() > 0
    assert node.acked == []


async def test_acks_come_in_append_order_and_never_inside_append(node: Node) -> None:
    await node.start()
    lsns = [node.append(str(number)) for number in range(50)]
    assert lsns == list(range(lsns[0], lsns[0] + 50))
    assert node.acked == []
    assert node.wal.durable_lsn() < lsns[0]
    await node.settle()
    assert node.acked == [str(number) for number in range(50)]
    assert node.wal.durable_lsn() == lsns[-1]
    assert node.wal.next_lsn() == lsns[-1] + 1


async def test_appends_of_one_turn_share_a_group_and_so_do_those_behind_a_write(node: Node) -> None:
    await node.start()
    for number in range(10):
        node.append(str(number))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await node.settle()
    assert [len(group) for group in node.groups] == [10]
    node.append("a")
    await asyncio.sleep(0)
    # The write of "a" began (and may be done already on the memory device).
    for number in range(10):
        node.append(str(number))
    await node.settle()
    assert [len(group) for group in node.groups] == [10, 1, 10]


async def test_what_was_acknowledged_comes_back_with_every_field(node: Node) -> None:
    await node.start()
    payloads = [bytes([number]) * (number * 37 % 500) for number in range(40)]
    lsns = [
        node.wal.append(2**40 + number, number, 2**50 + number, number + 1, -number, memoryview(payload), number)
        for number, payload in enumerate(payloads)
    ]
    await node.settle()
    records, new_lsns = await node.restart()
    assert [(record[:6], bytes(record.payload)) for record in records] == [
        ((lsns[number], 2**40 + number, number, 2**50 + number, number + 1, -number), payload)
        for number, payload in enumerate(payloads)
    ]
    assert len(new_lsns) == 40
    assert new_lsns[0] > lsns[-1]
    assert list(new_lsns) == list(range(new_lsns[0], new_lsns[0] + 40))


async def test_survivors_survive_again_and_lsns_never_repeat(node: Node) -> None:
    await node.start()
    seen: set[int] = set()
    expected: list[str] = []
    for turn in range(5):
        for number in range(3):
            expected.append(f"{turn}/{number}")
            lsn = node.append(expected[-1])
            assert lsn not in seen
            seen.add(lsn)
        await node.settle()
        records, new = await node.restart()
        assert names(records) == expected
        assert not seen & set(new)
        seen.update(new)


async def test_close_writes_what_is_queued(node: Node) -> None:
    await node.start()
    node.append("queued")
    records, _ = await node.restart()
    assert names(records) == ["queued"]


async def test_many_segments(node: Node) -> None:
    await node.start()
    for number in range(30):
        node.append(str(number), size=9_000)
        if number % 4 == 0:
            await asyncio.sleep(0.001)
    await node.settle()
    assert node.acked == [str(number) for number in range(30)]
    assert len(await node.device.list_segments()) >= 5
    records, _ = await node.restart()
    assert names(records) == [str(number) for number in range(30)]


async def test_trim_forgets_what_is_below_and_only_that(node: Node) -> None:
    await node.start()
    lsns = [node.append(str(number), size=9_000) for number in range(25)]
    await node.settle()
    full = node.wal.free_bytes()
    before = len(await node.device.list_segments())
    node.trim_lsn = lsns[20]
    node.wal.trim(lsns[20])
    await asyncio.sleep(0.05)
    assert node.wal.free_bytes() > full
    assert len(await node.device.list_segments()) < before
    records, _ = await node.restart()
    assert names(records) == ["20", "21", "22", "23", "24"]


async def test_everything_may_be_trimmed(node: Node) -> None:
    await node.start()
    for turn in range(3):
        for number in range(20):
            node.append(f"{turn}/{number}", size=9_000)
        await node.settle()
        node.trim_lsn = node.wal.next_lsn()
        node.wal.trim(node.trim_lsn)
        if turn == 1:
            records, _ = await node.restart()
            assert names(records) == []
    records, _ = await node.restart()
    assert names(records) == []
    assert node.append("again") >= node.trim_lsn


async def test_a_trim_beyond_what_is_durable_takes_only_what_is(node: Node) -> None:
    await node.start()
    node.append("a")
    node.wal.trim(10_000)
    await node.settle()
    records, _ = await node.restart()
    assert names(records) == ["a"]


async def test_the_wal_runs_for_ever_in_bounded_space(node: Node) -> None:
    await node.start()
    for number in range(200):
        await eventually(lambda: node.wal.free_bytes() >= 20_000)
        lsn = node.append(str(number), size=20_000)
        await node.settle()
        if number % 5 == 0:
            node.wal.trim(lsn)
        assert len(await node.device.list_segments()) <= CAPACITY // SEGMENT
    assert len(node.acked) == 200


async def test_free_bytes_is_a_promise_and_reaches_zero(node: Node) -> None:
    await node.start()
    total = 0
    while (free := node.wal.free_bytes()) > 0:
        size = min(free, 5_000)
        node.append("x", size=size)
        total += size
    assert CAPACITY // 2 < total <= CAPACITY
    await node.settle()
    assert len(await node.device.list_segments()) <= CAPACITY // SEGMENT
    node.wal.trim(node.wal.next_lsn())
    await asyncio.sleep(0.05)
    assert node.wal.free_bytes() > CAPACITY // 2


async def test_a_payload_above_a_segment_is_refused_before_anything_happens(node: Node) -> None:
    await node.start()
    largest = node.wal.max_payload_bytes
    with pytest.raises(Invalid, match="has room for"):
        node.append("x", size=largest + 1)
    lsn = node.append("x", size=largest)
    node.append("y", size=largest)
    assert node.wal.next_lsn() == lsn + 2
    await node.settle()
    records, _ = await node.restart()
    assert [len(record.payload) for record in records] == [largest, largest]


@pytest.mark.parametrize("kind", ["memory", "folder"])
async def test_a_group_of_any_size_is_written_whole(kind: str, tmp_path: Path) -> None:
    segment = 1 << 20
    memory = MemoryWalDevice(segment)
    for number, sizes in enumerate(([0], [5, 0, 9000], [1000] * 300, [300_000, 1, 300_000]), 1):
        device = memory if kind == "memory" else FolderWalDevice(tmp_path / "wal", segment)
        parts = [memoryview(bytes([index % 251 + 1]) * size) for index, size in enumerate(sizes)]
        await device.create_segment(number)
        for offset in (0, segment // 2 // 4096 * 4096) if sum(sizes) < segment // 2 else (0,):
            written = asyncio.get_running_loop().create_future()
            device.write(number, offset, parts, written.set_result)
            assert await written is None
            content = bytes(memoryview(await device.read_segment(number)))
            assert content[offset : offset + sum(sizes)] == b"".join(parts)
        if kind == "folder":
            await device.close()


async def test_an_epoch_must_rise(node: Node) -> None:
    await node.start()
    await node.restart()
    node.epoch = 1
    with pytest.raises(Invalid, match="the metadata is older"):
        await node.restart()


async def test_the_order_of_life_is_checked(node: Node) -> None:
    with pytest.raises(Invalid):
        await node.wal.begin(1, [])
    with pytest.raises(Fatal):
        node.append("x")
    await node.start()
    with pytest.raises(Invalid):
        await node.wal.recover(0)
    with pytest.raises(Invalid):
        await node.wal.begin(2, [])
    await node.wal.close()
    await node.wal.close()
    assert node.wal.free_bytes() == 0
    with pytest.raises(Fatal):
        node.append("x")


async def test_an_emptied_wal_is_not_taken_for_a_new_one(node: Node) -> None:
    node.trim_lsn = 17
    with pytest.raises(Corrupt, match="its segments are gone"):
        await node.start()
