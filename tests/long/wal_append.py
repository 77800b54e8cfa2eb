"""Measures the file WAL: what an append costs, how long a group takes, how long a start takes.

    python -m tests.long.wal_append [FOLDER]

FOLDER (default: a temporary one) should be on the disk that counts. Costs of `append` are CPU time of the calling
thread, best of several rounds; latencies are wall time and depend on what else the machine does.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from crc32c import crc32c

from s3stream.arena import Arena
from s3stream.tail_cache import TailCache
from s3stream.wal.device_folder import FolderWalDevice
from s3stream.wal.device_memory import MemoryWalDevice
from s3stream.wal.file_wal import FileWal, FileWalSettings

MIB = 1024 * 1024
SETTINGS = FileWalSettings(capacity_bytes=1024 * MIB)


def fail(error: BaseException) -> None:
    raise SystemExit(f"the WAL failed: {error}")


async def append_cost() -> None:
    device = MemoryWalDevice(64 * MIB)
    wal = FileWal(device, SETTINGS, lambda entries: None, fail)
    await wal.begin(1, await wal.recover(0))
    for size in (100, 1024, 16 * 1024, 256 * 1024):
        payload = memoryview(bytearray(size))
        count = max(10, min(1000, 8 * MIB // size))
        best = float("inf")
        for _ in range(30):
            began = time.thread_time()
            for number in range(count):
                wal.append(7, 1, number, 1, 5, payload, None)
            best = min(best, (time.thread_time() - began) / count)
            while wal.durable_lsn() < wal.next_lsn() - 1:  # noqa: ASYNC110 - measuring, not waiting for an event
                await asyncio.sleep(0)
            wal.trim(wal.next_lsn())
            await asyncio.sleep(0)
        print(f"append of {size:>7} bytes: {best * 1e6:6.2f} us")
    await wal.close()


def memory_cost() -> None:
    arena, cache = Arena(8 * MIB, 64 * MIB), TailCache(8 * MIB)
    view = memoryview(bytes(1024))
    costs = {
        "arena.allocate": float("inf"),
        "tail_cache.append, evicting": float("inf"),
        "tail_cache.read": float("inf"),
    }
    offset = 0
    for _ in range(20):
        began = time.thread_time()
        for _ in range(1000):
            arena.allocate(1024)
        costs["arena.allocate"] = min(costs["arena.allocate"], time.thread_time() - began)
        began = time.thread_time()
        for base in range(offset, offset + 1000):
            cache.append(1, base, base + 1, 0, base, view)
        costs["tail_cache.append, evicting"] = min(costs["tail_cache.append, evicting"], time.thread_time() - began)
        offset += 1000
        cache.mark_uploaded(1, offset)
        began = time.thread_time()
        for _ in range(1000):
            cache.read(1, offset - 1, 1 * MIB, offset)
        costs["tail_cache.read"] = min(costs["tail_cache.read"], time.thread_time() - began)
    for name, cost in costs.items():
        print(f"{name}: {cost * 1e3:.2f} us")


async def group_latency(folder: Path, concurrency: int, size: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    finished = loop.create_future()
    payload = memoryview(bytearray(size))

    def durable(entries: Sequence[object]) -> None:
        now = time.perf_counter()
        for began in entries:
            if isinstance(began, float):
                waits.append(now - began)
            if len(waits) < count:
                wal.append(1, 1, 0, 1, 0, payload, time.perf_counter())
            elif not finished.done():
                finished.set_result(None)
        if wal.free_bytes() < 128 * MIB:
            wal.trim(wal.durable_lsn())

    wal = FileWal(FolderWalDevice(folder, 64 * MIB), SETTINGS, durable, fail)
    began = time.perf_counter()
    records = await wal.recover(0)
    recovered = time.perf_counter()
    await wal.begin(1, [])
    started = time.perf_counter()
    print(
        f"start: recover {1e3 * (recovered - began):.0f} ms ({len(records)} records), "
        f"begin {1e3 * (started - recovered):.0f} ms"
    )
    for _ in range(concurrency):
        wal.append(1, 1, 0, 1, 0, payload, time.perf_counter())
    await finished
    took = time.perf_counter() - started
    waits.sort()
    stats = wal.stats
    print(
        f"{concurrency:>4} in flight of {size:>7} bytes: {len(waits) * size / took / 1e6:7.1f} MB/s, "
        f"{stats.frames / stats.groups:6.1f} frames a group, write and sync "
        f"{1e3 * stats.write_s / stats.groups:.2f} ms, "
        f"ack p50 {1e3 * waits[len(waits) // 2]:.2f} p99 {1e3 * waits[len(waits) * 99 // 100]:.2f} ms"
    )
    await wal.close()


async def restart(folder: Path, segments: int) -> None:
    """Time to recover and rewrite a WAL whose frames nobody trimmed."""
    payload = memoryview(bytearray(16 * 1024))
    wal = FileWal(FolderWalDevice(folder, 64 * MIB), SETTINGS, lambda entries: None, fail)
    await wal.begin(1, await wal.recover(0))
    for number in range(segments * 64 * MIB // (17 * 1024)):
        wal.append(1, 1, number, 1, 0, payload, None)
    await wal.close()
    wal = FileWal(FolderWalDevice(folder, 64 * MIB), SETTINGS, lambda entries: None, fail)
    began = time.perf_counter()
    records = await wal.recover(0)
    recovered = time.perf_counter()
    await wal.begin(2, records)
    took_ms = 1e3 * (time.perf_counter() - recovered)
    recover_ms = 1e3 * (recovered - began)
    print(f"restart: recover {recover_ms:.0f} ms ({len(records)} records of 16 KiB), rewrite {took_ms:.0f} ms")
    await wal.close()


def calibrate() -> None:
    """What the machine can do just now, to judge the rest by: about 1.2 us on an idle 3 GHz core."""
    data, best = memoryview(bytes(16 * 1024)), float("inf")
    for _ in range(20):
        began = time.thread_time()
        for _ in range(1000):
            crc32c(data)
        best = min(best, time.thread_time() - began)
    print(f"crc32c of   16384 bytes: {best * 1e3:6.2f} us")


def main() -> None:
    calibrate()
    asyncio.run(append_cost())
    memory_cost()
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for number, (concurrency, size, count) in enumerate(
            [(1, 1024, 2000), (50, 1024, 20_000), (50, 16 * 1024, 10_000), (8, MIB, 400)]
        ):
            asyncio.run(group_latency(Path(folder) / str(number), concurrency, size, count))
        for segments in (1, 3):
            asyncio.run(restart(Path(folder) / f"restart{segments}", segments))


if __name__ == "__main__":
    main()
