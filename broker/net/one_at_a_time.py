"""Requests that may wait: each becomes the one task of its connection, as Kafka works on one request per connection at
a time."""

from __future__ import annotations

from broker.handlers.table import HANDLERS, Handler
from broker.net.connection import Connection
from broker.request import Request
from broker.services import Services
from protocol.headers import RequestHeader, frame_prefix
from protocol.messages import decode_request, encode_response


def start_task(services: Services, connection: Connection, header: RequestHeader, frame: memoryview | bytes) -> None:
    """Decode the request and let its handler run; the answer leaves when it ends. Raises MalformedRequest."""
    body = decode_request(header.api_key, header.api_version, memoryview(frame), header.body_offset)
    host = connection.peer.rpartition(":")[0]
    request = Request(header.api_key, header.api_version, header.correlation_id, header.client_id, host, body)
    connection.run_held(_run(services, connection, HANDLERS[header.api_key], request))


async def _run(services: Services, connection: Connection, handler: Handler, request: Request) -> None:
    reply = connection.open_reply()
    body = await handler(services, request)
    if isinstance(body, bytes):
        reply.send((frame_prefix(request.api_key, request.api_version, request.correlation_id, len(body)), body))
    else:
        reply.send((encode_response(request.api_key, request.api_version, request.correlation_id, body),))
