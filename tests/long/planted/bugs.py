"""The planted bugs, one small function each: what it changes in the code that the world runs, and where it is searched.

A function patches through `Planted.replace`, which fails when the code is not there any more, and calls `ran` where the
wrong thing was done, so that a search knows that the bug was really met.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.groups.offsets import Offsets
from broker.groups.outbox import Outcome
from broker.partitions import producer_state
from broker.partitions.log import PartitionLog, refused
from protocol.errors import ErrorCode
from protocol.record_batch import parse_batch_header
from s3stream import upload_build
from s3stream.append_path import AppendPath
from s3stream.gc import GarbageDuty
from s3stream.object_format import object_key
from s3stream.stream import Stream
from s3stream.tail_cache import TailCache
from s3stream.upload import Uploader
from s3stream.upload_build import ObjectAssembler
from s3stream.wal.group_commit import GroupCommit
from tests.long.planted.patching import Planted
from tests.simulation.disk import Disk


@dataclass(frozen=True)
class Bug:
    """`scenarios` are searched in turn, seed by seed."""

    name: str
    text: str
    plant: Callable[[Planted], None]
    scenarios: tuple[str, ...]


def ack_before_flush(planted: Planted) -> None:
    def make(original: Any) -> Any:
        def after_last(self: AppendPath, done: Any) -> None:
            if not self.pending or self.failure is not None:
                original(self, done)
                return
            planted.ran()
            done(None)

        return after_last

    planted.replace(AppendPath, "after_last", make)


def ack_before_sync(planted: Planted) -> None:
    """At the device: a write is reported once the kernel has copied it."""

    def make(original: Any) -> Any:
        def submit(self: Disk, *args: Any) -> None:
            self.settings.planted_ack_before_sync = True
            planted.ran()
            original(self, *args)

        return submit

    planted.replace(Disk, "submit", make)


def commit_before_upload(planted: Planted) -> None:
    def make(original: Any) -> Any:
        del original

        async def _put_one(self: Uploader, planned: Any, streams: Any, object_id: int) -> Any:
            key = object_key(self._settings.cluster_id, object_id, self._rng.getrandbits(64))
            item = await self._assembler.assemble(planned, streams, object_id, key)
            if item is not None:
                planted.ran()
                put = self._retrying.until_settled(
                    "put", lambda: self._store.put(key, item.built.buffers), also_invalid=True
                )
                self._supervisor.spawn("a late put", put)
            return item

        return _put_one

    planted.replace(Uploader, "_put_one", make)


def delete_without_grace(planted: Planted) -> None:
    def make(original: Any) -> Any:
        async def run_once(self: GarbageDuty) -> int:
            settings = self._settings

            class NoGrace:
                gc_grace_ms = 0

                def __getattr__(self, name: str) -> Any:
                    return getattr(settings, name)

            self._settings = NoGrace()  # type: ignore[assignment]
            try:
                removed: int = await original(self)
            finally:
                self._settings = settings
            if removed:
                planted.ran()
            return removed

        return run_once

    planted.replace(GarbageDuty, "run_once", make)


def no_epoch_check(planted: Planted) -> None:
    """Commits are taken from members and generations of a group that are over."""
    over = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.FENCED_INSTANCE_ID)

    def make(original: Any) -> Any:
        def commit(self: Offsets, command: Any, ticket: Any, now_ms: int) -> Any:
            group = self._table.groups.get(command.group_id)
            if group is None or command.generation < 0:
                return original(self, command, ticket, now_ms)
            if group.commit_error(command.member_id, command.group_instance_id, command.generation) not in over:
                return original(self, command, ticket, now_ms)
            records, reply = self._commit_records(command, now_ms)
            planted.ran()

            def settle(error: ErrorCode) -> None:
                self._table.outbox.reply(ticket, command.failed(error) if error else reply)

            return Outcome(tuple(records), settle)

        return commit

    planted.replace(Offsets, "commit", make)


def retried_flush(planted: Planted) -> None:
    """After a failed fdatasync the WAL syncs once more and takes that for the truth."""

    def make(original: Any) -> Any:
        def _written(self: GroupCommit, error: BaseException | None) -> None:
            group = self._writing
            if error is None or group is None:
                original(self, error)
                return
            planted.ran()
            self._device.write(group.segment, group.end, [b""], self._written)

        return _written

    planted.replace(GroupCommit, "_written", make)


def trim_before_commit(planted: Planted) -> None:
    """The WAL is trimmed once an object is built, which is before it is stored and committed."""

    def make(original: Any) -> Any:
        async def assemble(self: ObjectAssembler, *args: Any) -> Any:
            item = await original(self, *args)
            if item is not None:
                planted.ran()
                uploader = uploaders[-1]
                ends = {run.stream.stream_id: run.end_offset for run in item.runs}
                uploader._appends.wal.trim(uploader._trim_lsn(ends))
            return item

        return assemble

    def remember(original: Any) -> Any:
        async def run(self: Uploader) -> None:
            uploaders.append(self)
            await original(self)

        return run

    uploaders: list[Uploader] = []
    planted.replace(Uploader, "run", remember)
    planted.replace(ObjectAssembler, "assemble", make)


def window_of_one(planted: Planted) -> None:
    def count(original: Any) -> Any:
        def record(self: Any, producer_id: int, *args: Any) -> None:
            producer = self.producers.get(producer_id)
            if producer is not None and len(producer.batches) == 1:
                planted.ran()
            original(self, producer_id, *args)

        return record

    planted.replace(producer_state, "KEPT_BATCHES", lambda original: 1)
    planted.replace(producer_state.ProducerState, "record", count)


def early_duplicate(planted: Planted) -> None:
    def make(original: Any) -> Any:
        def append(self: PartitionLog, *args: Any, **named: Any) -> Any:
            result = original(self, *args, **named)
            *answer, original_end = result
            if original_end <= self.stream.durable_end:
                return result
            planted.ran()
            return *answer, 0

        return append

    planted.replace(PartitionLog, "append", make)


def high_watermark_ahead(planted: Planted) -> None:
    """Who reads is shown what is appended, not only what is durable."""

    def make(original: Any) -> Any:
        def shown(stream: Stream) -> int:
            durable: int = original.__get__(stream)
            reader = sys._getframe(1).f_globals["__name__"].startswith(("broker.fetching", "broker.handlers.fetch"))
            if reader and durable < stream.next_offset:
                planted.ran()
                return stream.next_offset
            return durable

        return property(shown, original.__set__)

    planted.replace(Stream, "durable_end", make)


def state_ahead(planted: Planted) -> None:
    """The STATE of an upload is folded over everything in the tail, as a live snapshot would be."""
    ahead: dict[int, list[memoryview]] = {}  # id of a list of views: what comes behind them
    keep: list[Any] = []

    def stash(original: Any) -> Any:
        def take_for_upload(self: Any, stream_id: int, begin: int, below: int, max_bytes: int) -> Any:
            cut = original(self, stream_id, begin, below, max_bytes)
            held = self.held(stream_id)
            if cut.end_offsets and held is not None and held[1] > cut.end_offsets[-1]:
                ahead[id(cut.views)] = original(self, stream_id, cut.end_offsets[-1], held[1], 1 << 40).views
                keep.append(cut.views)  # so that its id is not given out again
            return cut

        return take_for_upload

    def make(original: Any) -> Any:
        async def fold_in_slices(fold: Any, state: Any, batches: Any) -> Any:
            more = ahead.pop(id(batches), None)
            if more is None:
                return await original(fold, state, batches)
            planted.ran()
            return await original(fold, state, [*batches, *more])

        return fold_in_slices

    planted.replace(TailCache, "take_for_upload", stash)
    planted.replace(upload_build, "fold_in_slices", make)


def gap_after_refusal(planted: Planted) -> None:
    """One batch in fifty is refused after its offsets were taken, as by a check that comes too late."""
    batches = 0

    def make(original: Any) -> Any:
        def append(self: PartitionLog, records: memoryview, *args: Any, **named: Any) -> Any:
            nonlocal batches
            batches += 1
            if batches % 50 or self.stream.gone is not None:
                return original(self, records, *args, **named)
            planted.ran()
            self.stream.next_offset += parse_batch_header(records).record_count
            return refused(ErrorCode.NOT_ENOUGH_REPLICAS)

        return append

    planted.replace(PartitionLog, "append", make)


BUGS = {
    bug.name: bug
    for bug in (
        Bug("ack-before-flush", "ack before flush", ack_before_flush, ("kills", "power-cuts")),
        Bug("ack-before-sync", "ack before fdatasync (device)", ack_before_sync, ("power-cuts",)),
        Bug("commit-before-upload", "commit before upload", commit_before_upload, ("kills", "store-trouble")),
        Bug("no-grace", "delete without grace", delete_without_grace, ("steady", "store-trouble")),
        Bug("no-epoch-check", "no epoch check (members of a group)", no_epoch_check, ("network-trouble", "storm")),
        Bug("retried-flush", "retry of a failed flush", retried_flush, ("power-cuts",)),
        Bug("early-trim", "WAL trim before commit", trim_before_commit, ("store-trouble", "metadata-outage")),
        Bug("window-of-one", "duplicate window of one", window_of_one, ("network-trouble", "kills")),
        Bug("early-duplicate", "duplicate answered early", early_duplicate, ("power-cuts", "kills")),
        Bug("early-watermark", "high watermark past durability", high_watermark_ahead, ("power-cuts", "kills")),
        Bug("state-ahead", "STATE taken ahead of the cut", state_ahead, ("power-cuts", "storm")),
        Bug("refusal-gap", "gap left by a late refusal", gap_after_refusal, ("kills", "network-trouble")),
    )
}
