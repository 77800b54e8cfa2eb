"""Fetch (key 1), versions 4 to 18.

Behaviour: full requests and incremental sessions (KIP-227), topic ids from version 13 (KIP-516), leader epochs and
divergence (KIP-320, KIP-595), min and max bytes with at least one batch for the first partition that has data (KIP-74),
long polls that wake on the ack of a produce, not on a timer: what became durable within one turn of the loop is
answered together. Answers are views of the memory that the producer's frame
was received into. What memory cannot answer goes to the cold lane: a task of its own, so that it never delays others.
read_committed: the last stable offset is the high watermark until transactions are served.
Deliberate omissions: replica fetches (replica id >= 0) are refused, NOT_LEADER_OR_FOLLOWER; the preferred
read replica is -1.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from broker.fetching.full import BY_ID_FROM_VERSION, FullFetch
from broker.fetching.pass_over import PartitionAnswer, Pass, look
from broker.fetching.standing import NO_SESSION, StandingFetch
from broker.partitions.loading import epoch_history
from protocol.errors import ErrorCode
from protocol.fetch import (
    FetchRequest,
    ResponseTopic,
    encode_fetch_response,
    parse_fetch_request,
    unpack_partition,
)
from protocol.headers import RequestHeader
from s3stream.errors import Corrupt, Invalid, OffsetOutOfRange, StreamError

if TYPE_CHECKING:
    from broker.net.connection import Connection, Reply
    from broker.partitions.log import PartitionLog
    from broker.services import Services

_COLD_READS_AT_ONCE = 8
"""Partitions of one request that are read from the store side by side."""


class FetchOperation:
    """One fetch from its first look to its answer. Held on its connection: later requests wait, as in Kafka."""

    __slots__ = (
        "header",
        "incremental",
        "max_bytes",
        "max_wait_ms",
        "min_bytes",
        "read_committed",
        "reply",
        "services",
        "standing",
        "timer",
        "woken",
    )

    def __init__(
        self,
        services: Services,
        header: RequestHeader,
        request: FetchRequest,
        standing: StandingFetch,
        reply: Reply,
    ) -> None:
        self.services = services
        self.header = header
        self.standing = standing
        self.incremental = request.session_epoch > 0
        self.max_bytes = min(request.max_bytes, services.settings.network.fetch_max_bytes)
        self.max_wait_ms = request.max_wait_ms
        self.min_bytes = request.min_bytes
        self.read_committed = request.isolation_level == 1
        self.reply = reply
        self.timer: asyncio.TimerHandle | None = None
        self.woken: asyncio.Handle | None = None

    # -- first look ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        epochs_needed: list[PartitionLog] = []
        outcome = self._look(epochs_needed)
        if epochs_needed or outcome.cold:
            self.services.counters.fetch_cold_requests += 1
            self.reply.connection.run_held(self._read_cold(outcome, epochs_needed))
            return
        self.services.counters.fetch_hot_requests += 1
        if self._enough(outcome) or self.max_wait_ms <= 0:
            self._answer(outcome)
        else:
            self._wait(outcome)

    def _look(self, epochs_needed: list[PartitionLog]) -> Pass:
        """At all that is not settled; settles what has no data."""
        standing = self.standing
        outcome = look(
            self.services.partitions,
            standing.to_look_at(incremental=self.incremental),
            by_id=self.header.api_version >= BY_ID_FROM_VERSION,
            max_bytes=self.max_bytes,
            epochs_needed=epochs_needed,
        )
        for answer in outcome.answers:
            if answer.quiet:
                standing.settle(answer)
        return outcome

    def _enough(self, outcome: Pass) -> bool:
        return outcome.errors or outcome.size >= self.min_bytes

    # -- waiting for data ------------------------------------------------------------------------------------------

    def _wait(self, outcome: Pass) -> None:
        self.services.counters.fetch_purgatory += 1
        connection = self.reply.connection
        connection.hold()
        connection.waiting = self
        self.timer = connection.loop.call_later(self.max_wait_ms / 1000, self._time_out)
        self.standing.wait(self)
        self._watch(outcome)

    def _watch(self, outcome: Pass) -> None:
        """Settled partitions are watched already; more may come to the others, too."""
        for answer in outcome.answers:
            if answer.log is not None and not answer.partition.settled:
                self.standing.watch(answer.partition, answer.log)

    def wake(self) -> None:
        """Called within the ack of a produce, or by a log that is gone. What else is acknowledged within this turn of
        the loop goes into the same answer."""
        if self.woken is None:
            self.woken = self.reply.connection.loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        self.woken = None
        epochs_needed: list[PartitionLog] = []
        outcome = self._look(epochs_needed)
        if epochs_needed or outcome.cold or self._enough(outcome):
            self._end(outcome, epochs_needed)
        else:
            self._watch(outcome)

    def _time_out(self) -> None:
        """The wait is over: answer with what there is."""
        epochs_needed: list[PartitionLog] = []
        self._end(self._look(epochs_needed), epochs_needed)

    def _end(self, outcome: Pass, epochs_needed: list[PartitionLog]) -> None:
        self.cancel()
        connection = self.reply.connection
        if epochs_needed or outcome.cold:
            connection.run_held(self._read_cold(outcome, epochs_needed))
            return
        self._answer(outcome)
        connection.release()

    def answer_now(self) -> None:
        """The broker is stopping, or the session goes on elsewhere: what there is must do."""
        self._time_out()

    def cancel(self) -> None:
        """No longer waiting: answered now, or the connection is gone."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.woken is not None:
            self.woken.cancel()
            self.woken = None
        if self.standing.waiting is self:
            self.standing.waiting = None
        self.reply.connection.waiting = None

    # -- the cold lane ---------------------------------------------------------------------------------------------

    async def _read_cold(self, outcome: Pass, epochs_needed: list[PartitionLog]) -> None:
        if epochs_needed:
            try:
                for log in epochs_needed:
                    await epoch_history(log)
            except StreamError as error:
                self.services.log_sparingly(
                    logging.WARNING, "the epochs of a log cannot be loaded", {"reason": str(error)}
                )
            unknown: list[PartitionLog] = []
            outcome = self._look(unknown)
            for answer in outcome.answers:
                if answer.log in unknown:
                    answer.error = ErrorCode.KAFKA_STORAGE_ERROR  # the metadata is away: retriable
        left = self.max_bytes - outcome.size
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
        version = self.header.api_version
        topics = self.standing.answer(
            outcome.answers, version, incremental=self.incremental, read_committed=self.read_committed
        )
        counters = self.services.counters
        counters.fetched_bytes += outcome.size
        reply = self.reply
        counters.fetch_seconds.observe(reply.connection.loop.time() - reply.started_at)
        reply.send(
            encode_fetch_response(
                version, self.header.correlation_id, 0, ErrorCode.NONE, self.standing.session_id, topics
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
    standing: StandingFetch | ErrorCode | None
    standing = services.fetch_sessions.session_of(request, version, services.clock.now_ms())
    if isinstance(standing, ErrorCode):
        reply.send(encode_fetch_response(version, header.correlation_id, 0, standing, NO_SESSION, ()))
        return
    if standing is None:
        full = connection.standing
        if full is None:
            full = connection.standing = FullFetch()
        full.ask(version, request)
        standing = full
    FetchOperation(services, header, request, standing, reply).start()


def _refuse_replica(version: int, correlation_id: int, request: FetchRequest, reply: Reply) -> None:
    """No broker copies from another here: as for any broker that is not in a partition's replica set."""
    error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    topics: list[ResponseTopic] = []
    for name, topic_id, rows in request.topics:
        indexes = [unpack_partition(version, row)[0] for row in rows]
        topics.append((name, topic_id, [(index, error, -1, -1, -1, None, -1, (), None, None) for index in indexes]))
    reply.send(encode_fetch_response(version, correlation_id, 0, ErrorCode.NONE, NO_SESSION, topics))
