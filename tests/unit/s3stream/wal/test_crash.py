"""The file WAL against a model: append, crash, power cut, recover and trim in any order, and damage of any kind.

Laws: what recovery returns is a hole-free beginning of what was appended after the trim point and contains everything
that was acknowledged; a frame appears once and unchanged; damage to an acknowledged frame that anything written later
testifies to is Corrupt; nothing is ever made up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3stream.errors import Corrupt, Retry
from s3stream.ports import WalRecord
from s3stream.wal.file_wal import FileWal, FileWalSettings
from tests.faults.wal_disk import AckBeforeSyncDevice, CrashDevice, CrashDisk

SEGMENT = 1024
CAPACITY = 40 * SEGMENT


class Host:
    """A disk, the processes that run on it one after the other, and what must be true of them."""

    def __init__(self, rng: random.Random, *, by_hand: bool = True) -> None:
        self.rng = rng
        self.disk = CrashDisk(SEGMENT, by_hand=by_hand)
        self.epoch = 0
        self.trim_lsn = 0
        self.written: list[tuple[int, bytes]] = []  # (current LSN, payload) of what may come back, in order
        self.acked = 0  # the first so many of `written` are acknowledged
        self.counter = 0
        self.wal: FileWal | None = None
        self.error: BaseException | None = None
        self.open = self.disk.open

    def durable(self, entries: Sequence[object]) -> None:
        for entry in entries:
            lsn, payload = self.written[self.acked]
            assert entry == payload, f"LSN {lsn} was acknowledged out of order"
            self.acked += 1

    def failed(self, error: BaseException) -> None:
        self.error = error

    async def turns(self, count: int = 15) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def drive(self, work: Coroutine[Any, Any, Any], *, stop_after_writes: int | None = None) -> Any:
        """Run `work` while the disk finishes its writes; None if it was killed after so many of them."""
        task = asyncio.ensure_future(work)
        writes = 0
        while True:
            await self.turns(5)
            if task.done():
                return task.result()
            if self.disk.under_way is not None:
                if writes == stop_after_writes:
                    task.cancel()
                    await asyncio.wait([task])
                    return None
                self.disk.finish_write()
                writes += 1

    async def start(self, *, stop_after_writes: int | None = None) -> bool:
        """Recover and begin, check what came back; False if it was killed in the middle of `begin`."""
        device = self.open()
        self.epoch += 1
        settings = FileWalSettings(capacity_bytes=CAPACITY, hold_ms=0)  # steps are counted in turns of the loop
        wal = FileWal(device, settings, self.durable, self.failed)
        records = await wal.recover(self.trim_lsn)
        self.check(records)
        lsns = await self.drive(wal.begin(self.epoch, records), stop_after_writes=stop_after_writes)
        if lsns is None:
            await self.end(wal)
            return False
        # What was not acknowledged and did not come back never will; what did is durable now.
        self.written = [(lsn, bytes(record.payload)) for lsn, record in zip(lsns, records, strict=True)]
        self.acked = len(self.written)
        self.wal = wal
        return True

    def check(self, records: Sequence[WalRecord]) -> None:
        expected = [payload for lsn, payload in self.written if lsn >= self.trim_lsn]
        trimmed = len(self.written) - len(expected)
        found = [bytes(record.payload) for record in records]
        assert found == expected[: len(found)], "not a beginning of what was written"
        assert len(found) >= self.acked - trimmed, "an acknowledged record is missing"
        assert all(record.base_offset == int(bytes(record.payload)[:8]) for record in records)

    async def end(self, wal: FileWal | None) -> None:
        """The process is gone: nothing of it runs any more."""
        self.disk.kill()
        if wal is not None:
            await wal._groups.keeper.close()

    def append(self, size: int) -> None:
        assert self.wal is not None
        self.counter += 1
        payload = (b"%08d" % self.counter) + self.rng.randbytes(size)
        if self.wal.free_bytes() < len(payload):
            return
        self.written.append((self.wal.next_lsn(), payload))
        lsn = self.wal.append(1, 1, self.counter, 1, 0, memoryview(payload), payload)
        assert lsn == self.written[-1][0]

    def trim(self, share: float) -> None:
        """Trim a share of what is acknowledged: first in the metadata, then in the WAL, as a commit does."""
        assert self.wal is not None
        count = round(self.acked * share)
        if count:
            lsn = self.written[count - 1][0] + 1
            self.trim_lsn = max(self.trim_lsn, lsn)
            self.wal.trim(self.trim_lsn)

    async def settle(self) -> None:
        await self.turns()
        while self.disk.finish_write():
            await self.turns()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(0, 400), min_size=1, max_size=12)),
        st.tuples(st.just("finish"), st.integers(1, 3)),
        st.tuples(st.just("turns"), st.integers(0, 5)),
        st.tuples(st.just("trim"), st.floats(0, 1)),
        st.tuples(st.just("kill"), st.none()),
        st.tuples(st.just("power cut"), st.none()),
        st.tuples(st.just("cut in begin"), st.integers(0, 3)),
    ),
    max_size=25,
)


async def run(host: Host, steps: Sequence[tuple[str, Any]]) -> None:
    assert await host.start()
    for name, value in steps:
        if name == "append":
            for size in value:
                host.append(size)
        elif name == "finish":
            for _ in range(value):
                await host.turns()
                host.disk.finish_write()
        elif name == "turns":
            await host.turns(value)
        elif name == "trim":
            host.trim(value)
        else:
            await host.end(host.wal)
            if name != "kill":
                host.disk.power_cut(host.rng)
            if name == "cut in begin" and not await host.start(stop_after_writes=value):
                host.disk.power_cut(host.rng)
                assert await host.start()
            elif name != "cut in begin":
                assert await host.start()
        assert host.error is None
    await host.settle()
    assert host.acked == len(host.written)
    await host.end(host.wal)
    host.disk.power_cut(host.rng)
    assert await host.start()
    await host.end(host.wal)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(0, 2**32))
def test_any_sequence_of_appends_crashes_and_trims(steps: list[tuple[str, Any]], seed: int) -> None:
    asyncio.run(run(Host(random.Random(seed)), steps))


@pytest.mark.parametrize("seed", range(40))
async def test_a_power_cut_inside_a_group_keeps_a_beginning_of_it(seed: int) -> None:
    rng = random.Random(seed)
    host = Host(rng)
    assert await host.start()
    for _ in range(3):
        for _ in range(rng.randint(1, 10)):
            host.append(rng.randint(0, 100))
        await host.settle()
    for _ in range(rng.randint(1, 30)):
        host.append(rng.randint(0, 300))
    await host.turns()
    await host.end(host.wal)
    host.disk.power_cut(rng)
    assert await host.start()
    await host.end(host.wal)


async def damaged_host(rng: random.Random) -> tuple[Host, list[tuple[int, int, int]]]:
    """A host with several durable groups, then a power cut; and (segment, start, end) of its frames by position."""
    host = Host(rng)
    assert await host.start()
    frames: list[tuple[int, int, int]] = []
    for _ in range(rng.randint(3, 8)):
        for _ in range(rng.randint(1, 5)):
            host.append(rng.randint(0, 200))
            assert host.wal is not None
            start = host.wal._groups.position - (88 + len(host.written[-1][1]) + 7) // 8 * 8
            frames.append((host.wal._groups.segment, start, start + 88 + len(host.written[-1][1])))
        await host.settle()
    await host.end(host.wal)
    host.disk.power_cut(rng)
    return host, frames


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_a_flipped_bit_is_never_a_wrong_record(seed: int, data: st.DataObject) -> None:
    async def check() -> None:
        rng = random.Random(seed)
        host, frames = await damaged_host(rng)
        victim = data.draw(st.integers(0, len(frames) - 1))
        segment, start, end = frames[victim]
        offset = data.draw(st.integers(start, end - 1))
        host.disk.flip(segment, offset, data.draw(st.integers(0, 7)))
        # The group behind the victim's own one was written when the victim was known durable.
        testified = victim < len(frames) - 5
        wal = FileWal(host.open(), FileWalSettings(capacity_bytes=CAPACITY, hold_ms=0), host.durable, host.failed)
        try:
            records = await wal.recover(host.trim_lsn)
        except Corrupt as error:
            said = str(error)
        else:
            said = ""
        if said:
            assert f"LSN {host.written[victim][0]}" in said
            assert f"segment {segment}, offset {start}" in said
            assert "Restore the WAL folder" in said
            return
        assert not testified, "damage of an acknowledged frame went unseen"
        found = [bytes(record.payload) for record in records]
        assert found == [payload for _, payload in host.written[:victim]]

    asyncio.run(check())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_damage_below_the_trim_point_does_not_matter(seed: int, data: st.DataObject) -> None:
    async def check() -> None:
        host, frames = await damaged_host(random.Random(seed))
        kept = data.draw(st.integers(1, len(frames) - 1))
        host.trim_lsn = host.written[kept][0]
        for _ in range(3):
            segment, start, end = frames[data.draw(st.integers(0, kept - 1))]
            host.disk.flip(segment, data.draw(st.integers(start, end - 1)), data.draw(st.integers(0, 7)))
        host.check(await FileWal(host.open(), SETTINGS, host.durable, host.failed).recover(host.trim_lsn))

    asyncio.run(check())


SETTINGS = FileWalSettings(capacity_bytes=CAPACITY)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_any_damage_to_any_bytes_gives_a_beginning_or_corrupt(seed: int, data: st.DataObject) -> None:
    async def check() -> None:
        host, _ = await damaged_host(random.Random(seed))
        number = data.draw(st.sampled_from(sorted(host.disk.cached)))
        if data.draw(st.booleans()):
            del host.disk.cached[number]
        else:
            start = data.draw(st.integers(0, SEGMENT - 1))
            junk = data.draw(st.binary(min_size=1, max_size=200))[: SEGMENT - start]
            host.disk.cached[number][start : start + len(junk)] = junk
        try:
            records = await FileWal(host.open(), SETTINGS, host.durable, host.failed).recover(0)
        except Corrupt:
            return
        found = [bytes(record.payload) for record in records]
        assert found == [payload for _, payload in host.written[: len(found)]]

    asyncio.run(check())


async def test_a_missing_segment_in_the_middle_is_corruption() -> None:
    host = Host(random.Random(1))
    assert await host.start()
    for _ in range(20):
        host.append(300)
    await host.settle()
    await host.end(host.wal)
    del host.disk.cached[4]
    with pytest.raises(Corrupt, match=r"segment 3, offset .* header of segment \d+ says that LSN"):
        await FileWal(host.open(), SETTINGS, host.durable, host.failed).recover(0)


async def test_accepted_losses_keep_what_precedes_them_and_say_so() -> None:
    host = Host(random.Random(1))
    assert await host.start()
    for _ in range(20):
        host.append(300)
    await host.settle()
    await host.end(host.wal)
    del host.disk.cached[4]
    accepting = FileWalSettings(capacity_bytes=CAPACITY, accept_loss=True)
    wal = FileWal(host.open(), accepting, host.durable, host.failed)
    records = await wal.recover(0)
    assert [bytes(record.payload) for record in records] == [payload for _, payload in host.written[: len(records)]]
    assert 0 < len(records) < 20
    assert wal.recovered is not None
    assert wal.recovered.loss is not None
    assert wal.recovered.next_lsn > host.written[-1][0]


async def test_a_lost_seal_does_not_lose_the_survivors_in_silence() -> None:
    host = Host(random.Random(1))
    assert await host.start()
    host.append(10)
    await host.settle()
    await host.end(host.wal)
    assert await host.start()  # rewritten into segment 2, sealed, segment 1 removed
    await host.end(host.wal)
    assert sorted(host.disk.cached) == [2]
    segment = host.disk.cached[2]
    segment[48 + 112 : 48 + 112 + 88] = bytes(88)  # the SEAL
    with pytest.raises(Corrupt, match="neither the SEAL"):
        await FileWal(host.open(), SETTINGS, host.durable, host.failed).recover(0)


async def test_a_frame_inside_a_torn_payload_is_never_a_record() -> None:
    """A producer can put bytes of a perfect frame into its records; a torn header in front must not free it."""
    host = Host(random.Random(1))
    assert await host.start()
    host.append(0)
    await host.settle()
    assert host.wal is not None
    segment, lsn, start = host.disk.cached[1], host.wal.next_lsn(), host.wal._groups.position
    first = bytes(segment[48 + 88 : start])  # the frame of LSN 2, then forged into one of the next LSN
    from s3stream.wal.frame import decode_frame_header, encode_frame_header

    header = decode_frame_header(memoryview(first), 0)
    forged = encode_frame_header(header._replace(lsn=lsn, previous_lsn=lsn - 1)) + first[88:]
    before = encode_frame_header(header._replace(lsn=lsn - 1)) + first[88:]
    payload = before + forged
    host.wal.append(1, 1, 7, 1, 0, memoryview(payload), b"never acknowledged")
    await host.turns()
    segment[start : start + 88] = bytes(88)
    await host.end(host.wal)
    records = await FileWal(host.open(), SETTINGS, host.durable, host.failed).recover(0)
    assert [record.lsn for record in records] == [lsn - 1]


async def test_after_a_failed_sync_nothing_is_acknowledged_ever_again() -> None:
    host = Host(random.Random(1))
    assert await host.start()
    host.append(10)
    await host.turns()
    host.append(10)
    host.disk.fail_next_sync = True
    host.disk.finish_write()
    assert host.wal is not None
    assert "input/output error" in str(host.error)
    assert (host.acked, host.wal.free_bytes(), host.wal.durable_lsn()) == (0, 0, 1)
    with pytest.raises(type(host.error or Exception())):
        host.wal.append(1, 1, 1, 1, 0, memoryview(b""), None)
    await host.turns()
    assert host.disk.under_way is None
    await host.end(host.wal)


async def test_a_full_disk_is_back_pressure_and_goes_away() -> None:
    host = Host(random.Random(1), by_hand=False)
    assert await host.start()
    assert host.wal is not None
    host.disk.out_of_space = True
    for _ in range(8):  # admitted before anybody knows that the next segment cannot be made
        host.append(300)
    await host.turns()
    assert len(host.written) == 8
    assert host.wal.free_bytes() == 0
    assert host.acked < len(host.written)
    assert host.error is None
    host.disk.out_of_space = False
    host.wal._groups.keeper._wake.set()  # what the retry timer does
    await host.turns(100)
    assert host.acked == len(host.written)
    assert host.wal.free_bytes() > SEGMENT
    await host.wal.close()


async def test_no_space_at_the_start_or_the_end_is_an_error_not_a_hang() -> None:
    host = Host(random.Random(1), by_hand=False)
    host.disk.out_of_space = True
    with pytest.raises(Retry):
        await host.start()
    host.disk.out_of_space = False
    assert await host.start()
    assert host.wal is not None
    host.disk.out_of_space = True
    for _ in range(8):
        host.append(300)
    with pytest.raises(Retry):
        await host.wal.close()
    assert 0 < host.acked < 8


async def test_the_model_catches_an_ack_before_the_sync() -> None:
    """The harness can fail: a planted bug is found within a few cuts."""
    caught = 0
    for seed in range(10):
        host = Host(random.Random(seed))

        def planted(disk: CrashDisk = host.disk) -> CrashDevice:
            disk.device = AckBeforeSyncDevice(disk)
            return disk.device

        host.open = planted
        assert await host.start()
        for _ in range(5):
            host.append(200)
            await host.turns()
        await host.end(host.wal)
        host.disk.power_cut(host.rng)
        try:
            await host.start()
        except (AssertionError, Corrupt):
            caught += 1
        await host.end(host.wal)
    assert caught >= 5
