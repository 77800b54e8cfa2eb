"""The shell around one group state machine: loads it, appends for it, answers when durable, keeps its log short.

Rules carried out here (design section 7): state is replayed once the log has accepted the append; every answer, reads
included, waits until the last write it may reflect is durable; a refused append changes nothing and is answered with an
error that clients retry.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any
from uuid import UUID

from broker.groups.checkpoint import RECORDS_PER_TURN, size_bytes, write_checkpoint
from broker.groups.log import CoordinatorLog
from broker.groups.machine import GroupMachine
from broker.groups.messages import Command, Reply
from broker.groups.outbox import Outcome, Ticket, TimerArg, TimerKey
from broker.groups.records import Record
from broker.groups.settings import GroupSettings
from protocol.errors import ErrorCode
from s3stream.errors import Corrupt, Fenced, Invalid, OutcomeUnknown, Retry, StreamError
from s3stream.ports import Clock

_TOMBSTONES_PER_APPEND = 1_000
_MAX_LOAD_PAUSE_MS = 30_000
_MAX_CORRUPT_READS = 8


class ShardState(enum.Enum):
    LOADING = "loading"
    ACTIVE = "active"
    FAILED = "failed"
    """Its log does not verify or its leadership is lost; nothing more is served from here."""


class WaitingRequest:
    """A `Ticket`: the command and the future its caller awaits."""

    __slots__ = ("command", "future")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def failed(self, error: ErrorCode) -> Reply:
        return self.command.failed(error)

    def resolve(self, reply: Reply) -> None:
        """No-op when the caller is gone (its connection closed)."""
        if not self.future.done():
            self.future.set_result(reply)


class Timeline:
    """Where a shard sets its timers: the service's heap, keyed by shard."""

    def __init__(
        self, set_timer: Callable[[TimerKey, int, TimerArg], None], cancel_timer: Callable[[TimerKey], None]
    ) -> None:
        self.set = set_timer
        self.cancel = cancel_timer


def append_error(error: BaseException) -> ErrorCode:
    """What a client is told when an append was refused (Kafka's appendGroupMetadataErrorToResponseError)."""
    if isinstance(error, Fenced):
        return ErrorCode.NOT_COORDINATOR
    if isinstance(error, Invalid):
        return ErrorCode.UNKNOWN_SERVER_ERROR
    return ErrorCode.COORDINATOR_NOT_AVAILABLE


class GroupShard:
    """One partition of `__consumer_offsets` under one leadership. All methods run on the event loop."""

    def __init__(
        self,
        partition: int,
        log: CoordinatorLog,
        settings: GroupSettings,
        clock: Clock,
        rng: random.Random,
        timeline: Timeline,
        on_failed: Callable[[GroupShard, BaseException], None],
        spawn: Callable[[str, Coroutine[Any, Any, None]], object],
    ) -> None:
        self.partition = partition
        self.leader_epoch = log.leader_epoch
        self.state = ShardState.LOADING
        self.machine = GroupMachine(settings, rng)
        self.dirty_bytes = 0
        self._log = log
        self._settings = settings
        self._clock = clock
        self._timeline = timeline
        self._on_failed = on_failed
        self._spawn = spawn
        self._deleted_topics: dict[tuple[str, UUID | None], None] = {}
        self._checkpoint_pending = False
        self._checkpoint_at_bytes = settings.checkpoint_dirty_bytes
        self._trim_to: int | None = None

    # -- requests

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        """Run a command; the future resolves with its reply, for Join and Sync when the rebalance phase ends."""
        request = WaitingRequest(command)
        if self.state is ShardState.ACTIVE:
            self._run(self.machine.handle(command, request, self._clock.now_ms()))
        else:
            loading = self.state is ShardState.LOADING
            request.resolve(
                command.failed(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if loading else ErrorCode.NOT_COORDINATOR)
            )
        return request.future

    def _run(self, outcome: Outcome) -> ErrorCode:
        """Append, replay, settle, carry out the effects. Returns what the log said."""
        error = ErrorCode.NONE
        if outcome.records:
            error = self._append(outcome.records)
        if outcome.settle is not None:
            outcome.settle(error)
        self._carry_out()
        return error

    def _append(self, records: tuple[Record, ...]) -> ErrorCode:
        try:
            self._log.append(records, self._appended)
        except StreamError as error:
            return append_error(error)
        if self.state is ShardState.FAILED:
            return ErrorCode.NOT_COORDINATOR  # the log broke while it took them
        for record in records:
            self.machine.replay(record)
        self.dirty_bytes += size_bytes(records)
        if self.dirty_bytes >= self._checkpoint_at_bytes and not self._checkpoint_pending:
            self._checkpoint_pending = True
            self._timeline.set(("checkpoint",), 0, ())
        return ErrorCode.NONE

    def _appended(self, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error)

    def _carry_out(self) -> None:
        replies, timers = self.machine.outbox.drain()
        for timer in timers:
            if timer.delay_ms is None:
                self._timeline.cancel(timer.key)
            else:
                self._timeline.set(timer.key, timer.delay_ms, timer.arg)
        if replies:
            self._log.when_durable(partial(self._answer, replies))

    @staticmethod
    def _answer(replies: list[tuple[Ticket, Reply]], error: BaseException | None) -> None:
        for ticket, reply in replies:
            if isinstance(ticket, WaitingRequest):
                ticket.resolve(reply if error is None else ticket.failed(ErrorCode.NOT_COORDINATOR))

    # -- timers

    def timer_fired(self, key: TimerKey, arg: TimerArg) -> None:
        if self.state is not ShardState.ACTIVE:
            return
        now_ms = self._clock.now_ms()
        if key[0] == "expire":
            refused = not self._run_all(self.machine.expire_offsets(now_ms, _TOMBSTONES_PER_APPEND))
            interval_ms = self._settings.offsets_retention_check_interval_ms
            self._timeline.set(key, min(self._settings.retry_pause_ms, interval_ms) if refused else interval_ms, ())
        elif key[0] == "topics":
            self._forget_deleted_topics()
        elif key[0] == "checkpoint":
            self._spawn(f"checkpoint of group partition {self.partition}", self._checkpoint_then_rest())
        else:
            self._run(self.machine.expire(key, arg, now_ms))

    def _run_all(self, outcomes: Iterator[Outcome]) -> bool:
        """False when the log refused one: the rest waits for the next try."""
        return all(self._run(outcome) is ErrorCode.NONE for outcome in outcomes)

    # -- deleted topics

    def topic_deleted(self, name: str, topic_id: UUID | None) -> None:
        """Drop the offsets of a deleted topic, now or as soon as the shard is loaded and its log takes them."""
        self._deleted_topics[name, topic_id] = None
        if self.state is ShardState.ACTIVE:
            self._forget_deleted_topics()

    def _forget_deleted_topics(self) -> None:
        for name, topic_id in list(self._deleted_topics):
            if not self._run_all(self.machine.forget_topic(name, topic_id, _TOMBSTONES_PER_APPEND)):
                self._timeline.set(("topics",), self._settings.retry_pause_ms, ())
                return
            del self._deleted_topics[name, topic_id]

    # -- life

    async def load(self) -> None:
        """Read the log to its end, then serve."""
        try:
            await self._replay(await self._read_patiently())
        except (Corrupt, Fenced, Invalid) as error:
            self._fail(error)
        if self.state is not ShardState.LOADING:
            return
        self.state = ShardState.ACTIVE
        self._run(self.machine.loaded(self._clock.now_ms()))
        self._timeline.set(("expire",), self._settings.offsets_retention_check_interval_ms, ())
        if self.dirty_bytes >= self._checkpoint_at_bytes:
            self._checkpoint_pending = True
            self._timeline.set(("checkpoint",), 0, ())
        self._forget_deleted_topics()

    async def _read_patiently(self) -> dict[bytes, bytes]:
        """Try with growing pauses while the store or the metadata cannot answer; a read whose connection broke
        (OutcomeUnknown) is as good as one that was refused. Bytes that do not verify may be right the next time they
        come: only what stays wrong for several tries ends the partition."""
        pause_ms, corrupt_reads = self._settings.retry_pause_ms, 0
        while self.state is ShardState.LOADING:
            wanted_ms = 0
            try:
                return await self._read_latest()
            except Retry as error:
                wanted_ms = error.retry_after_ms or 0
            except OutcomeUnknown:
                pass  # a read has no effect: nothing is to be found out
            except Corrupt:
                corrupt_reads += 1
                if corrupt_reads >= _MAX_CORRUPT_READS:
                    raise
            await asyncio.sleep(max(pause_ms, wanted_ms) / 1000)
            pause_ms = min(2 * pause_ms, _MAX_LOAD_PAUSE_MS)
        return {}

    async def _read_latest(self) -> dict[bytes, bytes]:
        """The last value of each key, not yet decoded: of a day of commits only the last of each key is ever."""
        latest: dict[bytes, bytes] = {}
        self.dirty_bytes = 0
        seen = 0
        async for records in self._log.read_all():
            for start in range(0, len(records), RECORDS_PER_TURN):
                piece = list(records[start : start + RECORDS_PER_TURN])
                for key, value in piece:
                    latest.pop(key, None)
                    if value is not None:
                        latest[key] = value
                self.dirty_bytes += size_bytes(piece)
                seen += len(piece)
                if seen >= RECORDS_PER_TURN:
                    seen = 0
                    await asyncio.sleep(0)
        return latest

    async def _replay(self, latest: dict[bytes, bytes]) -> None:
        for done, record in enumerate(latest.items(), start=1):
            self.machine.replay(record)
            if done % RECORDS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _fail(self, error: BaseException) -> None:
        if self.state is not ShardState.FAILED:
            self.close()
            self._on_failed(self, error)

    def close(self) -> None:
        """Stop serving: parked requests are answered NOT_COORDINATOR, so that clients look the coordinator up again."""
        if self.state is ShardState.FAILED:
            return
        self.state = ShardState.FAILED
        self.machine.unload(ErrorCode.NOT_COORDINATOR, self._clock.now_ms())
        replies, _ = self.machine.outbox.drain()
        self._answer(replies, None)

    # -- checkpoint

    async def _checkpoint_then_rest(self) -> None:
        if await self.checkpoint():
            self._checkpoint_pending = False
        elif self.state is ShardState.ACTIVE:
            self._timeline.set(("checkpoint",), self._settings.retry_pause_ms, ())

    async def checkpoint(self) -> bool:
        """Write every live record again at the log's end, then trim the log below. False = refused, try again later."""
        try:
            if self._trim_to is None:
                self._trim_to = await self._rewrite()
            await self._log.trim(self._trim_to)
        except StreamError:
            return False
        self._trim_to = None
        return True

    async def _rewrite(self) -> int:
        """The offset at which the durable copy begins."""
        dirty_before_bytes, self.dirty_bytes = self.dirty_bytes, 0
        try:
            copy = await write_checkpoint(
                self._log, self.machine.state, self._appended, lambda: self.state is ShardState.ACTIVE
            )
        except StreamError:
            self.dirty_bytes += dirty_before_bytes
            raise
        # With much live state, rewriting it for every few new bytes would be most of the traffic.
        self._checkpoint_at_bytes = max(self._settings.checkpoint_dirty_bytes, copy.size_bytes)
        return copy.start_offset
