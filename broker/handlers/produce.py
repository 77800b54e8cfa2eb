"""Produce (key 0), versions 3 to 13 (0 to 2 are advertised for old librdkafka and answered with UNSUPPORTED_VERSION).

Behaviour: acks 0, 1 and all; 1 and all both wait for the WAL. Effects in arrival order, answers in arrival order, many
in flight per connection, no task or future on this path. Idempotent producers (KIP-98); topic ids from version 13
(KIP-516); error messages from version 8 (KIP-467).
When the WAL or the un-uploaded tail is full the request, and with it its connection, waits for room up to the request's
time-out, then is refused with NOT_ENOUGH_REPLICAS: retriable, and nothing was written. So it is with
KAFKA_STORAGE_ERROR when the first batch of a log after a start needs its state and the store does not give it.
Deliberate omissions: transactional batches are refused (INVALID_TXN_STATE) until transactions are served; topics are
never created here (as in Kafka: Metadata creates them).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from broker.handlers.produce_append import begin, plan_of, refuse_all
from broker.partitions.loading import load_producers
from protocol.errors import ErrorCode
from protocol.headers import RequestHeader
from protocol.produce import ProduceRequest, parse_produce_request
from s3stream.errors import StreamError

if TYPE_CHECKING:
    from broker.net.connection import Connection
    from broker.services import Services


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
        counters.produce_held += 1
        connection.run_held(_begin_later(services, connection, header, request, size))
    else:
        begin(services, connection, header, request, plan)


async def _begin_later(
    services: Services,
    connection: Connection,
    header: RequestHeader,
    request: ProduceRequest,
    size: int,
) -> None:
    """Wait for the state of the logs and for room. What stays away until the request's time-out is answered with an
    error that clients retry."""
    error = ErrorCode.KAFKA_STORAGE_ERROR
    try:
        async with asyncio.timeout(max(request.timeout_ms, 1) / 1000):
            while True:
                plan, unready = plan_of(services, request)
                if unready:
                    for log in unready:
                        await load_producers(log)
                elif services.engine.admit(size):
                    break
                elif services.engine.accepting:
                    error = ErrorCode.NOT_ENOUGH_REPLICAS
                    await _room(services, connection)
                else:
                    connection.refuse("the storage engine has stopped")
                    return
    except (TimeoutError, StreamError) as reason:
        if error is ErrorCode.KAFKA_STORAGE_ERROR or isinstance(reason, StreamError):
            error = ErrorCode.KAFKA_STORAGE_ERROR
            why = str(reason) or "not within the request's time-out"
            services.log_sparingly(logging.WARNING, "the state of a log cannot be loaded", {"reason": why})
        refuse_all(services, connection, header, request, error)
        return
    begin(services, connection, header, request, plan)


def _room(services: Services, connection: Connection) -> asyncio.Future[None]:
    """Resolves when the engine has made some room."""
    room: asyncio.Future[None] = connection.loop.create_future()

    def relieved() -> None:
        if not room.done():
            room.set_result(None)

    services.engine.when_relieved(relieved)
    return room
