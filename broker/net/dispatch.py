"""From a frame to the handler that serves it.

Produce and Fetch run at once, on the spot; everything else becomes the connection's one task (`one_at_a_time.py`).
"""

from __future__ import annotations

from broker.handlers import api_versions, fetch, produce
from broker.net.connection import Connection
from broker.net.one_at_a_time import start_task
from broker.services import Services
from protocol.apis import SERVED
from protocol.errors import MalformedRequest
from protocol.headers import NOT_SERVED, RequestHeader, parse_request_header

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
                start_task(self._services, connection, header, frame)
        except MalformedRequest as error:
            self._services.counters.request_errors += 1
            connection.refuse(str(error))


def _refuse(connection: Connection, header: RequestHeader) -> None:
    """An unknown key or version closes the connection, as in Kafka."""
    api = SERVED.get(header.api_key)
    if api is None:
        connection.refuse(f"API key {header.api_key} is not served")
        return
    versions = f"versions {api.served_from} to {api.max_version} are served"
    connection.refuse(f"{api.name} version {header.api_version}: {versions}")
