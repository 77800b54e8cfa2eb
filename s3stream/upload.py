"""The upload shell: cut, build, put, commit, then move the uploaded ends, the WAL's trim point and the tail cache.

One cut at a time, its objects put side by side; so the runs of a stream are committed in order by construction. The
work runs in a task of its own that nobody's cancellation reaches: a commit that was sent is always settled before the
next cut. Nothing but a commit moves `uploaded_end`. The WAL is trimmed only below a trim point that the metadata hold.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from s3stream.append_path import AppendPath
from s3stream.details import StreamDetails
from s3stream.errors import Corrupt, Fatal, Fenced, NotFound
from s3stream.meta.rows import CommitResult, NewObject, ObjectCommit, RangeRow, RunRange, Verdict
from s3stream.meta.store import MetaStore
from s3stream.metrics import EngineMetrics
from s3stream.object_builder import BuiltRun
from s3stream.object_format import object_key
from s3stream.ports import Clock, ObjectStore
from s3stream.retrying import Retrying
from s3stream.settings import EngineSettings
from s3stream.stream import Stream
from s3stream.supervisor import Supervisor
from s3stream.tail_cache import TailCache
from s3stream.upload_build import ObjectAssembler, UploadObject, UploadRun
from s3stream.upload_plan import DirtyStream, PlannedObject, UploadPlan, due_at_s, is_due, plan_cut

_log = logging.getLogger(__name__)
_STUCK_DELAY_S = 1.0
_HURRY_INTERVAL_S = 0.5
_SETTLE_SLICE = 200


class Uploader:
    """Owns everything between a durable frame and a committed object."""

    def __init__(
        self,
        *,
        broker_id: int,
        broker_epoch: int,
        wal_epoch: int,
        appends: AppendPath,
        tail: TailCache,
        details: StreamDetails,
        assembler: ObjectAssembler,
        store: ObjectStore,
        meta: MetaStore,
        clock: Clock,
        rng: random.Random,
        supervisor: Supervisor,
        commits: asyncio.Lock,
        settings: EngineSettings,
        metrics: EngineMetrics,
        lose_stream: Callable[[Stream, BaseException], None],
        on_settled: Callable[[], None],
    ) -> None:
        self._broker_id, self._broker_epoch, self._wal_epoch = broker_id, broker_epoch, wal_epoch
        self._appends, self._tail, self._details, self._assembler = appends, tail, details, assembler
        self._store, self._meta, self._clock, self._rng = store, meta, clock, rng
        self._supervisor, self._settings, self._metrics = supervisor, settings, metrics
        self._lose_stream, self._on_settled = lose_stream, on_settled
        self._commits = commits  # also held by a trim: sizes and ends in memory and metadata change in one order
        self._retrying = Retrying(settings.retry_base_ms, settings.retry_max_ms, rng, self._count_failure)
        self._puts = asyncio.Semaphore(settings.upload_concurrency)
        self._wake = asyncio.Event()
        self._dead_frames = False
        self._hurried = False
        self._next_hurry_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._flushes: list[tuple[dict[int, int], asyncio.Future[None]]] = []
        self._stopped: BaseException | None = None
        self.object_ids: list[int] = []
        """The objects of the upload that is under way."""

    # ---- when -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Upload for ever. Fatal when the broker is fenced or a promise would be broken; the engine stops then."""
        while True:
            self._finish_flushes()
            due = bool(self._flushes) or self._hurried or self._is_due()
            plan, streams = self._cut() if due else (None, {})
            if plan is None:
                if self._dead_frames:
                    await self._trim_dead()
                else:
                    await self._sleep(due)
                continue
            progressed = await self._upload(plan, streams)
            self._on_settled()
            if not progressed:
                self._fail_flushes(Corrupt("an upload had to leave a stream out: its state cannot be read"))
                await asyncio.sleep(_STUCK_DELAY_S)

    def poke(self) -> None:
        """A flush group is durable, a stream went: look whether something is due. Called per group, so it is cheap."""
        if not self._wake.is_set() and (self._flushes or self._is_due()):
            self._wake.set()
        elif self._timer is None and self._appends.tail_bytes:
            self._arm()

    def hurry(self) -> None:
        """Producers are held back: upload what is there before its size or age, but not in many tiny objects."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._next_hurry_s:
            self._next_hurry_s = now_s + _HURRY_INTERVAL_S
            self._hurried = True
            self._wake.set()

    async def flush(self) -> None:
        """Return when everything that is durable now is committed (or its stream is gone). A store that failed is asked
        again at once: at a stop there may be less time than a pause between two tries takes."""
        targets = {s.stream_id: s.durable_end for s in self._appends.dirty if s.durable_end > s.uploaded_end}
        if not targets:
            return
        if self._stopped is not None:
            raise self._stopped
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushes.append((targets, finished))
        self._wake.set()
        self._retrying.hurry()
        await finished

    def stop(self, reason: BaseException) -> None:
        """The engine failed or closes: nobody's flush comes to its end any more."""
        self._stopped = reason
        self._disarm()
        self._fail_flushes(reason)

    def _is_due(self) -> bool:
        oldest = next(iter(self._appends.dirty), None)
        if oldest is None:
            return False
        now_s = asyncio.get_running_loop().time()
        return is_due(self._appends.tail_bytes, oldest.dirty_since, self._settings, now_s)

    def _cut(self) -> tuple[UploadPlan | None, dict[int, Stream]]:
        self._hurried = False
        streams = {stream.stream_id: stream for stream in self._appends.dirty}
        snapshot = [
            DirtyStream(s.stream_id, s.uploaded_end, s.durable_end, s.tail_bytes, s.dirty_since)
            for s in streams.values()
        ]
        return plan_cut(snapshot, self._settings), streams

    async def _sleep(self, due: bool) -> None:
        """Until poked, or until the oldest byte is too old. A cut that was due found nothing durable: the next flush
        group pokes. `due` is what the caller decided on; asked again here, the answer may be another one."""
        if not due:
            self._arm()
        try:
            await self._wake.wait()
        finally:
            self._disarm()
            self._wake.clear()

    def _arm(self) -> None:
        oldest = next(iter(self._appends.dirty), None)
        if self._timer is None and oldest is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(due_at_s(oldest.dirty_since, self._settings), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._wake.set()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish_flushes(self) -> None:
        dirty = {stream.stream_id: stream for stream in self._appends.dirty}
        waiting = []
        for targets, finished in self._flushes:
            left = {
                stream_id: end
                for stream_id, end in targets.items()
                if stream_id in dirty and dirty[stream_id].uploaded_end < end
            }
            if left and not finished.done():
                waiting.append((left, finished))
            elif not finished.done():
                finished.set_result(None)
        self._flushes = waiting

    def _fail_flushes(self, error: BaseException) -> None:
        flushes, self._flushes = self._flushes, []
        for _, finished in flushes:
            if not finished.done():
                finished.set_exception(error)

    # ---- how --------------------------------------------------------------------------------------------------

    async def _upload(self, plan: UploadPlan, streams: dict[int, Stream]) -> bool:
        """Carry a plan out; whether anything was settled by it."""
        try:
            return await self._put_and_commit(plan, streams)
        finally:
            self.object_ids = []

    async def _put_and_commit(self, plan: UploadPlan, streams: dict[int, Stream]) -> bool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            objects = await self._build_and_put(plan, streams)
            self._postpone_left_out(plan, streams, objects)
            if not objects:
                return any(streams[run.stream_id].gone is not None for item in plan.objects for run in item.runs)
            try:
                await self._commit(objects)
                break
            except NotFound as error:
                # The store was away for longer than prepared ids live. Nothing was applied: once more under new ids.
                _log.warning("an upload came too late and starts over: %s", error)
                self._metrics.upload_failures += 1
        self._metrics.uploads += 1
        self._metrics.upload_objects += len(objects)
        self._metrics.upload_bytes += sum(item.built.size_bytes for item in objects)
        self._metrics.upload_seconds.observe(loop.time() - began)
        return True

    def _postpone_left_out(self, plan: UploadPlan, streams: dict[int, Stream], objects: list[UploadObject]) -> None:
        """A stream that cannot be uploaded must not take the room of the others again and again."""
        taken = {run.stream.stream_id for item in objects for run in item.runs}
        for planned in plan.objects:
            for run in planned.runs:
                if run.stream_id not in taken:
                    self._appends.postpone(streams[run.stream_id])

    async def _build_and_put(self, plan: UploadPlan, streams: dict[int, Stream]) -> list[UploadObject]:
        self.object_ids = object_ids = await self._prepare(len(plan.objects))
        work = [
            self._supervisor.spawn(f"upload of object {object_id}", self._put_one(planned, streams, object_id))
            for planned, object_id in zip(plan.objects, object_ids, strict=True)
        ]
        return [item for item in await asyncio.gather(*work) if item is not None]

    async def _prepare(self, count: int) -> list[int]:
        try:
            return await self._retrying.until_settled(
                "prepare",
                lambda: self._meta.prepare_objects(
                    self._broker_id, self._broker_epoch, count, self._clock.now_ms(), self._settings.prepare_ttl_ms
                ),
            )
        except Fenced as error:
            raise Fatal(f"this broker was fenced: {error}") from error

    async def _put_one(self, planned: PlannedObject, streams: dict[int, Stream], object_id: int) -> UploadObject | None:
        async with self._puts:
            key = object_key(self._settings.cluster_id, object_id, self._rng.getrandbits(64))
            item = await self._retrying.until_settled(
                "building an object", lambda: self._assembler.assemble(planned, streams, object_id, key)
            )
            if item is not None:
                await self._retrying.until_settled(
                    "put", lambda: self._store.put(key, item.built.buffers), also_invalid=True
                )
            return item

    async def _commit(self, objects: list[UploadObject]) -> None:
        async with self._commits:
            commit = self._make_commit(objects)
            try:
                result = await self._retrying.until_settled("commit", lambda: self._meta.commit_objects(commit))
            except Fenced as error:
                raise Fatal(f"this broker was fenced: {error}") from error
            await self._settle(objects, commit, result)

    def _make_commit(self, objects: list[UploadObject]) -> ObjectCommit:
        return ObjectCommit(
            self._broker_id,
            self._broker_epoch,
            self._wal_epoch,
            [NewObject(item.object_id, item.key, item.kind, item.built.size_bytes) for item in objects],
            [
                _run_range(item.object_id, built, run.stream.epoch)
                for item in objects
                for built, run in zip(item.built.runs, item.runs, strict=True)
            ],
            self._trim_lsn({run.stream.stream_id: run.end_offset for item in objects for run in item.runs}),
            self._clock.now_ms(),
        )

    def _trim_lsn(self, committed_ends: dict[int, int]) -> int:
        """The lowest LSN of any live frame that this commit leaves outside of objects."""
        lowest = self._appends.wal.next_lsn()
        for stream in self._appends.dirty:
            end = committed_ends.get(stream.stream_id, stream.uploaded_end)
            lsn = self._tail.first_lsn(stream.stream_id, end)
            if lsn is not None and lsn < lowest:
                lowest = lsn
        return lowest

    def trim_dead(self) -> None:
        """Streams went: WAL segments that hold nothing but their frames are of no use any more."""
        self._dead_frames = True
        self._wake.set()

    async def _trim_dead(self) -> None:
        """Without a commit to go with: the trim point moves in the metadata first, recovery starts from there."""
        self._dead_frames = False
        trim_lsn = self._trim_lsn({})
        try:
            await self._retrying.until_settled(
                "WAL trim",
                lambda: self._meta.trim_wal(self._broker_id, self._broker_epoch, self._wal_epoch, trim_lsn),
            )
        except Fenced as error:
            raise Fatal(f"this broker was fenced: {error}") from error
        self._appends.wal.trim(trim_lsn)
        self._on_settled()

    async def _settle(self, objects: list[UploadObject], commit: ObjectCommit, result: CommitResult) -> None:
        """Bring the books in memory up to what the metadata hold now; in slices, each stream at once."""
        for item in objects:
            for number, (built, run) in enumerate(zip(item.built.runs, item.runs, strict=True), start=1):
                self._settle_run(item, built, run, result.verdicts[built.stream_id])
                if number % _SETTLE_SLICE == 0:
                    await asyncio.sleep(0)
        self._appends.wal.trim(commit.trim_lsn)

    def _settle_run(self, item: UploadObject, built: BuiltRun, run: UploadRun, verdict: Verdict) -> None:
        stream = run.stream
        if verdict is not Verdict.COMMITTED:
            self._metrics.dead_runs += 1
        if stream.gone is not None:
            return
        if verdict is Verdict.DELETED or verdict is Verdict.FENCED:
            self._lose_stream(stream, Fenced(f"stream {stream.stream_id} is {verdict.value} in the metadata"))
            return
        self._appends.uploaded(stream, run.end_offset, run.batch_bytes)
        if verdict is Verdict.COMMITTED:
            stream.committed_bytes += built.size_bytes
            self._details.committed(_range_row(item, built), run.state)
        else:
            self._details.below_start(stream.stream_id, run.end_offset, run.state)

    def _count_failure(self) -> None:
        self._metrics.upload_failures += 1


def _run_range(object_id: int, built: BuiltRun, stream_epoch: int) -> RunRange:
    return RunRange(
        built.stream_id,
        stream_epoch,
        built.start_offset,
        built.end_offset,
        object_id,
        built.position,
        built.size_bytes,
        built.max_timestamp_ms,
        built.flags,
        built.records,
        built.state_position,
        built.state_size,
    )


def _range_row(item: UploadObject, built: BuiltRun) -> RangeRow:
    return RangeRow(
        built.stream_id,
        built.start_offset,
        built.end_offset,
        item.object_id,
        item.key,
        built.position,
        built.size_bytes,
        built.max_timestamp_ms,
        built.flags,
        built.records,
        built.state_position,
        built.state_size,
        item.built.size_bytes,
    )
