"""The simulated disk, object store and database: what each fault leaves behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from s3stream.errors import AlreadyExists, Fatal, Invalid, NotFound, OutcomeUnknown, Retry
from s3stream.ports import Tx
from tests.simulation.clock import WallClock
from tests.simulation.database import DatabaseSettings, MetadataFile
from tests.simulation.disk import Disk, DiskSettings
from tests.simulation.errors import SimulationFailure
from tests.simulation.loop import SimulatedLoop
from tests.simulation.randomness import stream
from tests.simulation.store import Bucket, StoreSettings


class Bench:
    """One host with its devices and a process on it."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimulatedLoop()
        self.clock = WallClock(self.loop)
        self.fired: Counter[str] = Counter()
        self.disk = Disk(self.loop, stream(seed, "disk"), self.fired, 64 * 1024)
        self.bucket = Bucket(self.loop, stream(seed, "store"), self.clock, self.fired)
        self.file = MetadataFile(self.loop, stream(seed, "metadata"), self.clock, self.fired)
        self.node = self.loop.start_node("host")

    def run(self, program: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(self.loop.spawn(self.node, program), limit_s=1000)

    def crash(self, *, power_cut: bool) -> None:
        self.loop.kill(self.node, power_cut=power_cut)
        self.disk.process_killed(self.node)
        if power_cut:
            self.disk.power_cut()
        self.node = self.loop.start_node("host")


async def written(bench: Bench, number: int, offset: int, *buffers: bytes) -> BaseException | None:
    done: asyncio.Future[BaseException | None] = bench.loop.create_future()
    bench.disk.open().write(number, offset, buffers, done.set_result)
    return await done


def content(bench: Bench, number: int = 0) -> bytes:
    read: bytes = bench.run(bench.disk.open().read_segment(number))
    return read


@pytest.mark.parametrize("power_cut", [False, True])
def test_what_was_reported_durable_survives_every_crash(power_cut: bool) -> None:
    bench = Bench()
    bench.run(bench.disk.open().create_segment(0))
    assert bench.run(written(bench, 0, 10, b"ab", b"cd")) is None
    bench.crash(power_cut=power_cut)
    assert content(bench)[10:14] == b"abcd"
    assert bench.run(bench.disk.open().list_segments()) == [0]


def _crash_before_sync(seed: int, power_cut: bool) -> bytes:
    bench = Bench(seed)
    bench.disk.settings = DiskSettings(sync_min_s=5, sync_max_s=5, stall_share=0)
    bench.run(bench.disk.open().create_segment(0))

    async def start() -> None:
        bench.disk.open().write(0, 0, [b"\xff" * 4000], lambda error: pytest.fail("reported after death"))
        await asyncio.sleep(1)

    bench.run(start())
    bench.crash(power_cut=power_cut)
    return content(bench)[:4000]


def test_an_unsynced_write_survives_a_kill_and_is_lost_torn_or_whole_after_a_power_cut() -> None:
    assert all(_crash_before_sync(seed, power_cut=False) == b"\xff" * 4000 for seed in range(3))
    left = [_crash_before_sync(seed, power_cut=True).count(0xFF) for seed in range(60)]
    assert 0 in left
    assert 4000 in left
    assert any(0 < size < 4000 and size % 512 for size in left)


def test_a_failed_sync_is_reported_and_its_write_is_never_synced_by_a_later_one() -> None:
    bench = Bench()
    bench.run(bench.disk.open().create_segment(0))
    bench.disk.fail_next_sync = True
    assert isinstance(bench.run(written(bench, 0, 0, b"lost")), Fatal)
    assert bench.run(written(bench, 0, 4, b"kept")) is None
    assert content(bench)[:8] == b"lostkept"
    bench.crash(power_cut=True)
    assert content(bench)[:8] == b"\0\0\0\0kept"


@pytest.mark.parametrize("planted", ["planted_ack_before_sync", "planted_ack_before_write"])
def test_the_planted_bugs_report_too_early(planted: str) -> None:
    bench = Bench()
    bench.run(bench.disk.open().create_segment(0))
    bench.disk.settings = DiskSettings(write_max_s=0.1, sync_min_s=5, sync_max_s=5, **{planted: True})
    before = bench.loop.time()
    assert bench.run(written(bench, 0, 0, b"x")) is None
    assert bench.loop.time() - before < 1


def test_a_second_write_a_stray_write_and_a_changed_buffer_are_misuse() -> None:
    bench = Bench()
    bench.run(bench.disk.open().create_segment(0))

    async def twice() -> None:
        bench.disk.open().write(0, 0, [b"a"], lambda error: None)
        bench.disk.open().write(0, 1, [b"b"], lambda error: None)

    async def stray() -> None:
        await asyncio.sleep(1)
        bench.disk.open().write(0, 64 * 1024, [b"a"], lambda error: None)

    async def changed() -> None:
        buffer = bytearray(100)
        bench.disk.open().write(0, 0, [buffer], lambda error: None)
        buffer[5] = 1
        await asyncio.sleep(1)

    with pytest.raises(SimulationFailure, match="two writes"):
        bench.run(twice())
    with pytest.raises(SimulationFailure, match="leaves segment"):
        bench.run(stray())
    with pytest.raises(SimulationFailure, match="changed before it was written"):
        bench.run(changed())


def test_recycled_segments_keep_their_stale_content() -> None:
    bench = Bench()
    device = bench.disk.open()
    bench.disk.settings = DiskSettings(recycle_share=1)
    bench.run(device.create_segment(0))
    bench.run(written(bench, 0, 0, b"stale"))
    bench.run(device.remove_segments([0]))
    bench.run(device.create_segment(1))
    assert content(bench, 1)[:5] == b"stale"


async def outcome(call: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await call
    except (Retry, OutcomeUnknown, AlreadyExists, NotFound, Invalid) as error:
        return type(error)


def test_the_store_keeps_lists_cuts_and_deletes() -> None:
    bench = Bench()
    store = bench.bucket.client()

    async def program() -> None:
        for number in range(7):
            await store.put(f"k/{number}", [b"ab", memoryview(b"cd")])
        assert await outcome(store.put("k/0", [b"other"], if_absent=True)) is AlreadyExists
        assert bytes(await store.get("k/0")) == b"abcd"
        assert bytes(await store.get("k/0", 1, 3)) == b"bc"
        assert await outcome(store.get("k/0", 1, 5)) is Invalid
        assert await outcome(store.get("none")) is NotFound
        bench.bucket.settings.page_max_keys = 3
        pages = [page async for page in store.list("k/", "k/1")]
        assert [info.key for page in pages for info in page] == [f"k/{number}" for number in range(2, 7)]
        assert len(pages) > 1
        await store.delete(["k/0", "none"])
        assert await outcome(store.get("k/0")) is NotFound

    bench.run(program())


@pytest.mark.parametrize(
    ("settings", "raised", "applied_at_once", "applied_later"),
    [
        (StoreSettings(error_share=1), Retry, False, False),
        (StoreSettings(lost_reply_share=1), OutcomeUnknown, True, True),
        (StoreSettings(late_apply_share=1), OutcomeUnknown, False, True),
    ],
)
def test_each_store_fault_applies_when_it_says(
    settings: StoreSettings, raised: type[Exception], applied_at_once: bool, applied_later: bool
) -> None:
    bench = Bench()
    bench.bucket.settings = settings
    assert bench.run(outcome(bench.bucket.client().put("k", [b"x"]))) is raised
    assert ("k" in bench.bucket.objects) == applied_at_once
    bench.run(asyncio.sleep(100))
    assert ("k" in bench.bucket.objects) == applied_later


def test_a_slow_down_and_an_outage_end() -> None:
    bench = Bench()
    store = bench.bucket.client()
    bench.bucket.slow_down(5)
    outcomes = [bench.run(outcome(store.put("k", [b"x"]))) for _ in range(20)]
    assert Retry in outcomes
    bench.bucket.go_down(5)
    assert bench.run(outcome(store.put("k2", [b"x"]))) is OutcomeUnknown
    assert "k2" not in bench.bucket.objects
    assert bench.run(outcome(store.put("k2", [b"x"]))) is None


def test_a_request_under_way_may_outlive_its_process() -> None:
    left = set()
    for seed in range(20):
        bench = Bench(seed)
        bench.loop.spawn(bench.node, bench.bucket.client().put("k", [b"x"]))
        bench.loop.run_until_complete(asyncio.sleep(0.001))
        bench.crash(power_cut=False)
        bench.run(asyncio.sleep(10))
        left.add("k" in bench.bucket.objects)
    assert left == {True, False}


async def insert(tx: Tx, number: int) -> int:
    await tx.execute("INSERT INTO t VALUES ($1, $2)", number, "x")
    await tx.execute_many("INSERT INTO t VALUES ($1, $2)", [(number + 1, "y"), (number + 2, "z")])
    return int((await tx.fetch("SELECT count(*) FROM t"))[0][0])


async def refused(tx: Tx) -> None:
    await tx.execute("DELETE FROM t")
    raise Invalid("no")


async def sleeps(tx: Tx) -> None:
    await asyncio.sleep(1)


def test_commands_are_transactions_and_outlive_a_crash() -> None:
    bench = Bench()
    bench.run(bench.file.client().migrate("engine", ["CREATE TABLE t (a INTEGER, b TEXT)"]))
    bench.run(
        bench.file.client().migrate("engine", ["CREATE TABLE t (a INTEGER, b TEXT)", "CREATE TABLE u (a INTEGER)"])
    )
    assert bench.run(bench.file.client().transact(insert, 1)) == 3
    assert bench.run(outcome(bench.file.client().transact(refused))) is Invalid
    bench.crash(power_cut=True)
    with pytest.raises(Fatal):
        bench.run(bench.file.client().transact(sleeps))
    bench.file.settings = DatabaseSettings(conflict_share=1)
    assert bench.run(outcome(bench.file.client().transact(insert, 10))) is Retry
    bench.file.settings = DatabaseSettings(unknown_commit_share=1)
    assert bench.run(outcome(bench.file.client().transact(insert, 20))) is OutcomeUnknown
    rows = bench.run(bench.file.query("SELECT a FROM t ORDER BY a"))
    assert rows == [(1,), (2,), (3,), (20,), (21,), (22,)]
