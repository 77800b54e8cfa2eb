"""A world for engine tests: what survives a crash (disk, bucket, metadata) and an engine that is dropped at will."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Sequence
from typing import Any

from s3stream.engine import StreamEngine
from s3stream.meta.sqlite import SqliteDatabase
from s3stream.meta.sqlite_runner import InlineRunner
from s3stream.meta.store import MetaStore
from s3stream.object_format import AbortedTxn
from s3stream.ports import WalRecord
from s3stream.recovery_report import RecoveryReport
from s3stream.retention import RetentionPolicy
from s3stream.settings import KIB, EngineSettings
from s3stream.stores.memory import MemoryObjectStore
from s3stream.stream import Stream
from s3stream.stream_state import StateFold
from s3stream.supervisor import Supervisor

SETTINGS = EngineSettings(
    upload_size_bytes=64 * KIB,
    upload_interval_ms=3_600_000,
    upload_max_bytes=256 * KIB,
    stream_object_bytes=16 * KIB,
    block_size_bytes=2 * KIB,
    tail_max_bytes=512 * KIB,
    tail_cache_bytes=512 * KIB,
    whole_run_bytes=4 * KIB,
    read_ahead_min_bytes=4 * KIB,
    read_ahead_max_bytes=32 * KIB,
    retry_base_ms=1,
    retry_max_ms=2,
    cold_read_timeout_ms=5_000,
    gc_grace_ms=0,
)


class ManualClock:
    def __init__(self) -> None:
        self.at_ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.at_ms


def make_batch(base: int, count: int, timestamp_ms: int, size: int = 200) -> memoryview:
    """A RecordBatch v2 whose header is right and whose content says what it is."""
    body = (f"{base}:{count};".encode() * (size // 4))[: max(0, size - 61)]
    fields = (base, 49 + len(body), 0, 2, 0, 0, count - 1, 0, timestamp_ms, -1, -1, -1, count)
    return memoryview(struct.pack(">qiibIhiqqqhii", *fields) + body)


def count_fold(state: bytes | None, batches: Sequence[memoryview]) -> StateFold:
    """A state that gives away every batch that is missing or applied twice: the (base, count) chain's last end and a
    running sum."""
    end, total = struct.unpack(">qq", state) if state else (None, 0)
    aborted = []
    for batch in batches:
        base, last_delta = struct.unpack_from(">q", batch, 0)[0], struct.unpack_from(">i", batch, 23)[0]
        if end is not None and base != end:
            raise AssertionError(f"state fold: batch at {base} after {end}")
        end = base + last_delta + 1
        total += end * 31 + base
        if base % 7 == 0:
            aborted.append(AbortedTxn(base, base, end - 1, base))
    return StateFold(struct.pack(">qq", end or 0, total) if end is not None else None, aborted)


class Disk:
    """What a fake WAL leaves behind: frames of the newest sealed epoch, durable ones only."""

    def __init__(self) -> None:
        self.frames: list[WalRecord] = []
        self.next_lsn = 1
        self.trimmed_to = 0


class FakeWal:
    """`ports.Wal` on a `Disk`; groups become durable when the loop comes round, or when `hold` is lifted."""

    def __init__(self, disk: Disk, on_durable: Any, on_fatal: Any, capacity: int = 1 << 30) -> None:
        self.disk, self._on_durable, self._on_fatal = disk, on_durable, on_fatal
        self._capacity = capacity
        self._queue: list[tuple[WalRecord, object]] = []
        self._scheduled = False
        self.hold = False
        self.dead = False
        self.fail_next: BaseException | None = None

    async def recover(self, trim_lsn: int) -> Sequence[WalRecord]:
        return [frame for frame in self.disk.frames if frame.lsn >= trim_lsn]

    async def begin(self, wal_epoch: int, survivors: Sequence[WalRecord]) -> Sequence[int]:
        lsns = [self.disk.next_lsn + number for number in range(len(survivors))]
        self.disk.next_lsn += len(survivors)
        self.disk.frames = [
            frame._replace(lsn=lsn, payload=memoryview(bytes(frame.payload)))
            for frame, lsn in zip(survivors, lsns, strict=True)
        ]
        return lsns

    def free_bytes(self) -> int:
        used = sum(len(frame.payload) for frame in self.disk.frames if frame.lsn >= self.disk.trimmed_to)
        return 0 if self.dead else max(0, self._capacity - used - sum(len(r.payload) for r, _ in self._queue))

    def append(
        self, stream_id: int, stream_epoch: int, base: int, count: int, max_ts: int, payload: memoryview, entry: object
    ) -> int:
        lsn = self.disk.next_lsn
        self.disk.next_lsn += 1
        self._queue.append((WalRecord(lsn, stream_id, stream_epoch, base, count, max_ts, payload), entry))
        if not self._scheduled and not self.hold:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.sync)
        return lsn

    def sync(self) -> None:
        self._scheduled = False
        if self.dead or not self._queue:
            return
        if self.fail_next is not None:
            self.dead = True
            self._on_fatal(self.fail_next)
            return
        group, self._queue = self._queue, []
        self.disk.frames.extend(record._replace(payload=memoryview(bytes(record.payload))) for record, _ in group)
        self._on_durable([entry for _, entry in group])

    def trim(self, lsn: int) -> None:
        self.disk.trimmed_to = max(self.disk.trimmed_to, lsn)
        self.disk.frames = [frame for frame in self.disk.frames if frame.lsn >= lsn]

    def next_lsn(self) -> int:
        return self.disk.next_lsn

    def durable_lsn(self) -> int:
        return self.disk.next_lsn - 1 - len(self._queue)

    async def close(self) -> None:
        self.sync()
        self.dead = True


class World:
    """One broker's surroundings. `engine` is the running incarnation."""

    def __init__(self, settings: EngineSettings = SETTINGS, seed: int = 1) -> None:
        self.settings = settings
        self.clock = ManualClock()
        self.rng = random.Random(seed)
        self.disk = Disk()
        self.store: Any = MemoryObjectStore(self.clock.now_ms)
        self.meta: Any = MetaStore(SqliteDatabase(":memory:", InlineRunner(), self.clock.now_ms))
        self.policies: dict[int, RetentionPolicy] = {}
        self.crashes: list[tuple[str, BaseException]] = []
        self.supervisor = Supervisor(lambda name, error: self.crashes.append((name, error)))
        self.engine: StreamEngine
        self.wal: Any = None
        self.wal_capacity = 1 << 30

    def make_wal(self, on_durable: Any, on_fatal: Any) -> Any:
        self.wal = FakeWal(self.disk, on_durable, on_fatal, self.wal_capacity)
        return self.wal

    async def start(self) -> RecoveryReport:
        """A new incarnation."""
        self.supervisor = Supervisor(lambda name, error: self.crashes.append((name, error)))
        self.engine = StreamEngine(
            broker_id=1,
            settings=self.settings,
            wal_factory=self.make_wal,
            store=self.store,
            meta=self.meta,
            clock=self.clock,
            rng=self.rng,
            supervisor=self.supervisor,
            fold_state=count_fold,
            retention_policy=self.policies.get,
        )
        return await self.engine.start()

    async def create(self, *stream_ids: int) -> list[Stream]:
        await self.meta.migrate()
        await self.meta.create_streams(list(stream_ids))
        return await self.engine.open_streams(list(stream_ids))

    async def crash(self) -> None:
        """Drop the engine as a kill would: nothing of it runs any more, nothing is flushed."""
        self.wal.dead = True
        await self.supervisor.close()

    async def restart(self) -> RecoveryReport:
        await self.crash()
        return await self.start()

    async def close(self) -> None:
        if isinstance(self.wal, FakeWal):
            self.wal.sync()
        await self.engine.close(upload=False)
        await self.supervisor.close()
        await self.meta.close()


def append(stream: Stream, count: int = 1, timestamp_ms: int = 0, size: int = 200, done: Any = None) -> memoryview:
    batch = make_batch(stream.next_offset, count, timestamp_ms, size)
    stream.append(batch, count, timestamp_ms, done)
    return batch


async def append_durably(stream: Stream, count: int = 1, timestamp_ms: int = 0, size: int = 200) -> bytes:
    acked: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: BaseException | None) -> None:
        if error is None:
            acked.set_result(None)
        else:
            acked.set_exception(error)

    batch = append(stream, count, timestamp_ms, size, done)
    await acked
    return bytes(batch)


async def read_all(stream: Stream, max_bytes: int = 4096) -> list[bytes]:
    """Everything durable from the start on, batch by batch, by following the offsets as a consumer does."""
    found: list[bytes] = []
    offset = stream.start_offset
    while offset < stream.durable_end:
        batches = await stream.read(offset, max_bytes, stream.durable_end)
        assert batches, f"nothing at {offset} of {stream}"
        for batch in batches:
            base = struct.unpack_from(">q", batch, 0)[0]
            found.append(bytes(batch))
            assert base <= offset or not found[:-1]
            offset = base + struct.unpack_from(">i", batch, 23)[0] + 1
    return found
