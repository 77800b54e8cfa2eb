"""Produce requests that cannot take effect at once: a log must be loaded first, or there is no room."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from broker.handlers.produce import begin, plan_of, refuse_all
from broker.partitions.loading import load_producers
from protocol.errors import ErrorCode
from protocol.headers import RequestHeader
from protocol.produce import ProduceRequest
from s3stream.errors import StreamError

if TYPE_CHECKING:
    from broker.net.connection import Connection
    from broker.services import Services


async def begin_later(
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
