"""From a frame to the handler that serves it.

Produce and Fetch run at once, on the spot; everything else becomes the connection's one task, as Kafka works on one
request per connection at a time.
"""

from __future__ import annotations

from broker.handlers import api_versions, fetch, produce
from broker.handlers.table import HANDLERS, Handler
from broker.net.connection import Connection
from broker.request import Request
from broker.services import Services
from protocol.apis import SERVED
from protocol.errors import MalformedRequest
from protocol.headers import NOT_SERVED, RequestHeader, frame_prefix, parse_request_header
from protocol.messages import decode_request, encode_response

_PRODUCE, _FETCH, _API_VERSIONS = 0, 1, 18


class Dispatcher:
    """Callable: `dispatcher(connection, frame)`; never raises for what a client sent."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._counts = services.counters.requests

    def __call__(self, connection: Connection, frame: memoryview | bytes) -> None:
        try:
            header = parse_request_header(frame if type(frame) is memoryview else memoryview(frame))
            key, _, _, _, body_offset = header
            if body_offset == NOT_SERVED and key != _API_VERSIONS:
                _refuse(connection, header)
                return
            self._counts[key] += 1
            if key == _PRODUCE:
                produce.handle(self._services, connection, header, frame)  # type: ignore[arg-type]
            elif key == _FETCH:
                fetch.handle(self._services, connection, header, frame)
            elif key == _API_VERSIONS:
                connection.open_reply().send((api_versions.answer(header, frame),))
            else:
                self._start_task(connection, header, frame)
        except MalformedRequest as error:
            self._services.counters.request_errors += 1
            connection.refuse(str(error))

    def _start_task(self, connection: Connection, header: RequestHeader, frame: memoryview | bytes) -> None:
        body = decode_request(header.api_key, header.api_version, memoryview(frame), header.body_offset)
        host = connection.peer.rpartition(":")[0]
        request = Request(header.api_key, header.api_version, header.correlation_id, header.client_id, host, body)
        connection.run_held(self._run(connection, HANDLERS[header.api_key], request))

    async def _run(self, connection: Connection, handler: Handler, request: Request) -> None:
        reply = connection.open_reply()
        body = await handler(self._services, request)
        if isinstance(body, bytes):
            reply.send((frame_prefix(request.api_key, request.api_version, request.correlation_id, len(body)), body))
        else:
            reply.send((encode_response(request.api_key, request.api_version, request.correlation_id, body),))


def _refuse(connection: Connection, header: RequestHeader) -> None:
    """An unknown key or version closes the connection, as in Kafka."""
    api = SERVED.get(header.api_key)
    if api is None:
        connection.refuse(f"API key {header.api_key} is not served")
        return
    versions = f"versions {api.served_from} to {api.max_version} are served"
    connection.refuse(f"{api.name} version {header.api_version}: {versions}")
