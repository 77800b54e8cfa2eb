"""Produce (key 0), versions 3 to 13 (0 to 2 are advertised for old librdkafka and answered with UNSUPPORTED_VERSION).

Behaviour: acks 0, 1 and all; 1 and all both wait for the WAL. Effects in arrival order, answers in arrival order, many
in flight per connection, no task or future on this path. Idempotent producers (KIP-98); topic ids from version 13
(KIP-516); error messages from version 8 (KIP-467).
When the WAL or the un-uploaded tail is full the request, and with it its connection, waits for room up to the request's
time-out, then is refused with NOT_ENOUGH_REPLICAS: retriable, and nothing was written. So it is with
KAFKA_STORAGE_ERROR when the first batch of a log after a start needs its state and the store does not give it.
Deliberate omissions: transactional batches are refused (INVALID_TXN_STATE) until transactions are served; topics are
never created here (as in Kafka: Metadata creates them).

Nothing in this module waits, so that it can be compiled; `produce_held.py` has what does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from protocol.errors import ErrorCode
from protocol.headers import RequestHeader
from protocol.produce import (
    ProduceRequest,
    ResponsePartition,
    ResponseTopic,
    accepted_index,
    encode_accepted,
    encode_produce_response,
    parse_produce_request,
)

if TYPE_CHECKING:
    from broker.net.connection import Connection, Reply
    from broker.partitions.log import PartitionLog
    from broker.partitions.topic_logs import TopicLogs
    from broker.services import Services

_ZSTD_FROM_VERSION: Final = 7
_BY_ID_FROM_VERSION: Final = 13

Row: TypeAlias = ResponsePartition | bytes
Plan = list["tuple[str | bytes, TopicLogs | None, list[tuple[int, memoryview | None, PartitionLog | None]]]"]
"""By topic name or id: the topic, and per partition its index, records and log; None where there is none."""
_NO_LOGS: list[PartitionLog | None] = []


class PendingProduce:
    """A request whose batches are appended and not all durable yet."""

    __slots__ = ("counters", "remaining", "reply", "request", "results")

    def __init__(self, services: Services, reply: Reply | None, request: tuple[int, int]) -> None:
        self.counters = services.counters
        self.reply = reply
        self.request = request
        self.results: list[ResponseTopic] = []
        self.remaining = 1  # for `begin`'s own hand

    def durable(self, error: BaseException | None) -> None:
        """One batch less to wait for. An error means that the WAL has failed: the outcome is unknown, so no answer."""
        reply = self.reply
        if error is not None:
            if reply is not None:
                self.reply = None
                reply.connection.refuse(f"the write-ahead log failed: {error}")
            return
        self.remaining -= 1
        if self.remaining == 0 and reply is not None:
            self.reply = None
            self.counters.produce_seconds.observe(reply.connection.loop.time() - reply.started_at)
            version, correlation_id = self.request
            reply.send((encode_produce_response(version, correlation_id, self.results),))

    def expire(self) -> None:
        """The request's own time-out passed before the batches were durable: they may yet become so."""
        reply = self.reply
        if reply is None:
            return
        self.reply = None
        version, correlation_id = self.request
        results = [(name, topic_id, list(map(_timed_out, rows))) for name, topic_id, rows in self.results]
        reply.send((encode_produce_response(version, correlation_id, results),))


def _timed_out(row: Row) -> Row:
    """What was refused stays refused."""
    if not isinstance(row, bytes):
        return row
    return accepted_index(row), ErrorCode.REQUEST_TIMED_OUT, -1, -1, -1, (), None, None


def handle(services: Services, connection: Connection, header: RequestHeader, frame: memoryview) -> None:
    """Append what the frame holds, now or as soon as there is room. Raises MalformedRequest."""
    _, version, _, _, body_offset = header
    request = parse_produce_request(version, frame, body_offset)
    size = len(frame)
    counters = services.counters
    counters.produce_requests += 1
    counters.produced_bytes += size
    plan, unready = plan_of(services, request)
    if unready or not services.engine.admit(size):
        from broker.handlers.produce_held import begin_later  # which needs this module

        counters.produce_held += 1
        connection.run_held(begin_later(services, connection, header, request, size))
    else:
        begin(services, connection, header, request, plan)


def plan_of(services: Services, request: ProduceRequest) -> tuple[Plan, list[PartitionLog]]:
    """Each partition of the request with its log, and the logs among them that must be loaded first."""
    topics = services.partitions.by_key
    plan: Plan = []
    unready: list[PartitionLog] = []
    for key, partitions in request.topics:
        topic = topics.get(key)
        logs = _NO_LOGS if topic is None else topic.logs
        count = len(logs)
        found: list[tuple[int, memoryview | None, PartitionLog | None]] = []
        for index, records in partitions:
            log = logs[index] if 0 <= index < count else None
            if log is not None and log.producers is None:
                unready.append(log)
            found.append((index, records, log))
        plan.append((key, topic, found))
    return plan, unready


def begin(
    services: Services, connection: Connection, header: RequestHeader, request: ProduceRequest, plan: Plan
) -> None:
    """Every batch of the request is appended or refused here, in one turn of the loop.

    The WAL makes batches durable in the order of their appends, so the last one tells of all the request's new ones.
    """
    acks = request.acks
    if acks not in (-1, 0, 1):
        refuse_all(services, connection, header, request, ErrorCode.INVALID_REQUIRED_ACKS)
        return
    version = header.api_version
    by_id = version >= _BY_ID_FROM_VERSION
    zstd_allowed = version >= _ZSTD_FROM_VERSION
    now_ms = services.clock.now_ms()
    reply = connection.open_reply() if acks else None
    pending = PendingProduce(services, reply, (version, header.correlation_id))
    durable = pending.durable
    results = pending.results
    failed = False
    last: PartitionLog | None = None
    for key, topic, partitions in plan:
        rows: list[Row] = []
        for index, records, log in partitions:
            if log is None or topic is None or topic.internal:
                error = _no_log_error(log, by_id and topic is None)
                rows.append((index, error, -1, -1, -1, (), None, None))
                failed = True
                continue
            if not records:
                rows.append(
                    (index, ErrorCode.INVALID_RECORD, -1, -1, -1, (), "the partition has no record batch", None)
                )
                failed = True
                continue
            error, base_offset, append_time_ms, start_offset, message, original_end = log.append(
                records, None, now_ms, zstd_allowed
            )
            if error:
                failed = True
                if error == ErrorCode.INVALID_TXN_STATE and request.transactional_id is None:
                    error = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                rows.append((index, error, -1, -1, start_offset, (), message, None))
                continue
            if original_end < 0:
                last = log
            else:
                pending.remaining += 1
                log.stream.when_durable(original_end, durable)
            rows.append(encode_accepted(version, index, base_offset, append_time_ms, start_offset))
        if rows:
            results.append(_topic(key, rows))
    if last is not None and reply is not None:
        pending.remaining += 1
        last.stream.after_last(durable)
    if failed:
        services.counters.produce_errors += 1
        if reply is None:
            connection.refuse("a produce request with acks=0 failed; closing tells the client, as Kafka does")
            return
    if reply is not None:
        reply.deadline = reply.started_at + max(request.timeout_ms, 1) / 1000
        reply.overdue = pending
    durable(None)


def _topic(key: str | bytes, rows: list[Row]) -> ResponseTopic:
    """By the name or the id that the request had."""
    return (None, key, rows) if isinstance(key, bytes) else (key, None, rows)


def _no_log_error(log: PartitionLog | None, unknown_id: bool) -> ErrorCode:
    if log is not None:
        return ErrorCode.INVALID_TOPIC_EXCEPTION  # an internal topic: written by the broker alone
    return ErrorCode.UNKNOWN_TOPIC_ID if unknown_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def refuse_all(
    services: Services, connection: Connection, header: RequestHeader, request: ProduceRequest, error: ErrorCode
) -> None:
    """Answer each partition with `error`; without acks the connection closes."""
    services.counters.produce_errors += 1
    if request.acks == 0:
        connection.refuse(f"a produce request with acks=0 failed: {error.name}")
        return
    results: list[ResponseTopic] = []
    for key, partitions in request.topics:
        rows: list[Row] = [(index, error, -1, -1, -1, (), None, None) for index, _ in partitions]
        results.append(_topic(key, rows))
    connection.open_reply().send((encode_produce_response(header.api_version, header.correlation_id, results),))
