"""`StreamEngine`: the life of the storage engine of one broker. It wires the parts and owns start, failure and close.

append_path   WAL + tail cache, acknowledgements          upload*      cut, build, put, commit
pressure      admission                                   read*        tail, block cache, ranged GETs
details       range rows and states of active streams     trim, retention, gc   getting rid of data
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from s3stream.append_path import AppendPath
from s3stream.block_cache import BlockCache
from s3stream.details import StreamDetails
from s3stream.errors import Fatal, Invalid, NotFound, Retry, StreamError
from s3stream.gc import GarbageDuty
from s3stream.meta.rows import StreamRow
from s3stream.meta.store import MetaStore
from s3stream.metrics import EngineMetrics
from s3stream.ports import Clock, ObjectStore, Wal, WalRecord
from s3stream.pressure import ArenaGauge, Pressure
from s3stream.read import Reader
from s3stream.read_budget import ByteBudget
from s3stream.read_load import UnitLoader
from s3stream.read_store import StoreReads
from s3stream.read_units import UnitMap
from s3stream.recovery_report import RecoveryReport
from s3stream.replay import plan_replay
from s3stream.retention import PolicyOf, RetentionDuty
from s3stream.retrying import Retrying
from s3stream.settings import EngineSettings
from s3stream.stream import Stream
from s3stream.stream_state import FoldState, no_state
from s3stream.supervisor import Supervisor, end_tasks
from s3stream.tail_cache import TailCache
from s3stream.trim import Trimmer
from s3stream.upload import Uploader
from s3stream.upload_build import ObjectAssembler

_log = logging.getLogger(__name__)
_OPEN_BATCH = 2000

WalFactory = Callable[[Callable[[Sequence[object]], None], Callable[[BaseException], None]], Wal]
"""(on_durable, on_fatal) -> the WAL of this broker."""


class StreamEngine:
    """Streams on a WAL, an object store and a metadata store, all of them given.

    Life: construct, `start()` once, then everything else, `close()`. Invariants: nothing is readable below
    `durable_end` moves; an uploaded end moves only by a commit; a failed WAL or a lost broker epoch ends every
    acknowledgement for good (`failure` says why, the supervisor hears of it).
    """

    def __init__(
        self,
        *,
        broker_id: int,
        settings: EngineSettings,
        wal_factory: WalFactory,
        store: ObjectStore,
        meta: MetaStore,
        clock: Clock,
        rng: random.Random,
        supervisor: Supervisor,
        fold_state: FoldState = no_state,
        metrics: EngineMetrics | None = None,
        arena: ArenaGauge | None = None,
        retention_policy: PolicyOf | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics = metrics if metrics is not None else EngineMetrics()
        self._broker_id, self._wal_factory, self._store, self._meta = broker_id, wal_factory, store, meta
        self._clock, self._rng, self._supervisor, self._fold_state = clock, rng, supervisor, fold_state
        self._streams: dict[int, Stream] = {}
        self._broker_epoch = 0
        self._uploader: Uploader | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Future[None] | None = None
        self._started = False

        self.tail = TailCache(settings.tail_cache_bytes)
        self.blocks = BlockCache(settings.block_cache_bytes, metrics)
        self.budget = ByteBudget(settings.cold_read_bytes)
        self._appends = AppendPath(self.tail, metrics, self._on_group, self._on_failure)
        self._pressure = Pressure(
            appends=self._appends,
            tail_max_bytes=settings.tail_max_bytes,
            pending_max_bytes=settings.pending_max_bytes,
            arena=arena,
            evict=self.tail.evict,
            hurry=self._hurry,
            metrics=metrics,
        )
        self.admit = self._pressure.admit
        """Whether so many bytes may be appended now, in this turn of the loop; False is back-pressure (or the end)."""
        store_reads = StoreReads(store, settings, rng, metrics)
        self._details = StreamDetails(meta, store_reads.read_range, settings)
        units = UnitMap(store_reads.read_range, settings)
        loader = UnitLoader(store_reads, self.blocks, self.budget, supervisor, metrics)
        self._reads = Reader(
            tail=self.tail,
            details=self._details,
            units=units,
            loader=loader,
            cache=self.blocks,
            settings=settings,
            metrics=metrics,
        )
        self._commits = asyncio.Lock()
        self._trims = Trimmer(meta, self.tail, clock, self._commits, self._lose_stream)
        self.garbage = GarbageDuty(meta, store, clock, settings, metrics, self._uploading)
        self.retention = (
            RetentionDuty(self._owned, retention_policy, meta, self.tail, clock, metrics) if retention_policy else None
        )

    # ---- what it is -------------------------------------------------------------------------------------------

    @property
    def broker_epoch(self) -> int:
        return self._broker_epoch

    @property
    def accepting(self) -> bool:
        """False once it has failed or is closing: `admit` says no for good."""
        return self.failure is None and self._closing is None

    @property
    def failure(self) -> BaseException | None:
        """Why nothing is acknowledged any more; None while all is well."""
        return self._appends.failure

    @property
    def tail_bytes(self) -> int:
        """Bytes that are in no committed object yet."""
        return self._appends.tail_bytes

    @property
    def max_append_bytes(self) -> int:
        """The largest payload of one append; the caller refuses a larger one before it assigns an offset."""
        return self._appends.wal.max_payload_bytes

    @property
    def streams_open(self) -> int:
        return len(self._streams)

    def stream(self, stream_id: int) -> Stream | None:
        """The stream if this engine has it open."""
        return self._streams.get(stream_id)

    def _uploading(self) -> Sequence[int]:
        return () if self._uploader is None else self._uploader.object_ids

    def _owned(self) -> list[Stream]:
        return list(self._streams.values())

    # ---- start ------------------------------------------------------------------------------------------------

    async def start(self) -> RecoveryReport:
        """Take the broker id over, make what the WAL holds durable under the new epoch, begin to serve.

        Corrupt when acknowledged data is missing or does not verify. While the metadata store does not answer it
        waits.
        """
        if self._started:
            raise Invalid("the engine was started before")
        self._started = True
        try:
            return await self._start()
        except BaseException:
            await self._give_up_start()
            raise

    async def _give_up_start(self) -> None:
        """What was opened is let go of, so that the WAL can be opened again by a later start of the same process."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
        try:
            await self._end(Retry("the engine did not start"))
        except StreamError as error:
            _log.error("closing after a start that failed: %s", error)

    async def _start(self) -> RecoveryReport:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        retrying = Retrying(self.settings.retry_base_ms, self.settings.retry_max_ms, self._rng, lambda: None)
        incarnation = f"{self._rng.getrandbits(128):032x}"
        now_ms = self._clock.now_ms()
        await retrying.until_settled("migrations", self._meta.migrate)
        self._broker_epoch = await retrying.until_settled(
            "registration", lambda: self._meta.register_broker(self._broker_id, incarnation, now_ms)
        )
        grant = await retrying.until_settled(
            "the WAL epoch", lambda: self._meta.open_wal(self._broker_id, self._broker_epoch)
        )
        wal = self._wal_factory(self._appends.on_durable, self._appends.fail)
        self._appends.attach(wal)
        records = await wal.recover(grant.trim_lsn)
        ids = sorted({record.stream_id for record in records})
        rows = await retrying.until_settled("stream rows", lambda: self._meta.stream_rows(ids))
        replay = plan_replay(records, {row.stream_id: row for row in rows})
        opened = await retrying.until_settled(
            "opening streams",
            lambda: self._meta.open_streams(
                self._broker_id, self._broker_epoch, list(replay.tail_ends), replay.tail_ends
            ),
        )
        lsns = await wal.begin(grant.wal_epoch, replay.survivors)
        self._add_streams(opened)
        self._restore(replay.survivors, lsns)
        self._run_duties(grant.wal_epoch)
        return RecoveryReport(
            broker_epoch=self._broker_epoch,
            wal_epoch=grant.wal_epoch,
            frames=len(records),
            survivors=len(replay.survivors),
            survivor_bytes=self._appends.tail_bytes,
            streams=len(opened),
            dropped_deleted=replay.dropped_deleted,
            dropped_committed=replay.dropped_committed,
            seconds=loop.time() - began_s,
        )

    def _restore(self, survivors: Sequence[WalRecord], lsns: Sequence[int]) -> None:
        for record, lsn in zip(survivors, lsns, strict=True):
            stream = self._streams.get(record.stream_id)
            if stream is None:
                raise Fatal(f"stream {record.stream_id} was deleted while its WAL frames were recovered; start again")
            end = record.base_offset + record.record_count
            self._appends.restore(stream, record.base_offset, end, record.max_timestamp_ms, lsn, record.payload)

    def _run_duties(self, wal_epoch: int) -> None:
        settings = self.settings
        assembler = ObjectAssembler(
            self._broker_id, self._broker_epoch, self.tail, self._details, self._fold_state, settings
        )
        self._uploader = Uploader(
            broker_id=self._broker_id,
            broker_epoch=self._broker_epoch,
            wal_epoch=wal_epoch,
            appends=self._appends,
            tail=self.tail,
            details=self._details,
            assembler=assembler,
            store=self._store,
            meta=self._meta,
            clock=self._clock,
            rng=self._rng,
            supervisor=self._supervisor,
            commits=self._commits,
            settings=settings,
            metrics=self.metrics,
            lose_stream=self._lose_stream,
            on_settled=self._pressure.check,
        )
        self._tasks.append(self._supervisor.spawn("upload", self._upload_for_ever(self._uploader)))
        self._tasks.append(self._supervisor.spawn("removal of dead objects", self.garbage.run()))
        if self.retention is not None:
            interval_ms = settings.retention_check_interval_ms
            self._tasks.append(self._supervisor.spawn("retention", self.retention.run(interval_ms)))

    async def _upload_for_ever(self, uploader: Uploader) -> None:
        """An upload that cannot go on means that this broker has lost its epoch or would break a promise."""
        try:
            await uploader.run()
        except Exception as error:
            self._appends.fail(error if isinstance(error, Fatal) else Fatal(f"uploads ended: {error!r}"))
            raise

    # ---- streams ----------------------------------------------------------------------------------------------

    async def open_streams(self, ids: Sequence[int]) -> list[Stream]:
        """Own and open streams, in the order of `ids`; those that do not exist (any more) are left out.

        One transaction per two thousand, nothing else: rows and state are loaded on first need. A stream that is open
        already is returned as it is.
        """
        self._check_serving()
        missing = [stream_id for stream_id in ids if stream_id not in self._streams]
        for begin in range(0, len(missing), _OPEN_BATCH):
            batch = missing[begin : begin + _OPEN_BATCH]
            self._add_streams(await self._meta.open_streams(self._broker_id, self._broker_epoch, batch))
            self._check_serving()
        return [self._streams[stream_id] for stream_id in ids if stream_id in self._streams]

    def _add_streams(self, rows: Sequence[StreamRow]) -> None:
        for row in rows:
            if row.stream_id not in self._streams:
                self._streams[row.stream_id] = Stream(
                    row.stream_id,
                    row.stream_epoch,
                    row.start_offset,
                    row.end_offset,
                    row.size_bytes,
                    self._appends,
                    self._reads,
                    self._trims,
                )

    async def delete_streams(self, ids: Sequence[int]) -> None:
        """Forget streams that a metadata transaction has deleted. Who waits gets NotFound; appends under way still
        become durable, and nobody will ever read them."""
        for stream_id in ids:
            stream = self._streams.get(stream_id)
            if stream is not None:
                self._lose_stream(stream, NotFound(f"stream {stream_id} was deleted"))
        if self._uploader is not None and self.failure is None:
            self._uploader.trim_dead()
        self._pressure.check()

    def _lose_stream(self, stream: Stream, reason: BaseException) -> None:
        """The stream is deleted or somebody else's: nothing of it may be written or answered any more."""
        self._streams.pop(stream.stream_id, None)
        self._appends.drop_tail(stream)
        self._details.forget(stream.stream_id)
        self._appends.end_stream(stream, reason)

    # ---- admission --------------------------------------------------------------------------------------------

    def when_relieved(self, callback: Callable[[], None]) -> None:
        """Run `callback` once `admit` is worth another try. After a failure or close it runs at once, and `admit` says
        no for good: look at `accepting` before waiting again."""
        self._pressure.when_relieved(callback)

    def evict(self, nbytes: int) -> int:
        """Give back memory of batches that are in objects already; the bytes of batches given up."""
        return self.tail.evict(nbytes)

    def _hurry(self) -> None:
        if self._uploader is not None:
            self._uploader.hurry()

    def _on_group(self) -> None:
        if self._uploader is not None:
            self._uploader.poke()
        self._pressure.group_is_durable()
        if self._closing is not None and not self._appends.pending and not self._closing.done():
            self._closing.set_result(None)

    def _on_failure(self, failure: Fatal) -> None:
        _log.critical("the storage engine stops: %s", failure)
        for stream in self._owned():
            self._appends.end_stream(stream, failure)
        if self._uploader is not None:
            self._uploader.stop(failure)
        self._pressure.close()
        if self._closing is not None and not self._closing.done():
            self._closing.set_exception(failure)
        try:
            self._supervisor.spawn("storage engine", _raise(failure))
        except RuntimeError:
            _log.critical("the supervisor is closed already")

    def _check_serving(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._uploader is None:
            raise Retry("the engine has not started yet")
        if self._closing is not None:
            raise Retry("the engine is closing")

    # ---- flush and close --------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Upload and commit everything that is durable now. Raises what made the engine stop, if it does."""
        if self.failure is not None:
            raise self.failure
        if self._uploader is not None:
            await self._uploader.flush()

    async def close(self, *, upload: bool, timeout_s: float = 30.0) -> None:
        """Stop admitting, wait for the WAL, upload (as far as `timeout_s` allows: the WAL has the rest), end all tasks.

        Idempotent. The store and the metadata store are not closed: they were given.
        """
        if self._closing is not None:
            return
        self._closing = asyncio.get_running_loop().create_future()
        self._pressure.close()
        try:
            async with asyncio.timeout(timeout_s):
                if self._appends.pending and self.failure is None:
                    await self._closing
                if upload and self.failure is None:
                    await self.flush()
        except TimeoutError:
            _log.warning("closing with %d bytes in the WAL and in no object", self._appends.tail_bytes)
        except StreamError as error:
            _log.error("closing with %d bytes in the WAL and in no object: %s", self._appends.tail_bytes, error)
        finally:
            await self._end(Retry("the engine is closed"))

    async def _end(self, reason: Retry) -> None:
        for stream in self._owned():
            self._appends.end_stream(stream, reason)
        if self._uploader is not None:
            self._uploader.stop(reason)
        await end_tasks(self._tasks)
        if self._appends.attached:
            await self._appends.wal.close()
        self._streams.clear()


async def _raise(error: BaseException) -> None:
    raise error
