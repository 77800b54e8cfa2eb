"""Fetch (key 1), versions 4 to 18.

Behaviour: full requests and incremental sessions (KIP-227), topic ids from version 13 (KIP-516), leader epochs and
divergence (KIP-320, KIP-595), min and max bytes with at least one batch for the first partition that has data (KIP-74),
long polls that wake on the ack of a produce, not on a timer. Answers are views of the memory that the producer's frame
was received into. What memory cannot answer goes to the cold lane: a task of its own, so that it never delays others.
read_committed: the last stable offset is the high watermark until transactions are served.
Deliberate omissions: replica fetches (replica id >= 0) are refused, NOT_LEADER_OR_FOLLOWER; the preferred
read replica is -1.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from broker.fetching.pass_over import PartitionAnswer, Pass, look
from broker.fetching.sessions import NO_SESSION, FetchContext
from protocol.errors import ErrorCode
from protocol.fetch import FetchRequest, encode_fetch_response, parse_fetch_request
from protocol.headers import RequestHeader
from s3stream.errors import Corrupt, Invalid, OffsetOutOfRange, StreamError

if TYPE_CHECKING:
    from broker.net.connection import Connection, Reply
    from broker.partitions.log import PartitionLog
    from broker.services import Services

_BY_ID_FROM_VERSION = 13
_COLD_READS_AT_ONCE = 8
"""Partitions of one request that are read from the store side by side."""


class FetchOperation:
    """One fetch from its first look to its answer. Held on its connection: later requests wait, as in Kafka."""

    __slots__ = ("context", "header", "logs", "reply", "request", "services", "timer")

    def __init__(
        self,
        services: Services,
        header: RequestHeader,
        request: FetchRequest,
        context: FetchContext,
        reply: Reply,
    ) -> None:
        self.services = services
        self.header = header
        self.request = request
        self.context = context
        self.reply = reply
        self.timer: asyncio.TimerHandle | None = None
        self.logs: dict[PartitionLog, int] = {}

    # -- first look ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        epochs_needed: list[PartitionLog] = []
        outcome = self._look(epochs_needed)
        connection = self.reply.connection
        if epochs_needed or outcome.cold:
            self.services.counters.fetch_cold_requests += 1
            connection.run_held(self._read_cold(outcome, epochs_needed))
        elif outcome.errors or outcome.size >= self.request.min_bytes or self.request.max_wait_ms <= 0:
            self.services.counters.fetch_hot_requests += 1
            self._answer(outcome)
        else:
            self.services.counters.fetch_hot_requests += 1
            self._wait(outcome)

    def _look(self, epochs_needed: list[PartitionLog]) -> Pass:
        return look(
            self.services.partitions,
            self.context.partitions,
            by_id=self.header.api_version >= _BY_ID_FROM_VERSION,
            max_bytes=min(self.request.max_bytes, self.services.settings.network.fetch_max_bytes),
            epochs_needed=epochs_needed,
        )

    # -- waiting for data ------------------------------------------------------------------------------------------

    def _wait(self, outcome: Pass) -> None:
        self.services.counters.fetch_purgatory += 1
        connection = self.reply.connection
        for answer in outcome.answers:
            log = answer.log
            if log is not None:
                self.logs[log] = answer.partition.fetch_offset
                log.add_waiter(self)
        connection.hold()
        connection.waiting = self
        self.timer = connection.loop.call_later(self.request.max_wait_ms / 1000, self._time_out)

    def data_arrived(self, log: PartitionLog) -> None:
        """Called within the ack of a produce: enough for an answer?"""
        if self.request.min_bytes > 1 and not self._enough():
            return
        self._stop_waiting()
        self._look_again()

    def log_gone(self, log: PartitionLog) -> None:
        self._stop_waiting()
        self._look_again()

    def _enough(self) -> bool:
        wanted = self.request.min_bytes
        have = 0
        for log, offset in self.logs.items():
            stream = log.stream
            if offset < stream.durable_end:
                records = stream.read_hot(offset, wanted - have, stream.durable_end)
                if records is None:
                    return True  # gone to the store meanwhile: the cold lane answers
                have += sum(map(len, records))
                if have >= wanted:
                    return True
        return False

    def _time_out(self) -> None:
        self._stop_waiting()
        self._look_again()

    def _stop_waiting(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for log in self.logs:
            log.remove_waiter(self)
        self.logs = {}
        self.reply.connection.waiting = None

    def answer_now(self) -> None:
        """The broker is stopping: what there is must do."""
        self._time_out()

    def cancel(self) -> None:
        """The connection is gone."""
        self._stop_waiting()

    def _look_again(self) -> None:
        """The wait is over: answer with what there is."""
        epochs_needed: list[PartitionLog] = []
        outcome = self._look(epochs_needed)
        connection = self.reply.connection
        if epochs_needed or outcome.cold:
            connection.run_held(self._read_cold(outcome, epochs_needed))
            return
        self._answer(outcome)
        connection.release()

    # -- the cold lane ---------------------------------------------------------------------------------------------

    async def _read_cold(self, outcome: Pass, epochs_needed: list[PartitionLog]) -> None:
        if epochs_needed:
            try:
                for log in epochs_needed:
                    await log.epoch_history()
            except StreamError as error:
                self.services.log_sparingly(
                    logging.WARNING, "the epochs of a log cannot be loaded", {"reason": str(error)}
                )
            unknown: list[PartitionLog] = []
            outcome = self._look(unknown)
            for answer in outcome.answers:
                if answer.log in unknown:
                    answer.error = ErrorCode.KAFKA_STORAGE_ERROR  # the metadata is away: retriable
        left = min(self.request.max_bytes, self.services.settings.network.fetch_max_bytes) - outcome.size
        cold = outcome.cold
        while cold and (left > 0 or outcome.size == 0):
            batch, cold = cold[:_COLD_READS_AT_ONCE], cold[_COLD_READS_AT_ONCE:]
            share = max(left // len(batch), 1)
            read = await asyncio.gather(*(self._read_one(answer, share) for answer in batch))
            for answer, records in zip(batch, read, strict=True):
                limit = min(left, answer.partition.max_bytes)
                taken = answer.take(records, limit, at_least_one=outcome.size == 0)
                outcome.size += taken
                left -= taken
        if not self.reply.connection.closed:
            self._answer(outcome)

    async def _read_one(self, answer: PartitionAnswer, max_bytes: int) -> list[memoryview]:
        log = answer.log
        assert log is not None
        partition = answer.partition
        limit = min(max_bytes, partition.max_bytes)
        try:
            records = await log.stream.read(partition.fetch_offset, max(limit, 1), log.stream.durable_end)
        except OffsetOutOfRange:
            answer.error = ErrorCode.OFFSET_OUT_OF_RANGE
        except Corrupt:
            answer.error = ErrorCode.KAFKA_STORAGE_ERROR
        except Invalid:
            answer.error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION  # deleted under the reader
        except StreamError:
            answer.error = ErrorCode.KAFKA_STORAGE_ERROR  # the store is away: retriable
        else:
            answer.high_watermark = log.stream.durable_end
            answer.start_offset = log.stream.start_offset
            return records
        return []

    # -- answer ----------------------------------------------------------------------------------------------------

    def _answer(self, outcome: Pass) -> None:
        context = self.context
        answers = outcome.answers
        if context.session is not None:
            told = []
            for answer in answers:
                partition = answer.partition
                has_news = (
                    answer.size > 0
                    or answer.error
                    or answer.diverging is not None
                    or answer.high_watermark != partition.told_high_watermark
                    or answer.start_offset != partition.told_start_offset
                )
                if has_news:
                    # an error is told again each time: the consumer must not miss its end either
                    partition.told_high_watermark = -1 if answer.error else answer.high_watermark
                    partition.told_start_offset = answer.start_offset
                    told.append(answer)
                if answer.size:
                    context.session.serve_last(partition)
            if context.incremental:
                answers = told
        counters = self.services.counters
        counters.fetched_bytes += outcome.size
        reply = self.reply
        counters.fetch_seconds.observe(reply.connection.loop.time() - reply.started_at)
        reply.send(
            encode_fetch_response(
                self.header.api_version,
                self.header.correlation_id,
                0,
                ErrorCode.NONE,
                context.session_id,
                _by_topic(answers, self.header.api_version, self.request.isolation_level),
            )
        )


def handle(services: Services, connection: Connection, header: RequestHeader, frame: bytes | memoryview) -> None:
    """Answer from memory at once, or wait, or go to the cold lane. Raises MalformedRequest."""
    version = header.api_version
    if connection.closed:
        return  # received before the client went; nobody waits for the data
    request = parse_fetch_request(version, memoryview(frame), header.body_offset)
    reply = connection.open_reply()
    if request.replica_id >= 0:
        _refuse_replica(version, header.correlation_id, request, reply)
        return
    context = services.fetch_sessions.context(request, version >= _BY_ID_FROM_VERSION, services.clock.now_ms())
    if isinstance(context, ErrorCode):
        reply.send(encode_fetch_response(version, header.correlation_id, 0, context, NO_SESSION, ()))
        return
    FetchOperation(services, header, request, context, reply).start()


def _refuse_replica(version: int, correlation_id: int, request: FetchRequest, reply: Reply) -> None:
    """No broker copies from another here: as for any broker that is not in a partition's replica set."""
    error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    topics = [
        (name, topic_id, [(row[0], error, -1, -1, -1, None, -1, (), None, None) for row in partitions])
        for name, topic_id, partitions in request.topics
    ]
    reply.send(encode_fetch_response(version, correlation_id, 0, ErrorCode.NONE, NO_SESSION, topics))


def _by_topic(answers: list[PartitionAnswer], version: int, isolation_level: int) -> list[Any]:
    """Rows in the shape of `encode_fetch_response`; neighbours of one topic share its entry."""
    by_id = version >= _BY_ID_FROM_VERSION
    aborted: list[Any] | None = [] if isolation_level == 1 else None
    topics: list[Any] = []
    rows: list[Any] = []
    current: object = None
    for answer in answers:
        partition = answer.partition
        if partition.topic != current:
            current = partition.topic
            rows = []
            topics.append(("", current, rows) if by_id else (current, b"", rows))
        high_watermark = answer.high_watermark
        start_offset = answer.start_offset
        if answer.error:
            high_watermark = start_offset = -1
        rows.append(
            (
                partition.index,
                answer.error,
                high_watermark,
                high_watermark,
                start_offset,
                () if answer.log is None else None if answer.error else aborted,
                -1,
                answer.records,
                answer.diverging,
                None,
            )
        )
    return topics
